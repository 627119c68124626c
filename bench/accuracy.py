"""Watchbench: how well is a street remembered? Fresh streets through the real gate and banks, asked on their way.

    python bench/accuracy.py [--checkpoint tiny|DIR] [--quick] [--plot curve.svg] [--out FILE]

Columns are families of questions: now; needle, order, before or after, count, how long, when and how things stood then,
all about the past; the state of one thing asked again and again; absence, things never shown; distractors, whose wrong
answers were right at another time; faults, a black picture; adversarial, streams made to fool an eviction; standing
questions and interference (`probes.py`). Rows are systems at the same number of carriers (`systems.py`). Below them the
same by age of the evidence, by family while the evidence is still held, and by family where it is older than 30 s.
Streams are described in `streams.py`, what the daemon says of a broken camera in `outages.py`.

The last line is JSON: {"bench", "n", "systems": {name: {family: accuracy, "all", "age_5s" .. "age_1h", "held_FAMILY",
"old_FAMILY", "standing", "interference"}}, "absence_false_positive", "seen_not_seen", "phrasing_consistency", ..}.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import outages
import torch
from probes import Extent, Findings, Record, Rig, Vigil, play
from streams import AGES, BACKWARD, FAMILIES, FULL, QUICK, Balance, Plan, Stream, draw, questions
from systems import every, once
from tqdm import tqdm
from where import commit, date, machine

from daemon import logs
from daemon.core import build
from daemon.settings import parse
from stream.errors import LongwatchError

OLD_S = 30.0
DEFAULT = "daemon"  # whose honesty is printed
EXTENTS = {
    False: Extent(FULL, standing={"busy": 10, "minutes": 3}, interference=6, phrasings=2),
    True: Extent(QUICK, standing={"busy": 2}, interference=1, phrasings=1),
}
SHORT = {"before_after": "bef/aft", "distractor": "distract", "adversarial": "advers", "interference": "interf"}
DIGITS = 4  # of every share in the JSON
COLOURS = ("blue", "orange", "green", "red", "purple", "brown", "pink", "gray", "olive", "cyan")  # of the plot


# -- numbers -----------------------------------------------------------------------------------------------------------


def mean(values: Sequence[float | bool]) -> float:
    """Of at least one value."""
    return round(sum(values) / len(values), DIGITS)


def cells(records: Sequence[Record]) -> dict[str, list[bool]]:
    """One system's answers, right or not, by everything that they count for."""
    found: dict[str, list[bool]] = defaultdict(list)
    for record in records:
        asked = record.asked
        found["all"].append(record.right)
        for column in asked.columns:
            found[column].append(record.right)
            if not asked.age:
                continue
            if record.held:
                found[f"held_{column}"].append(record.right)
            if asked.question.age_s > OLD_S:
                found[f"old_{column}"].append(record.right)
        if asked.age and "adversarial" not in asked.columns:
            found[asked.age].append(record.right)
            if record.held:
                found["held"].append(record.right)
    return found


def by_system(records: Sequence[Record]) -> dict[str, list[Record]]:
    """In the order in which systems first appear."""
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(record.system, []).append(record)
    return found


def attention(vigil: Vigil) -> dict[str, float]:
    """A standing question's score, and how much it bothered, an hour."""
    hours = max(vigil.hours, 1e-9)
    return {
        "score": mean(vigil.scores) if vigil.scores else 0.0,
        "n": len(vigil.scores),
        "hours": round(vigil.hours, 2),
        "duplicates_per_hour": round(vigil.duplicates / hours, 2),
        "false_alarms_per_hour": round(vigil.false_alarms / hours, 2),
    }


def honesty(records: Sequence[Record]) -> dict[str, float]:
    """How often what was never shown is made up, and how often what was shown is denied."""
    unseen = [not record.denied for record in records if record.unseen]
    seen = [(record.denied, record.held) for record in records if record.seen]
    found = {"absence_false_positive": mean(unseen)} if unseen else {}
    found |= {"seen_not_seen": mean([denied for denied, _ in seen])} if seen else {}
    held = [denied for denied, known in seen if known]
    return found | ({"seen_not_seen_held": mean(held)} if held else {})


