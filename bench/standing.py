"""Standing questions over whole days: ten of them on drawn streets, through the daemon's gate, engine and watchman.

    python bench/standing.py [--checkpoint tiny|DIR] [--streams 2] [--hours 24] [--processes 2] [--quick] [--out FILE]

A frame is drawn for every second of the day and goes where a camera's would go; nothing is skipped but the waiting.
Truth is the street's own: when a thing is at least half in view, when the gate stands open, and so on. What nobody can
say (a sliver of a thing, colours in infrared, what is shorter than the debounce) counts neither way. Of each question:

    recall      of the times it was so, those that an event tells of
    precision   of the events, those that tell of such a time
    delay       median, from the first grabbed frame in which it was so to being told; `limit`: a frame and the debounce
    false/day   events of nothing, a day

The last line is JSON: {"bench", "hours", "streams", "questions": {name: {..}}, "all": {..}}.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from where import commit, date, machine

from daemon.core import build
from daemon.settings import Settings, parse
from daemon.watch.spec import WatchSpec
from daemon.watch.trial import Found, Trial, score
from stream import gate
from stream.train.script import Style
from stream.train.truth import SEEN, SLIVER
from stream.train.world import Street
from stream.types import Frame

SEED = 3_000_000  # far from every seed of training, and from that of the streams on which thresholds were tried
FPS = 1.0
DAY_S = 86_400.0
GATE: list[dict[str, dict[str, float]]] = [{"stride": {"fps": FPS}}, {"still": {}}]  # the daemon's default
STYLES: tuple[dict[str, Any], ...] = (  # streams take turns
    {"pause_s": 90.0, "parcels": 0.1, "weather": False},
    {"pause_s": 45.0, "parcels": 0.05, "weather": False, "faults": True},
)
Fact = Callable[[Street, float], bool | None]  # whether it is so at a second; None: nobody can say


@dataclass(frozen=True, slots=True)
class Watched:
    """A standing question and what it is about."""

    spec: WatchSpec
    fact: Fact


def there(kind: str, colour: str = "") -> Fact:
    """Whether such a thing is at least half in view."""

    def fact(street: Street, at_s: float) -> bool | None:
        share, unsure = 0.0, False
        for event, visible in street.at(at_s):
            if event.thing.kind != kind:
                continue
            if colour and not street.coloured(at_s):
                unsure = True
            elif not colour or event.thing.colour == colour:
                share = max(share, visible)
        return None if unsure or SLIVER < share < SEEN else share >= SEEN

    return fact


def lies(street: Street, at_s: float) -> bool | None:
    """Whether a parcel lies there, in nobody's hands."""
    parcels = [event for event, _ in street.at(at_s) if event.carriers]
    if not parcels:
        return False
    return True if any(event.halt[0] <= at_s <= event.halt[1] for event in parcels) else None


def stands(kind: str, state: str) -> Fact:
    """Whether the fixture is in `state`."""
    return lambda street, at_s: next(item for item in street.fixtures if item.kind == kind).state(at_s) == state


def dark(street: Street, at_s: float) -> bool | None:
    """Whether it is night."""
    light = street.light(at_s)
    return None if light == "dusk" else light != "day"


def black(street: Street, at_s: float) -> bool:
    """Whether the picture is black: somebody holds the lens shut."""
    return street.fault(at_s) == "black"


def at(on_above: float, off_below: float) -> dict[str, float]:
    """Thresholds."""
    return {"on_above": on_above, "off_below": off_below}


def _watched(question: str, fact: Fact, **how: Any) -> Watched:
    return Watched(WatchSpec.model_validate({"question": question, **how}), fact)


WATCHED: dict[str, Watched] = {  # thresholds as anybody would find them: tried on four hours each of two other streams
    "gate_long": _watched("is the gate open?", stands("gate", "open"), for_s=300, debounce_s=3, **at(0.6, 0.4)),
    "light_red": _watched("is the traffic light red?", stands("light", "red"), debounce_s=3, **at(0.6, 0.4)),
    "night": _watched("is it night?", dark, debounce_s=60, **at(0.8, 0.4)),
    "covered": _watched("is the picture black?", black, debounce_s=3, **at(0.6, 0.4)),
    "parcel": _watched("has somebody left a parcel?", lies, debounce_s=3, **at(0.98, 0.4)),
    "person": _watched("is a person in view?", there("person"), debounce_s=3, **at(0.8, 0.4)),
    "car": _watched("is there a car right now?", there("car"), debounce_s=1, **at(0.8, 0.4)),
    "red_cars": _watched("is there a red car?", there("car", "red"), kind="count", debounce_s=1, **at(0.9, 0.3)),
    "dog": _watched("can you see a dog?", there("dog"), debounce_s=1, **at(0.95, 0.3)),
    "bus": _watched("is a bus visible?", there("bus"), debounce_s=2, **at(0.9, 0.3)),
}


