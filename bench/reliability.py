"""How far can an answer be believed? Measures a checkpoint's confidence, support and evidence, and writes its card.

    python bench/reliability.py [--checkpoint tiny|DIR] [--quick] [--plot docs/reliability.svg] [--write]

Streams that watchbench never asks about are played to the daemon's default (bank and archive). On half of them three
things are fitted, on the other half they are tested:

    answer     chance that an answer is right, from its words' probability and its support
    evidence   chance that a named moment shows it, from its share of the attention
    support    the least share of the pointer's attention on memory; a claim with less is `no_evidence`. Where as many
               of the things never shown are made up as of those shown are denied (equal error rate)

`--write` puts them into the card of a checkpoint directory (`trust` in longwatch.json). The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from probes import Extent, Findings, Record, Rig, play
from streams import Balance, Plan, draw, questions
from systems import once
from tqdm import tqdm
from where import commit, date, machine

from daemon import logs
from daemon.core import build
from daemon.settings import parse
from daemon.trust import odds
from stream.errors import LongwatchError
from stream.model.card import load, save
from stream.model.loading import SHIPPED
from stream.train.asking import BLACK, NO, NOT_SEEN, NOTHING
from stream.types import Trust

FIRST = 1_000  # streams below are watchbench's
FULL = (Plan("busy", 30, 3, 9), Plan("minutes", 12, 5, 11), Plan("hour", 6, 8, 13), Plan("faults", 8, 4, 5))
QUICK = (Plan("busy", 6, 2, 8), Plan("minutes", 2, 3, 8), Plan("hour", 2, 4, 8), Plan("faults", 2, 2, 4))
DENIALS = (NO, "0", NOTHING, BLACK)
BINS = 10
STREAM = 2  # place of the stream's number in a question's seed
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Point:
    """Where chances of about `said` came true in a share of `came`, of `n`."""

    said: float
    came: float
    n: int


def collect(args: argparse.Namespace, folder: Path) -> list[Record]:
    """What `recall` answers on all streams: those of even number are for fitting, the others for testing."""
    core = build(parse({"cameras": {"street": {"url": "file"}}, "model": {"path": args.checkpoint}}, "defaults"))
    torch.set_num_threads(args.threads)
    rig = Rig(once(core), core.policy.budget.carriers, (), ("recall",), folder)
    plans = QUICK if args.quick else FULL
    extent, found, balance = Extent(plans, {}, 0, 0), Findings(), Balance()
    work = [(plan, FIRST + number) for plan in plans for number in range(plan.streams)]
    for plan, number in tqdm(work, desc="streams", file=sys.stderr):
        stream = draw(plan.kind, number, core.model.geometry.image_px)
        play(rig, stream, questions(stream, plan, balance), extent, found)
    return found.records


def fit(features: Floats, came: Floats) -> tuple[float, ...]:
    """Logistic regression: weights of `features` [n, k] for `came` [n]; a little shrunk but for the last."""
    weights = torch.zeros(features.shape[1], dtype=torch.float64, requires_grad=True)
    given, wanted = torch.from_numpy(features), torch.from_numpy(came)
    solver = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        solver.zero_grad()
        found = torch.nn.functional.binary_cross_entropy_with_logits(given @ weights, wanted)
        found = found + 1e-3 * weights[:-1].square().sum()
        found.backward()
        return found

    solver.step(loss)  # type: ignore[arg-type]  # a closure that returns a Tensor is what it takes
    return tuple(round(float(weight), 4) for weight in weights.detach())


def answers(records: Sequence[Record]) -> tuple[Floats, Floats]:
    """Features and outcomes of `Trust.answer`."""
    features = [(odds(item.said.confidence), odds(support(item)), 1.0) for item in records]
    return np.array(features), np.array([float(item.right) for item in records])


def moments(records: Sequence[Record]) -> tuple[Floats, Floats]:
    """Features and outcomes of `Trust.evidence`: named moments of answers that rest on some."""
    named = [
        (weight, frame in item.asked.question.evidence)
        for item in records
        if item.asked.age
        for frame, weight in item.said.shown
    ]
    features = np.array([(odds(weight), 1.0) for weight, _ in named])
    return features, np.array([float(hit) for _, hit in named])


def support(item: Record) -> float:
    """Of an answer; 1 without a trained pointer."""
    return 1.0 if item.said.support is None else item.said.support


def honest(records: Sequence[Record], trust: Trust) -> dict[str, float]:
    """What holding back costs and buys: shares of answers."""
    given = [replace(item, said=item.said.judged(trust)) for item in records]
    unseen = [item for item in given if item.unseen]
    invented = [item for item in unseen if not item.denied]
    seen = [item for item in given if item.seen]
    held_back = [old for old, new in zip(records, given, strict=True) if old.said.text != new.said.text]
    return {
        "invented": share(len(invented), len(unseen)),
        "denied": share(sum(item.denied for item in seen), len(seen)),
        "held_back": share(len(held_back), len(records)),
        "held_back_wrong": share(sum(not item.right for item in held_back), len(held_back)),
    }


def share(part: int, whole: int) -> float:
    """0 of nothing."""
    return round(part / whole, 4) if whole else 0.0


def least_support(records: Sequence[Record], trust: Trust) -> float:
    """The threshold, in hundredths, at which as much is made up as is denied; the highest of several."""

    def unequal(hundredth: int) -> float:
        found = honest(records, replace(trust, support=hundredth / 100))
        return abs(found["invented"] - found["denied"])

    return min(range(100, -1, -1), key=unequal) / 100


def reliability(said: Floats, came: Floats) -> list[Point]:
    """BINS points of as many answers each."""
    order = np.argsort(said, kind="stable")
    parts = [part for part in np.array_split(order, BINS) if len(part)]
    return [Point(round(float(said[p].mean()), 3), round(float(came[p].mean()), 3), len(p)) for p in parts]


def error(points: Sequence[Point]) -> float:
    """Expected calibration error: how far what is said lies from what comes true, on average."""
    whole = sum(point.n for point in points)
    return round(sum(point.n * abs(point.said - point.came) for point in points) / whole, 4)


def chances(features: Floats, weights: tuple[float, ...]) -> Floats:
    """Logistic of `features` [n, k]; the log-odds are in there already."""
    found: Floats = 1.0 / (1.0 + np.exp(-features @ np.array(weights)))
    return found


def tables(trust: Trust, test: Sequence[Record]) -> Iterator[tuple[str, list[Point]]]:
    """Title and points of every curve, on the test half."""
    features, came = answers(test)
    words = np.array([item.said.confidence for item in test])
    yield "words alone", reliability(words, came)
    yield "answer", reliability(chances(features, trust.answer), came)
    features, came = moments(test)
    yield "evidence", reliability(chances(features, trust.evidence), came)


def plot(curves: dict[str, list[Point]], title: str, picture: Path) -> None:
    """Said against came true; the diagonal is perfect."""
    from matplotlib.figure import Figure  # imported here: nothing else needs it

    figure = Figure(figsize=(5.5, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="gray", linestyle=":", label="perfect")
    for name, points in curves.items():
        label = f"{name}, error {error(points):.3f}"
        axes.plot([point.said for point in points], [point.came for point in points], marker="o", label=label)
    axes.set(xlabel="chance said", ylabel="share that came true", title=title, xlim=(0, 1), ylim=(0, 1))
    axes.legend(fontsize=8)
    figure.savefig(picture)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Everything but the printing. Raises LongwatchError."""
    with TemporaryDirectory(prefix="reliability-") as folder:
        records = collect(args, Path(folder))
    numbers = [item.asked.seed[STREAM] for item in records]
    train, test = (
        [item for item, number in zip(records, numbers, strict=True) if number % 2 == side] for side in (0, 1)
    )
    features, came = answers(train)
    weights = fit(features, came)
    features, came = moments(train)
    trust = Trust((weights[0], weights[1], weights[2]), _pair(fit(features, came)), 0.0, NOT_SEEN, DENIALS)
    trust = replace(trust, support=least_support(train, trust))
    curves = dict(tables(trust, test))
    if args.plot:
        plot(curves, f"{args.checkpoint}, {len(test)} answers", args.plot)
    if args.write:
        folder = SHIPPED.get(args.checkpoint, Path(args.checkpoint))
        save(load(folder).model_copy(update={"trust": trust}), folder)
    return {
        "bench": "reliability",
        "fitted": len(train),
        "tested": len(test),
        "trust": asdict(trust),
        "honest": {name: honest(test, replace(trust, support=least)) for name, least in _levels(trust)},
        "error": {name: error(points) for name, points in curves.items()},
        "curves": {name: [asdict(point) for point in points] for name, points in curves.items()},
        "model": args.checkpoint,
        "machine": machine(),
        "commit": commit(),
        "date": date(),
    }