def summary(found: Findings) -> dict[str, Any]:
    """All shares, by system and over all."""
    systems: dict[str, dict[str, float]] = {}
    counts: dict[str, int] = {}
    for name, records in by_system(found.records).items():
        own = cells(records)
        systems[name] = {column: mean(values) for column, values in sorted(own.items())}
        counts |= {column: max(len(values), counts.get(column, 0)) for column, values in own.items()}
    for name, vigil in found.vigils.items():
        if name in systems:
            systems[name]["standing"] = attention(vigil)["score"]
    for name, same in found.untouched.items():
        systems[name]["interference"] = mean(same)
    worded = [same for question in found.worded for same in question]
    whole = DEFAULT if DEFAULT in systems else "hybrid"
    return {
        "n": counts.get("all", 0),
        "counts": dict(sorted(counts.items())),
        "systems": systems,
        **honesty(by_system(found.records).get(whole, [])),
        "honesty_of": whole,
        "bank_alone": honesty(by_system(found.records).get("hybrid", [])),
        "phrasing_consistency": mean(worded) if worded else None,
        "phrasing_all_ten": mean([all(question) for question in found.worded]) if found.worded else None,
        "standing": {name: attention(vigil) for name, vigil in found.vigils.items()},
    }


# -- paper -------------------------------------------------------------------------------------------------------------


def show(result: Mapping[str, Any]) -> None:
    """Print all tables."""
    asked = result["counts"]
    wide = [column for column in (*FAMILIES, "standing", "interference") if any(column in row for row in rows(result))]
    table(result, "accuracy in %", [*wide, "all"], {**asked, "standing": "", "interference": ""})
    table(result, "by age of the evidence, families about the past", [name for name, _, _ in AGES] + ["held"], asked)
    past = [
        name for name in (*BACKWARD, "distractor", "adversarial") if any(f"held_{name}" in row for row in rows(result))
    ]
    table(result, "while the evidence is held", [f"held_{name}" for name in past], {})
    table(result, f"evidence older than {OLD_S:.0f} s", [f"old_{name}" for name in past], asked)
    vigil = result["standing"].get("hybrid")
    if vigil:
        print(
            f"standing, hybrid: score {100 * vigil['score']:.1f} of {vigil['n']}, {vigil['duplicates_per_hour']:g} said"
            f" twice and {vigil['false_alarms_per_hour']:g} false alarms an hour, in {vigil['hours']:g} h"
        )
    for name in (
        "absence_false_positive",
        "seen_not_seen",
        "seen_not_seen_held",
        "phrasing_consistency",
        "phrasing_all_ten",
    ):
        if result.get(name) is not None:
            whose = "hybrid" if name.startswith("phrasing") else result["honesty_of"]
            print(f"{name} ({whose}): {100 * result[name]:.1f} %")
    told = ", ".join(f"{item['named']} of {item['faults']} {kind}" for kind, item in result["outages"].items())
    print(f"camera faults named by the daemon, ends within 2 s: {told}; gaps that were none: {result['invented_gaps']}")
    kept = ", ".join(f"{kind} {item['kept']} of {item['grabbed']}" for kind, item in result["frames"].items())
    print(f"frames that the gate kept: {kept}")


def rows(result: Mapping[str, Any]) -> list[dict[str, float]]:
    """The systems' shares."""
    return list(result["systems"].values())


def table(result: Mapping[str, Any], title: str, columns: Sequence[str], asked: Mapping[str, Any]) -> None:
    """One table, in %; the first row says how many questions."""
    heads = [SHORT.get(bare, bare) for bare in (name.removeprefix("held_").removeprefix("old_") for name in columns)]
    widths = [max(7, len(head) + 2) for head in heads]
    print(f"\n{title}")
    print(f"{'':10}" + "".join(f"{head:>{width}}" for head, width in zip(heads, widths, strict=True)))
    if asked:
        numbers = (asked.get(name, 0) for name in columns)
        print(
            f"{'questions':10}" + "".join(f"{number:>{width}}" for number, width in zip(numbers, widths, strict=True))
        )
    for name, shares in result["systems"].items():
        values = (f"{100 * shares[column]:.1f}" if column in shares else "-" for column in columns)
        print(f"{name:10}" + "".join(f"{value:>{width}}" for value, width in zip(values, widths, strict=True)))