@dataclass(frozen=True, slots=True)
class Day:
    """What one stream said, and what was so: of every question the transitions, the true and the unsure spans."""

    seconds: float
    grabbed: int
    absorbed: int
    took_s: float
    found: dict[str, list[Found]]
    spans: dict[str, list[tuple[float, float]]]
    unsure: dict[str, list[tuple[float, float]]]


def settings(checkpoint: str) -> Settings:
    """The daemon's defaults."""
    return parse({"cameras": {"street": {"url": "rtsp://127.0.0.1/street"}}, "model": {"path": checkpoint}}, "bench")


def grabbed(street: Street, px: int) -> Iterator[Frame]:
    """A frame for every second in which the camera sends."""
    for index, at_s in enumerate(np.arange(0.5, street.seconds, 1.0 / FPS).tolist()):
        if street.fault(at_s) != "gap":
            yield Frame("street", index, 0, at_s, at_s, street.render(at_s, px, px))


def sampled(street: Street, at_s: float) -> dict[str, bool | None]:
    """What is so of everything that is asked, as the picture at `at_s` shows it."""
    fault = street.fault(at_s)
    if fault == "frozen":
        return dict.fromkeys(WATCHED)
    if fault == "black":
        return {name: name == "covered" for name in WATCHED}
    return {name: item.fact(street, at_s) for name, item in WATCHED.items()}


def spans(times_s: Sequence[float], so: Sequence[bool | None], value: bool | None) -> list[tuple[float, float]]:
    """The stretches of grabbed frames in which `so` is `value`."""
    found: list[tuple[float, float]] = []
    before = False
    for at_s, item in zip(times_s, so, strict=True):
        if item is value:
            found = [*found[:-1], (found[-1][0], at_s)] if before else [*found, (at_s, at_s)]
        before = item is value
    return found


def expected(
    spec: WatchSpec, times_s: Sequence[float], so: Sequence[bool | None]
) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """When an event is due, and when nobody can say: gaps below the debounce join, what is shorter is neither."""
    joined: list[tuple[float, float]] = []
    for first_s, last_s in spans(times_s, so, True):
        if joined and first_s - joined[-1][1] <= spec.debounce_s + 1 / FPS:
            joined[-1] = (joined[-1][0], last_s)
        else:
            joined.append((first_s, last_s))
    least_s = max(spec.debounce_s, spec.for_s)
    due = [(first_s + spec.for_s, last_s) for first_s, last_s in joined if last_s - first_s > least_s + 1 / FPS]
    short = [span for span in joined if span[1] - span[0] <= least_s + 1 / FPS]
    return due, sorted(short + spans(times_s, so, None))


def live(checkpoint: str, number: int, hours: float, threads: int) -> Day:
    """One stream, from its first second to its last."""
    torch.set_num_threads(threads)
    own = settings(checkpoint)
    core = build(own.model_copy(update={"model": own.model.model_copy(update={"threads": threads})}))
    fixtures = {"fixtures": ("gate", "light", "sign")}
    street = Street(SEED + number, hours * 3600, Style(**STYLES[number % len(STYLES)], **fixtures))
    trial = Trial(core, own, {name: item.spec for name, item in WATCHED.items()})
    judge = gate.make(GATE).judge
    found: dict[str, list[Found]] = {name: [] for name in WATCHED}
    times_s: list[float] = []
    so: dict[str, list[bool | None]] = {name: [] for name in WATCHED}
    absorbed, began_s = 0, time.monotonic()
    bar = tqdm(total=int(street.seconds * FPS), desc=f"stream {number}", unit=" s", position=number % 2, disable=None)
    with bar:
        for frame in grabbed(street, core.model.geometry.image_px):
            verdict = judge(frame)
            kept = replace(frame, score=verdict.score) if verdict.keep else None
            absorbed += verdict.keep
            for item in trial.play(kept, frame.wall_s):
                found[item.name].append(item)
            times_s.append(frame.wall_s)
            for name, value in sampled(street, frame.wall_s).items():
                so[name].append(value)
            bar.update()
    for item in trial.end():
        found[item.name].append(item)
    due = {name: expected(item.spec, times_s, so[name]) for name, item in WATCHED.items()}
    return Day(
        seconds=street.seconds,
        grabbed=len(times_s),
        absorbed=absorbed,
        took_s=time.monotonic() - began_s,
        found=found,
        spans={name: own_spans for name, (own_spans, _) in due.items()},
        unsure={name: own_spans for name, (_, own_spans) in due.items()},
    )


