"""Every method of every stage at equal budgets: what it costs and what it loses, beside the plain choices.

    python bench/methods.py [--stage S] [--quick] [--checkpoint tiny|DIR] [--processes N] [--out FILE] [--plot FILE]

Rows and budgets are those of `methods_rows.py`. Two measurements meet in a row:

    play   the shipped model over streams of watchbench (`streams.py`), the same questions for all rows of a stage:
           accuracy, tokens and bytes that are left, cosine of fixed questions' last hidden state to the unreduced
           run; the same cosine on real clips, and what gates keep of these (`methods_play.py`, `methods_gate.py`)
    cost   milliseconds of processor time at the stage, on the shipped model and on random weights of the 0.5B
           geometry with its own budgets (`methods_cost.py`; not with --quick)

Gates get every frame of a street, all others what the daemon's gate keeps of it. `gain` is how many points of accuracy
a row is above the plain choice of its stage at the same budget (`uniform`, of gates `stride`), with its 95 % interval
over the same questions; they are taken as independent of each other, which questions about one street are not quite.
The picture is accuracy over cost, one dot a row. The last line is JSON; `--report` writes it as a page.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import queue
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from methods_cost import Costs, Measured, measured, pictures
from methods_gate import Clip, clips, on_clips, street, tuned_gates, tuned_towers
from methods_page import page, plot, show
from methods_play import Known, Result, kind, play
from methods_result import summary
from methods_rows import BUDGETS, STAGES, Row, every, prepared
from methods_rules import play_rules
from probes import meant
from streams import Asked, Balance, Plan, Stream, draw, questions
from systems import Watch, answer, once
from tqdm import tqdm
from where import commit, date, machine

from daemon import logs
from daemon.core import Core, build
from daemon.settings import parse
from stream.errors import LongwatchError
from stream.model import Model
from stream.train.questions import right

BESIDE = ("blind", "window4", "uniform", "full")  # taken once, on the streams that most stages share
BRIEF = (Plan("busy", 6, 4, 14),)
LONG = (Plan("minutes", 2, 4, 12),)
PLANS = {  # streams by stage; those that look far back have longer ones as well
    **dict.fromkeys(("tower", "reduce", "carrier", "prefill", "focus", "rules"), BRIEF),
    **dict.fromkeys(("gate", "retain", "recall"), BRIEF + LONG),
}
QUICK = (Plan("busy", 1, 1, 6),)
QUICK_BUDGETS = 1  # of a stage
CLIPS = 6  # the shortest, for the cosine; gates get all
FRAMES = {"tiny": 8, "0.5b": 2}  # pictures that costs are measured on
GEOMETRIES = ("0.5b", "tiny")
PATIENCE_S = 5.0  # between two looks whether the workers are alive

Unit = tuple[str, str, int | str]  # what is measured, the stage, and the number of a stream or a geometry
Show = tuple[Stream, Mapping[int, Sequence[Asked]]]


@dataclass
class Rig:
    """What all units work on: made once, and shared by the processes that are forked from it."""

    core: Core
    model: Model
    rows: dict[str, list[Row]]  # by stage, of the shipped model
    cores: dict[str, Core]
    shows: dict[str, list[Show]]  # by stage
    clips: list[Clip]
    failed: dict[str, str]
    tuned: dict[str, dict[str, dict[str, Any]]]
    costs: dict[str, Costs] = field(default_factory=dict)


@dataclass(slots=True)
class Found:
    """What one unit gave."""

    unit: Unit
    played: Result | None = None
    costs: dict[str, Measured] = field(default_factory=dict)
    gates: dict[str, dict[str, float]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


# -- preparing ---------------------------------------------------------------------------------------------------------


def streams(stages: Sequence[str], px: int, most: int | None, *, quick: bool) -> dict[str, list[Show]]:
    """Streams and questions of every stage, at most so many of a kind; stages with the same plans share them."""
    made: dict[tuple[Any, ...], list[Show]] = {}
    found: dict[str, list[Show]] = {}
    for stage in stages:
        plans, bare = (QUICK if quick else PLANS[stage]), stage == "gate"
        plans = tuple(replace(plan, streams=min(plan.streams, most or plan.streams)) for plan in plans)
        if (plans, bare) not in made:
            make: Callable[[str, int, int], Stream] = street if bare else draw
            made[plans, bare] = list(_shows(plans, make, px))
        found[stage] = made[plans, bare]
    return found


def _shows(plans: Sequence[Plan], make: Callable[[str, int, int], Stream], px: int) -> Iterator[Show]:
    balance = Balance()
    for plan in plans:
        for number in range(plan.streams):
            stream = make(plan.kind, number, px)
            yield stream, questions(stream, plan, balance)


def rig(args: argparse.Namespace) -> Rig:
    """Model, rows, streams and clips. Raises LongwatchError."""
    raw = {"cameras": {"street": {"url": "file"}}, "model": {"path": args.checkpoint, "reuse_below": None}}
    core = build(parse(raw, "--checkpoint"))
    torch.set_num_threads(1)
    stages, model, px = args.stage or STAGES, Known(core.model), core.model.geometry.image_px
    shows = streams(stages, px, args.streams, quick=args.quick)
    tuned: dict[str, dict[str, dict[str, Any]]] = {stage: {} for stage in STAGES}
    failed: dict[str, str] = {}

    def budgets(stage: str) -> tuple[str, ...]:
        return BUDGETS["tiny"][stage][: QUICK_BUDGETS if args.quick else None]

    if "gate" in stages:
        shown = [stream.frames[: max(asked_at) + 1] for stream, asked_at in shows["gate"]]
        tuned["gate"], lost = tuned_gates(shown, budgets("gate"))
        failed |= lost
    if "tower" in stages:
        tuned["tower"], lost = tuned_towers(core.model, pictures(px, 1)[0], budgets("tower"))
        failed |= lost
    rows = {stage: every(stage, "tiny", tuned[stage]) for stage in stages}
    if args.quick:
        rows = {stage: brief(own) for stage, own in rows.items()}
    cores, unbuilt = prepared([row for own in rows.values() for row in own], model)
    failed |= unbuilt
    rows = {stage: [row for row in own if row.key in cores] for stage, own in rows.items()}
    filmed = [] if args.quick else clips(args.videos, px)
    return Rig(core, model, rows, cores, shows, filmed, failed, tuned)


def brief(rows: Sequence[Row]) -> list[Row]:
    """The first budget only, and what has none."""
    budgets = list(dict.fromkeys(row.budget for row in rows if row.budget not in ("all", "own")))[:QUICK_BUDGETS]
    return [row for row in rows if row.budget in ("all", "own", *budgets)]


def units(made: Rig, geometries: Sequence[str]) -> list[Unit]:
    """All that is to be measured; what takes longest comes first."""
    stages = list(made.rows)
    found: list[Unit] = [
        ("cost", stage, geometry) for geometry in geometries for stage in stages if stage not in ("gate", "rules")
    ]
    found += [("play", stage, number) for stage in stages for number in range(len(made.shows[stage]))]
    shared = next((stage for stage in stages if stage != "gate"), None)
    if shared is not None:
        found += [("beside", shared, number) for number in range(len(made.shows[shared]))]
    filmed = [stage for stage in stages if stage not in ("gate", "rules")]
    found += [("clip", stage, number) for stage in filmed for number in range(len(made.clips[:CLIPS]))]
    if made.clips and "gate" in stages:
        found.append(("gates", "gate", 0))
    return found


# -- measuring ---------------------------------------------------------------------------------------------------------


def measure(made: Rig, unit: Unit) -> Found:
    """One unit."""
    what, stage, which = unit
    began_s, found = time.process_time(), Found(unit)
    rows = made.rows[stage]
    if what == "cost":
        found.costs, found.failed = cost(made, stage, str(which))
    elif what == "gates":
        found.gates = {row.key: on_clips(made.clips, row.method, row.options) for row in rows}
    elif what == "beside":
        found.played = beside(made.core, *made.shows[stage][int(which)])
    elif what == "clip":
        found.played = play(rows, made.cores, made.clips[int(which)].frames, {})
    else:
        stream, asked = made.shows[stage][int(which)]
        if stage == "rules":
            found.played = play_rules(rows, made.cores[rows[0].key], stream)
        else:
            found.played = play(rows, made.cores, stream.frames, asked)
    found.seconds = time.process_time() - began_s
    return found


def cost(made: Rig, stage: str, geometry: str) -> tuple[dict[str, Measured], dict[str, str]]:
    """Costs of a stage's rows by key."""
    if geometry not in made.costs:
        made.costs[geometry] = Costs(geometry, FRAMES[geometry], made.core.model if geometry == "tiny" else None)
    costs = made.costs[geometry]
    rows = made.rows[stage] if geometry == "tiny" else every(stage, geometry, made.tuned[stage])
    cores, failed = (made.cores, {}) if geometry == "tiny" else prepared(rows, costs.plain)
    found, lost = measured(costs, [row for row in rows if row.key in cores], cores)
    return found, failed | lost


