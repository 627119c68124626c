"""Doing less: what each saving saves, a frame and a question, and what it loses on watchbench. Paired: same questions.

    python bench/doless.py [--checkpoint tiny|DIR] [--geometry tiny|0.5b] [--quick] [--streams N] [--out FILE]

A row is the daemon's bank (`hybrid` in `systems.py`) with one setting changed. `reduced` is the share of frames, out of
those that pass the gate, which is made cheaper; `loss` is how many points of accuracy it costs, with its 95 % interval,
and the questions that it lost and won against the row `as it is`. Below them the systems that any saving has to be
compared with. Streams and questions are watchbench's (`streams.py`), most of them long and still: there is little to
save where much happens.

What a camera may leave undone before a frame exists is in a table of its own (`dozing.py`), not with --quick.

Costs are processor time, measured apart, one frame at a time in turns, by stage; `--geometry` measures them on random
weights of another size, since the shipped model's language model is too small for them to show. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dozing
import numpy as np
import torch
from probes import meant
from streams import BACKWARD, Asked, Balance, Plan, Stream, draw, family, questions
from systems import Watch, answer, once
from tqdm import tqdm
from where import commit, date, machine

from daemon import logs
from daemon.core import Core, build
from daemon.session import Session
from daemon.settings import parse
from memory.bank import MemoryBank
from stream.encoder import Encoder
from stream.errors import LongwatchError
from stream.model import tiny
from stream.model.llava_onevision import LlavaOnevision
from stream.positions import TABLE
from stream.reduce.chain import chain
from stream.reuse import Reuse
from stream.stages import Recorder
from stream.train.questions import right
from stream.types import Budget, Frame
from tests.geometry import random_net
from tests.models import WORDS

FULL = (Plan("hour", 3, 8, 8), Plan("minutes", 2, 5, 8), Plan("busy", 3, 3, 8))
QUICK = (Plan("hour", 1, 2, 6), Plan("busy", 1, 1, 6))
AS_IS = "as it is"
HYBRID = 4  # newest frames at full detail, the daemon's default
BEYOND = ("blind", "window4", "uniform", "full")  # what a saving is compared with
QUESTION = "what passed first?"
ERRORS_95 = 1.96  # standard errors of a 95 % interval


@dataclass(frozen=True, slots=True)
class Setting:
    """One saving, as the configuration has it."""

    name: str
    method: str = "none"  # of `reduce`
    options: Mapping[str, float] = field(default_factory=dict)
    reuse_below: float | None = None  # grey levels
    detail: int = HYBRID

    @property
    def system(self) -> str:
        """The row of `systems.py` that has it already; empty where frames have to be absorbed once more."""
        if self.method != "none" or self.reuse_below is not None:
            return ""
        return {0: "carriers", HYBRID: "hybrid"}.get(self.detail, f"detail{self.detail}")

    @property
    def kin(self) -> str:
        """The row whose frames cost the same: it is measured for all of them."""
        if self.reuse_below is not None:
            return "reuse, below 6"
        return AS_IS if self.method == "none" else "m3, below 1"

    def encoder(self, plain: Encoder) -> Encoder:
        """`plain` with this saving, and with nothing remembered."""
        reuse = None if self.reuse_below is None else Reuse(self.reuse_below)
        reducers = chain([] if self.method == "none" else [{self.method: self.options}])
        return replace(plain, reduce=reducers, reuse=reuse)

    def reduces(self, frame: Frame) -> bool:
        """Whether its reducer makes this frame cheaper; of `reuse` its own counter knows."""
        return self.method != "none" and ("keen" in self.options or frame.score < self.options.get("below", 1.0))


SETTINGS = (
    Setting(AS_IS),
    Setting("reuse, below 6", reuse_below=6.0),
    Setting("m3, below 1", "m3", {"dull": 1}),
    Setting("m3, below 3", "m3", {"dull": 1, "below": 3.0}),
    Setting("uniform, below 3", "uniform", {"dull": 1, "below": 3.0}),
    Setting("random, below 3", "random", {"dull": 1, "below": 3.0}),
    Setting("m3, all", "m3", {"dull": 1, "keen": 1}),
    Setting("uniform, all", "uniform", {"dull": 1, "keen": 1}),
    Setting("random, all", "random", {"dull": 1, "keen": 1}),
    Setting("detail_frames 2", detail=2),
    Setting("detail_frames 1", detail=1),
    Setting("detail_frames 0", detail=0),
)


# -- loss --------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Score:
    """Every question, right or not, in the order in which all rows got them."""

    kinds: list[str] = field(default_factory=list)  # now, past, rest
    rights: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))  # by row
    frames: int = 0
    reduced: Counter[str] = field(default_factory=Counter)  # frames, by row


def kind(asked: Asked) -> str:
    """The column of a question."""
    own = family(asked.question.kind)
    return own if own == "now" else "past" if own in BACKWARD else "rest"


def watch(
    cores: Mapping[str, Core], budget: int, stream: Stream, asked: Mapping[int, list[Asked]], score: Score
) -> None:
    """One stream past all rows at once: every picture is drawn, and seen by the tower, once."""
    given = [item.system for item in SETTINGS if item.system]
    details = [item.detail for item in SETTINGS if item.system.startswith("detail")]
    count = len(stream.frames)
    plain = Watch(cores[AS_IS], budget, count, details, (*BEYOND, *given))
    others = {name: Watch(core, budget, count, only=("hybrid",)) for name, core in cores.items() if name != AS_IS}
    for step, frame in enumerate(stream.frames[: max(asked) + 1]):
        score.frames += 1
        for each in (plain, *others.values()):
            each.absorb(frame)
        score.reduced.update(item.name for item in SETTINGS if item.reduces(frame))
        views = {name: each.banks()["hybrid"] for name, each in others.items()} if step in asked else {}
        for item, own in zip(asked.get(step, ()), plain.views([()] * len(asked.get(step, ()))), strict=True):
            said = answer(cores[AS_IS], item.question.text, {**own, **views})
            score.kinds.append(kind(item))
            for name, heard in said.items():
                score.rights[name].append(right(item.question, meant(item, heard.text), heard.span_s))


def loss(plain: Sequence[bool], other: Sequence[bool]) -> dict[str, float]:
    """Points of accuracy that `other` is worse, its 95 % interval, and the questions that make it."""
    steps = [int(a) - int(b) for a, b in zip(plain, other, strict=True)]
    spread = statistics.stdev(steps) / math.sqrt(len(steps)) if len(steps) > 1 else 0.0
    return {
        "loss": round(100 * statistics.fmean(steps), 2),
        "within": round(100 * ERRORS_95 * spread, 2),
        "lost": steps.count(1),
        "won": steps.count(-1),
    }


def accuracy(score: Score) -> dict[str, dict[str, float]]:
    """The rows of the first table, in %."""
    names = {item.system: item.name for item in SETTINGS if item.system}
    rows: dict[str, dict[str, float]] = {}
    for name, rights in score.rights.items():
        row: dict[str, float] = {}
        for column in ("now", "past", "rest"):
            own = [hit for hit, of in zip(rights, score.kinds, strict=True) if of == column]
            row |= {column: round(100 * statistics.fmean(own), 1)} if own else {}
        row |= {"all": round(100 * statistics.fmean(rights), 1), "reduced": score.reduced[name] / score.frames}
        rows[names.get(name, name)] = row | loss(score.rights["hybrid"], rights)
    order = (*(item.name for item in SETTINGS), *BEYOND)
    return {name: rows[name] for name in order if name in rows}


def measure_loss(core: Core, args: argparse.Namespace) -> tuple[dict[str, dict[str, float]], dict[str, Any]]:
    """The first table, and on what it was measured."""
    own = [item for item in SETTINGS if item.name == AS_IS or not item.system]
    cores = {item.name: replace(core, encoder=item.encoder(core.encoder)) for item in own}
    plans = QUICK if args.quick else FULL
    work = [(plan, number) for plan in plans for number in range(plan.streams)][: args.streams]
    score, balance = Score(), Balance()
    for plan, number in tqdm(work, desc="streams", file=sys.stderr):
        stream = draw(plan.kind, number, core.model.geometry.image_px)
        watch(cores, core.policy.budget.carriers, stream, questions(stream, plan, balance), score)
    for name, changed in cores.items():
        if changed.encoder.reuse is not None:
            score.reduced[name] = changed.encoder.reuse.reused
    about = {"model": core.model.geometry.name, "bank": core.policy.budget.carriers}
    return accuracy(score), {**about, "questions": len(score.kinds), "frames": score.frames, "streams": len(work)}


# -- cost --------------------------------------------------------------------------------------------------------------


def model(geometry: str) -> LlavaOnevision:
    """Random weights: what they cost does not depend on them."""
    return LlavaOnevision(random_net(geometry), tiny.tokenizer(WORDS), tiny.CARD, f"random {geometry}")


def frames(px: int, count: int) -> Iterator[Frame]:
    """Pictures in pairs: one that is new, and the same once more, of which the gate thinks nothing."""
    rng = np.random.default_rng(0)
    image = np.zeros((px, px, 3), np.uint8)
    for index in range(count):
        if index % 2 == 0:
            image = rng.integers(0, 256, (px, px, 3), dtype=np.uint8)
        yield Frame("street", index, 0, float(index), float(index), image, score=10.0 * (1 - index % 2))


class Costs:
    """One frame after the other through every encoder that costs anything of its own, in turns."""

    def __init__(self, geometry: str) -> None:
        self.model = model(geometry)
        plain = build(parse({"cameras": {"street": {"url": "file"}}}, ""))
        scheme = TABLE["compact"](len(self.model.system()), self.model.geometry.visual)
        self.policy = replace(plain.policy, positions=scheme)
        self.recorder = Recorder(clock_ns=time.process_time_ns)  # so that a busy machine measures the same
        encoder = Encoder(self.model, plain.encoder.carrier, stages=self.recorder)
        self.encoders = {item.name: item.encoder(encoder) for item in SETTINGS if item.name == item.kin}
        self.banks = {(item.kin, item.detail): self.bank(item.detail) for item in SETTINGS}
        self.frames: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in self.encoders}
        self.ttft: dict[tuple[str, int], list[float]] = defaultdict(list)

    def bank(self, detail: int) -> MemoryBank:
        """An empty memory."""
        budget = Budget(self.policy.budget.carriers, detail)
        return MemoryBank("street", self.model.geometry, replace(self.policy, budget=budget))

    def absorb(self, frame: Frame) -> None:
        """The next frame, and a question after it."""
        for name, encoder in self.encoders.items():
            with self.recorder.span("frame"):
                carrier = encoder.absorb([self.banks[name, HYBRID].work(frame)])[0]
                self.banks[name, HYBRID].add(carrier)
            for (kin, detail), bank in self.banks.items():
                if kin == name and detail != HYBRID:
                    bank.add(carrier)
            for stage, lasted_ms in by_stage(self.recorder).items():
                self.frames[name][f"{'other' if frame.score else 'dull'}_{stage}"].append(lasted_ms)
        for key, bank in self.banks.items():
            began_s = time.process_time()
            views = [bank.fork(now_s=frame.wall_s)]
            Session(self.model, self.policy.positions, views, self.model.question_ids(QUESTION), 2).step()
            self.ttft[key].append(1000 * (time.process_time() - began_s))

    def row(self, item: Setting) -> dict[str, float]:
        """Medians, the first time of everything left out, since it warms up."""
        row = {stage: statistics.median(all_ms[1:]) for stage, all_ms in self.frames[item.kin].items()}
        key = item.kin, item.detail
        row |= {"ttft": statistics.median(self.ttft[key][2:]), "bank_mb": self.banks[key].held_bytes / 1e6}
        return {name: round(value, 2) for name, value in row.items()}


def cost(geometry: str, pairs: int) -> dict[str, dict[str, float]]:
    """Milliseconds of a frame by stage, and to an answer's first token, of processor time; megabytes of a bank."""
    costs = Costs(geometry)
    for frame in frames(costs.model.geometry.image_px, 2 * pairs + 2):
        costs.absorb(frame)
    return {item.name: costs.row(item) for item in SETTINGS}