def summed(name: str, days: Sequence[Day]) -> dict[str, Any]:
    """One question over all streams."""
    spec = WATCHED[name].spec
    told = right = hit = due = false = 0
    delays: list[float] = []
    for day in days:
        own = score(day.found[name], day.spans[name], day.seconds, day.unsure[name])
        told, due = told + own.events, due + own.spans
        right += round((own.precision or 0.0) * own.events)
        hit += round((own.recall or 0.0) * own.spans)
        false += own.events - round((own.precision or 0.0) * own.events)
        delays += late(day.found[name], day.spans[name])
    days_n = sum(day.seconds for day in days) / DAY_S
    return {
        "due": due,
        "told": told,
        "recall": round(hit / due, 4) if due else None,
        "precision": round(right / told, 4) if told else None,
        "delay_s": round(median(delays), 2) if delays else None,
        "limit_s": 1 / FPS + spec.debounce_s,
        "false_per_day": round(false / days_n, 2),
    }


def late(found: Sequence[Found], due: Sequence[tuple[float, float]]) -> list[float]:
    """From when an event was due to when it was told, of those told after that."""
    news = [item.told_s for item in found if item.type == "new"]
    delays = []
    for first_s, last_s in due:
        told = [told_s for told_s in news if first_s <= told_s <= last_s + 2.0]
        if told:
            delays.append(min(told) - first_s)
    return delays


def show(rows: Mapping[str, Mapping[str, Any]]) -> None:
    """The table."""
    print(
        f"{'question':<12}{'due':>6}{'told':>6}{'recall':>8}{'precision':>11}{'delay':>8}{'limit':>7}{'false/day':>11}"
    )
    for name, row in rows.items():
        share = {key: "-" if row[key] is None else f"{100 * row[key]:.1f}%" for key in ("recall", "precision")}
        delay = "-" if row["delay_s"] is None else f"{row['delay_s']:.1f} s"
        print(
            f"{name:<12}{row['due']:>6}{row['told']:>6}{share['recall']:>8}{share['precision']:>11}{delay:>8}"
            f"{row['limit_s']:>5.0f} s{row['false_per_day']:>11.2f}"
        )


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="tiny")
    parser.add_argument("--streams", type=int, default=2)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="one stream of an hour")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    streams, hours = (1, 1.0) if args.quick else (args.streams, args.hours)
    threads = max(1, (os.cpu_count() or 2) // args.processes)
    with ProcessPoolExecutor(args.processes) as pool:
        jobs = [pool.submit(live, args.checkpoint, number, hours, threads) for number in range(streams)]
        days = [job.result() for job in jobs]
    rows = {name: summed(name, days) for name in WATCHED}
    due, told = sum(row["due"] for row in rows.values()), sum(row["told"] for row in rows.values())
    hit = sum(row["due"] * (row["recall"] or 0.0) for row in rows.values())
    right = sum(row["told"] * (row["precision"] or 0.0) for row in rows.values())
    over = {"recall": round(hit / due, 4), "precision": round(right / told, 4) if told else None}
    show(rows)
    print(f"\nall: recall {over['recall']:.3f}, precision {over['precision']}, {streams} streams of {hours:g} h,")
    print(f"{sum(day.absorbed for day in days)} of {sum(day.grabbed for day in days)} frames absorbed")
    result = {
        "bench": "standing",
        "date": date(),
        "commit": commit(),
        "machine": machine(),
        "checkpoint": args.checkpoint,
        "hours": hours,
        "streams": streams,
        "questions": rows,
        "all": over,
        "took_s": [round(day.took_s) for day in days],
    }
    line = json.dumps(result)
    if args.out:
        args.out.write_text(line + "\n", encoding="utf-8")
    print(line)


if __name__ == "__main__":
    main()