def beside(core: Core, stream: Stream, asked: Mapping[int, Sequence[Asked]]) -> Result:
    """What every method has to be compared with, as `systems.py` has it."""
    result = Result()
    watch = Watch(once(core), core.policy.budget.carriers, len(stream.frames), only=BESIDE)
    for step, frame in enumerate(stream.frames[: max(asked) + 1]):
        watch.absorb(frame)
        items = asked.get(step, ())
        for item, views in zip(items, watch.views([()] * len(items)) if items else (), strict=True):
            result.kinds.append(kind(item))
            for name, said in answer(core, item.question.text, views).items():
                result.rights[name].append(right(item.question, meant(item, said.text), said.span_s))
    return result


def run_all(made: Rig, work: Sequence[Unit], processes: int) -> list[Found]:
    """All units, in `processes` that are forked; with one, here. In the order of `work`."""
    with tqdm(total=len(work), desc="units", file=sys.stderr) as bar:
        if processes < 2:
            found = []
            for unit in work:
                bar.set_postfix_str(" ".join(map(str, unit)))
                found.append(measure(made, unit))
                bar.update()
            return found
        by_unit = {}
        for item in _forked(made, work, processes):
            by_unit[item.unit] = item
            bar.set_postfix_str(" ".join(map(str, item.unit)))
            bar.update()
    return [by_unit[unit] for unit in work]