def by_stage(recorder: Recorder) -> dict[str, float]:
    """Milliseconds of the newest frame: tower, language model, and in all."""
    spans = recorder.spans
    whole = spans[-1]
    inside = {span.name: span.lasted_ns / 1e6 for span in spans if span.parent == whole.number}
    return {"tower": inside["tower"], "language": inside["language"], "frame": whole.lasted_ns / 1e6}


def camera(core: Core) -> dict[str, dict[str, float]]:
    """What may be left undone before a frame exists: its cost, and its loss."""
    rights, costs = dozing.measure(core)
    whole = rights[dozing.IN_FULL]
    return {
        name: {**row, "right": round(100 * statistics.fmean(rights[name]), 1), **loss(whole, rights[name])}
        for name, row in costs.items()
    }


# -- paper -------------------------------------------------------------------------------------------------------------


def show(result: Mapping[str, Any]) -> None:
    """Print both tables."""
    about = result["about"]
    print(f"{about['questions']} questions on {about['streams']} streams, {about['model']}, {about['bank']} carriers")
    print(f"{'':17}{'reduced':>9}{'now':>7}{'past':>7}{'rest':>7}{'all':>7}{'loss':>8}{'+-':>6}{'lost':>6}{'won':>5}")
    for name, row in result["accuracy"].items():
        shares = "".join(f"{row.get(column, float('nan')):7.1f}" for column in ("now", "past", "rest", "all"))
        against = f"{row['loss']:8.1f}{row['within']:6.1f}{row['lost']:6}{row['won']:5}"
        print(f"{name:17}{100 * row['reduced']:7.1f} %{shares}{'' if name == AS_IS else against}")
    print(f"\nms of processor time, random weights of geometry {result['geometry']}, {result['threads']} threads")
    print(f"{'':17}{'a dull frame':>27}{'changed':>9}{'mean':>9}{'question':>10}{'bank':>9}")
    print(f"{'':17}{'tower':>9}{'language':>9}{'frame':>9}{'frame':>9}{'frame':>9}{'ttft':>10}{'MB':>9}")
    for name, row in result["cost_ms"].items():
        keys = ("dull_tower", "dull_language", "dull_frame", "other_frame", "mean_frame", "ttft", "bank_mb")
        print(f"{name:17}" + "".join(f"{row[key]:{10 if key == 'ttft' else 9}.1f}" for key in keys))
    if result["camera"]:
        dozing.show(result["camera"])


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Everything but the printing. Raises LongwatchError."""
    began_s = time.monotonic()
    core = once(build(parse({"cameras": {"street": {"url": "file"}}, "model": {"path": args.checkpoint}}, "")))
    torch.set_num_threads(args.threads)
    rows, about = measure_loss(core, args)
    pairs = args.pairs or (15 if args.geometry == "tiny" and not args.quick else 3)
    costs = cost(args.geometry, pairs)
    for name, row in costs.items():
        share = rows[name]["reduced"]
        row["mean_frame"] = round(share * row["dull_frame"] + (1 - share) * row["other_frame"], 2)
    cameras = {} if args.quick else camera(core)
    return {
        "bench": "doless",
        "about": about,
        "accuracy": rows,
        "geometry": args.geometry,
        "threads": args.threads,
        "cost_ms": costs,
        "camera": cameras,
        "seconds": round(time.monotonic() - began_s, 1),
        "machine": machine(),
        "commit": commit(),
        "date": date(),
    }


def main(words: Sequence[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="tiny", help="`tiny`, a directory or a hub id: whose answers count")
    parser.add_argument(
        "--geometry", choices=("tiny", "0.5b", "7b"), default="tiny", help="on which costs are measured"
    )
    parser.add_argument("--streams", type=int, help="at most so many streams; default: 8, quick: 2")
    parser.add_argument(
        "--pairs", type=int, help="pairs of frames whose cost is measured; default: 15, 3 of a large model"
    )
    parser.add_argument("--quick", action="store_true", help="a few streams, less than a minute")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    args = parser.parse_args(words)
    control = logs.setup("error")
    try:
        result = run(args)
    except LongwatchError as error:
        sys.exit(f"doless: {error}")
    finally:
        control.close()
    show(result)
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