def _pair(weights: tuple[float, ...]) -> tuple[float, float]:
    return weights[0], weights[1]


def _levels(trust: Trust) -> Iterator[tuple[str, float]]:
    yield "nothing held back", 0.0
    for least in sorted({0.5, 0.7, 0.8, 0.9, trust.support}):
        yield f"support {least:.2f}{' (card)' if least == trust.support else ''}", least


def main(words: Sequence[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="tiny", help="`tiny`, a directory or a hub id")
    parser.add_argument("--quick", action="store_true", help="a few streams, two minutes")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--plot", type=Path, help="draw the reliability curves here (.png, .svg)")
    parser.add_argument("--write", action="store_true", help="put the result into the checkpoint's card")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    args = parser.parse_args(words)
    control = logs.setup("error")
    try:
        result = run(args)
    except LongwatchError as error:
        sys.exit(f"reliability: {error}")
    finally:
        control.close()
    print(f"fitted on {result['fitted']} answers, tested on {result['tested']}: {json.dumps(result['trust'])}")
    print(f"{'':26}{'invented':>10}{'denied':>10}{'held back':>11}{'of these wrong':>16}")
    for name, own in result["honest"].items():
        print(
            f"{name:26}"
            + "".join(f"{100 * value:>{width}.1f}" for value, width in zip(own.values(), (10, 10, 11, 16), strict=True))
        )
    for name, points in result["curves"].items():
        shown = "  ".join(f"{point['said']:.2f}:{point['came']:.2f}" for point in points)
        print(f"{name:12} error {result['error'][name]:.3f}  said:came true  {shown}")
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