def _forked(made: Rig, work: Sequence[Unit], processes: int) -> Iterator[Found]:
    context = multiprocessing.get_context("fork")  # what was prepared is shared, not sent
    todo, done = context.Queue(), context.Queue()
    for unit in work:
        todo.put(unit)
    for _ in range(processes):
        todo.put(None)
    workers = [context.Process(target=_worker, args=(made, todo, done)) for _ in range(processes)]
    for worker in workers:
        worker.start()
    left = len(work)
    while left:
        try:
            yield done.get(timeout=PATIENCE_S)
            left -= 1
        except queue.Empty:
            dead = [worker.exitcode for worker in workers if worker.exitcode]
            if dead:
                raise LongwatchError(f"a process of the bench ended with {dead[0]}; see what it wrote above") from None
    for worker in workers:
        worker.join()


def _worker(made: Rig, todo: Any, done: Any) -> None:
    torch.set_num_threads(1)
    while (unit := todo.get()) is not None:
        done.put(measure(made, unit))


# -- all of it ---------------------------------------------------------------------------------------------------------


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Everything but the printing. Raises LongwatchError."""
    began_s = time.monotonic()
    made = rig(args)
    geometries = [name for name in GEOMETRIES if name in (args.costs or ()) or (args.costs is None and not args.quick)]
    found = run_all(made, units(made, geometries), args.processes)
    return {
        "bench": "methods",
        "model": made.core.model.geometry.name,
        "quick": args.quick,
        **summary(made.rows, made.tuned, found, made.failed),
        "streams": {stage: [f"{show.kind} {show.number}" for show, _ in own] for stage, own in made.shows.items()},
        "clips": [clip.file for clip in made.clips],
        "processor_s": round(sum(item.seconds for item in found), 1),
        "seconds": round(time.monotonic() - began_s, 1),
        "machine": machine(),
        "commit": commit(),
        "date": date(),
    }


def main(words: Sequence[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", action="append", choices=STAGES, help="these only, may be given again; default: all")
    parser.add_argument("--checkpoint", default="tiny", help="`tiny`, a directory or a hub id: whose answers count")
    parser.add_argument("--quick", action="store_true", help="one budget, one stream, no costs: about a minute")
    parser.add_argument("--streams", type=int, help="at most so many of a kind; default: 6 busy ones, 2 long ones")
    parser.add_argument("--costs", nargs="*", choices=GEOMETRIES, help="measured on these; default: both, quick: none")
    parser.add_argument("--processes", type=int, default=1, help="that share the work; give each a core")
    default = Path(__file__).resolve().parents[2] / "shared" / "videos"
    parser.add_argument(
        "--videos", type=Path, default=default, help="folder with clips and manifest.json; may be missing"
    )
    parser.add_argument("--plot", type=Path, help="draw accuracy over cost here (.png, .svg)")
    parser.add_argument("--report", type=Path, help="write the page here (.md)")
    parser.add_argument("--read", type=Path, help="measure nothing: table, page and picture of an earlier run's JSON")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    args = parser.parse_args(words)
    control = logs.setup("error")
    try:
        result = json.loads(args.read.read_text(encoding="utf-8")) if args.read else run(args)
    except LongwatchError as error:
        sys.exit(f"methods: {error}")
    finally:
        control.close()
    show(result)
    if args.plot:
        plot(result, args.plot)
    if args.report:
        args.report.write_text(page(result), encoding="utf-8")
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