def plot(result: Mapping[str, Any], picture: Path) -> None:
    """Draw the forgetting curve into `picture` (PNG or SVG by its name). Needs the extra `train` (matplotlib)."""
    from matplotlib.figure import Figure  # imported here: nothing else needs it

    ages = [name for name, _, _ in AGES]
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    axes.set_prop_cycle(color=[f"tab:{name}" for name in COLOURS] + ["black", "navy", "gold", "lime"])
    for name, shares in result["systems"].items():
        known = [(place, 100 * shares[age]) for place, age in enumerate(ages) if age in shares]
        bold = name in ("hybrid", "daemon", "window4", "full", "oracle")
        places, values = [place for place, _ in known], [value for _, value in known]
        axes.plot(places, values, label=name, marker="o", linewidth=2.0 if bold else 0.8)
    axes.set_xticks(range(len(ages)), [age.removeprefix("age_") for age in ages])
    axes.set(
        xlabel="age of the evidence",
        ylabel="right, %",
        ylim=(0, 100),
        title=f"{result['model']}, {result['bank']} carriers",
    )
    axes.legend(fontsize=8, ncols=2)
    figure.savefig(picture)


# -- all of it ---------------------------------------------------------------------------------------------------------


def scaled(extent: Extent, streams: int | None) -> Extent:
    """`extent` with `streams` streams in all; at least one of each kind."""
    if streams is None:
        return extent
    share = streams / sum(plan.streams for plan in extent.plans)
    return replace(
        extent, plans=tuple(replace(plan, streams=max(1, round(plan.streams * share))) for plan in extent.plans)
    )


def work(plans: Sequence[Plan]) -> list[tuple[Plan, int]]:
    """Every stream of every plan."""
    return [(plan, number) for plan in plans for number in range(plan.streams)]


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Everything but the printing. Raises LongwatchError."""
    raw = {"cameras": {"street": {"url": "file"}}, "model": {"path": args.checkpoint, "weights": args.weights}}
    core = build(parse({**raw, "memory": {"carriers": args.bank}}, "--bank"))
    torch.set_num_threads(args.threads)
    extent = scaled(EXTENTS[args.quick], args.streams)
    only = (*args.systems, *(f"detail{k}" for k in args.detail)) if args.systems else ()
    folder = TemporaryDirectory(prefix="watchbench-")
    rig = Rig(once(core), core.policy.budget.carriers, tuple(args.detail), only, Path(folder.name))
    found, balance, began_s = Findings(), Balance(), time.monotonic()
    frames: dict[str, Counter[str]] = defaultdict(Counter)
    broken: list[Stream] = []
    for plan, number in tqdm(work(extent.plans), desc="streams", file=sys.stderr):
        stream = draw(plan.kind, number, core.model.geometry.image_px)
        frames[plan.kind].update(kept=len(stream.frames), grabbed=stream.grabbed)
        broken += [stream] if stream.street.faults else []
        play(rig, stream, questions(stream, plan, balance), extent, found)
    folder.cleanup()
    named, invented = outages.tally([stream.street for stream in broken])
    return {
        "bench": "accuracy",
        **summary(found),
        "outages": {kind: {"faults": item.faults, "named": item.named} for kind, item in named.items()},
        "invented_gaps": invented,
        "frames": {kind: dict(count) for kind, count in frames.items()},
        "streams": {plan.kind: plan.streams for plan in extent.plans},
        "bank": rig.budget,
        "seconds": round(time.monotonic() - began_s, 1),
        "model": core.model.geometry.name,
        "weights": args.weights,
        "machine": machine(),
        "commit": commit(),
        "date": date(),
    }


def main(words: Sequence[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="tiny", help="`tiny`, a directory or a hub id")
    parser.add_argument("--weights", default="native", help="of the language model: native, float16, int8")
    parser.add_argument("--bank", type=int, help="carriers of every system; default: the checkpoint's own, else 128")
    parser.add_argument(
        "--detail", type=int, nargs="*", default=[], metavar="K", help="further hybrids, K frames in full"
    )
    parser.add_argument("--systems", nargs="*", choices=every(), default=[], help="these only; default: all")
    parser.add_argument("--streams", type=int, help="streams in all; default: 76, quick: 9")
    parser.add_argument("--quick", action="store_true", help="a few streams, a minute")
    parser.add_argument("--threads", type=int, default=1, help="of torch; small batches gain little from more")
    parser.add_argument("--plot", type=Path, help="draw the forgetting curve here (.png, .svg)")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    args = parser.parse_args(words)
    control = logs.setup("error")
    try:
        result = run(args)
    except LongwatchError as error:
        sys.exit(f"accuracy: {error}")
    finally:
        control.close()
    print(f"{result['n']} questions, {result['model']}, {result['bank']} carriers, {result['seconds']:.0f} s")
    show(result)
    if args.plot:
        plot(result, args.plot)
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
