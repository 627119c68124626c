"""How close to the machine's limit, and to what others do on the same weights? Real geometries, random weights.

    python bench/speed.py --geometry tiny|0.5b|7b --device cpu|cuda [--cameras N] [--seconds S] [--quick]
                          [--threads T] [--plot FILE] [--out FILE]

Everything is measured in one run: the best matrix product and the best pass over memory, and as shares of them an
absorbed frame and a written word; the time from a question to its first token while nothing else goes on and while
frames come at 70 % and 120 % of what can be absorbed; and the same of five other ways to remember (speed_peers.py).
Ends with one JSON line; `--out` writes it to a file too.

A GPU needs a CUDA build of torch and, for 7b in bfloat16, 16 GB for weights and 8 GB for what the others keep.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from speed_daemon import CARRIERS, QUESTION, Ours, quantile
from speed_limits import Limits, Work, limits, timed
from speed_peers import Peers, Pool
from speed_show import plot, show
from torch import nn
from where import commit, date, machine

from stream.errors import LongwatchError
from stream.model import tiny
from stream.model.card import Card
from stream.model.llava_onevision import LlavaOnevision
from stream.model.loading import pick_device, pick_dtype
from stream.model.weights import repack
from tests import geometry

PEERS = ("full", "full-cached", "rekv", "window")
DETAIL = {"carriers": 0, "hybrid": 4}
MINUTES = (1, 10, 60)  # of a stream at one frame a second
DAY = 86_400
TRIES = 9
IDLE_QUESTIONS = 20


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    cameras: int
    seconds: float  # of each load
    tries_s: float  # after which nothing is tried again
    frames: tuple[int, ...]  # stream times at which a question is asked
    full_s: float  # the longest question of `full` that is waited for
    late: int  # frames of the stream whose cost is compared with minute 1
    late_s: float  # spent on that comparison
    words: int = 24

    @classmethod
    def of(cls, args: argparse.Namespace) -> Plan:
        """From the command line."""
        if args.quick:
            return cls(args.cameras, min(args.seconds, 6.0), 1.0, (4, 16), 5.0, 3_600, 2.0, 8)
        return cls(args.cameras, args.seconds, 12.0, (4, 16, 32, 60, 600), 45.0, DAY, 30.0)


@dataclass
class Run:
    """One run: the model, and what was found. Shares are rates until `measure` knows the limits."""

    plan: Plan
    model: LlavaOnevision
    work: Work
    found: dict[str, Any] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.geometry.device

    def note(self, key: str, system: str, value: Any) -> None:
        """A number of `system`."""
        self.found.setdefault(key, {})[system] = value

    def often(self, what: Callable[[], float], share: float = 1.0) -> float:
        """Median seconds of `what()`, which gives seconds: of many tries where it is short, of one where it is long."""
        took: list[float] = []
        while not took or (len(took) < TRIES and sum(took) < share * self.plan.tries_s):
            took.append(what())
        return statistics.median(took)


def make_model(name: str, device: torch.device, dtype: torch.dtype) -> LlavaOnevision:
    """The geometry `name` with random weights, and words enough for the prompt."""
    card = tiny.CARD if name == "tiny" else Card()
    words = tiny.tokenizer([card.prefix, card.suffix, QUESTION] * 20)
    return LlavaOnevision(geometry.random_net(name, device, dtype), words, card, name)


def say(what: str) -> None:
    """Where the run is: some steps take minutes."""
    print(f"speed: {what}", file=sys.stderr, flush=True)


def ours(run: Run, rng: random.Random) -> None:
    """`carriers` and `hybrid`: frames, words, questions, load, and what time does to them."""
    plan, geo = run.plan, run.model.geometry
    for system, detail in DETAIL.items():
        say(f"{system}: frames and words")
        side = Ours(run.model, plan.cameras, detail)
        side.forward_to(CARRIERS)
        side.absorb()
        batch_s = run.often(side.absorb)
        before = len(run.model.system()) + CARRIERS
        flops = run.work.tower + run.work.language(geo.visual + 1, before)
        run.note("absorb_fps", system, plan.cameras / batch_s)
        run.note("gemm_share", system, plan.cameras * flops / batch_s)
        _words(run, system, side.word(plan.words), before + detail * geo.visual)
        if detail:
            idle = side.idle(IDLE_QUESTIONS)
            run.found["idle_ms"] = {"p50": statistics.median(idle), "p95": quantile(idle, 0.95)}
            for load in (0.7, 1.2):
                say(f"{system}: questions at {100 * load:.0f} % load")
                _loaded(run, system, side, (load, batch_s, rng))
        say(f"{system}: over stream time")
        _over_time(run, system, Ours(run.model, 1, detail))


def _words(run: Run, system: str, word_s: float, before: int) -> None:
    geo = run.model.geometry
    size = run.work.word_bytes(geo.dtype.itemsize, before, geo.dtype.itemsize)
    run.note("decode_tps", system, 1 / word_s)
    run.note("decode_share", system, size / word_s)


def _loaded(run: Run, system: str, side: Ours, how: tuple[float, float, random.Random]) -> None:
    load, batch_s, rng = how
    got = side.loaded(load, batch_s, max(run.plan.seconds, 4 * batch_s), rng)
    run.found.setdefault("ttft_loaded_ms", {}).setdefault(system, {})[f"{100 * load:.0f}"] = {
        "p50": statistics.median(got.first_ms),
        "p95": quantile(got.first_ms, 0.95),
        "questions": len(got.first_ms),
        "absorb": got.absorb_ms,
        "absorbed": got.absorbed,
        "dropped": got.dropped,
    }


def _over_time(run: Run, system: str, side: Ours) -> None:
    """The first token at every stream time, bytes, and what a frame costs late in the stream over minute 1."""
    first: dict[str, float] = {}
    for frames in run.plan.frames:
        side.forward_to(frames)
        side.first_token()
        first[str(frames)] = 1000 * run.often(side.first_token)
    held: dict[str, int] = {}
    for minutes in MINUTES:
        if 60 * minutes > side.bank.newest_frame + 1:
            side.forward_to(60 * minutes)
        held[str(minutes)] = side.bank.held_bytes
    run.note("ttft_ms", system, first)
    run.note("bytes", system, held)
    first[str(side.bank.newest_frame + 1)] = 1000 * run.often(side.first_token)
    if DETAIL[system]:
        _late(run, side)
        first[str(run.plan.late)] = 1000 * run.often(side.first_token)


def _late(run: Run, side: Ours) -> None:
    """What a frame costs late in the stream over one in minute 1, in turns so that the machine's moods cancel."""
    young = Ours(run.model, 1, side.core.policy.budget.detail_frames)
    young.forward_to(60)
    side.forward_to(run.plan.late)
    both: tuple[list[float], list[float]] = ([], [])
    young.absorb()
    while len(both[0]) < 2 or (sum(map(sum, both)) < run.plan.late_s and len(both[0]) < 400):
        for took, one in zip(both, (young, side), strict=True):
            took.append(one.absorb())
    run.found["late_cost"] = statistics.median(both[1]) / statistics.median(both[0])
    run.found["late_bytes"] = side.bank.held_bytes / young.bank.held_bytes
    run.found["late_pairs"] = len(both[0])


def peers(run: Run, tower_s: float) -> None:
    """The others: the same questions at the same stream times; a frame is their language model's part and our tower."""
    plan, model, geo = run.plan, run.model, run.model.geometry
    ids = model.question_ids(QUESTION)
    words = model.embed(torch.tensor([ids]))
    most, room = max(plan.frames), max(geo.visual, len(ids)) + 1
    near = Pool(model, most, room, geo.device)
    host = near if geo.device.type == "cpu" else Pool(model, most, room, torch.device("cpu"))
    side = Peers(model, near, host)
    visual = torch.randn(1, geo.visual, geo.width, device=geo.device).to(geo.dtype)
    for system in PEERS:
        say(system)
        first: dict[str, float] = {}
        for frames in plan.frames:
            asked = words
            if system == "full":
                if first and list(first.values())[-1] * 1.3 * frames / int(list(first)[-1]) > 1000 * plan.full_s:
                    break  # not extrapolated: what was not measured is left out
                asked = torch.cat((visual.repeat(1, frames, 1), words), 1)
            first[str(frames)] = 1000 * run.often(
                lambda s=system, f=frames, a=asked: timed(lambda: side.run(s, f, a, True), run.device), 0.25
            )
            if system != "full" and frames in (plan.frames[0], most):
                _peer_frame(run, system, side, (frames, tower_s, visual))
        run.note("ttft_ms", system, first)
        frames = int(list(first)[-1])
        word_of = "full-cached" if system == "full" else system  # having read it all, it has it cached
        word_s = run.often(
            lambda s=word_of, f=frames, w=words[:, -1:]: timed(lambda: side.run(s, f, w, True), run.device)
        )
        _words(run, system, word_s, side.read(word_of, frames, 1, True)[1])
        run.note("bytes", system, {str(minutes): _kept(system, side, 60 * minutes) for minutes in MINUTES})
    run.note("absorb_fps", "full", 1 / tower_s)
    run.note("gemm_share", "full", run.work.tower / tower_s)


def _peer_frame(run: Run, system: str, side: Peers, what: tuple[int, float, torch.Tensor]) -> None:
    """One frame through a peer, after so many frames."""
    frames, tower_s, visual = what
    at = frames - 1  # the pool ends with this frame
    language_s = run.often(lambda: timed(lambda: side.run(system, at, visual, False), run.device), 0.25)
    before = side.read(system, at, visual.shape[1], False)[1]
    whole_s = tower_s + language_s
    flops = run.work.tower + run.work.language(visual.shape[1], before)
    run.found.setdefault("absorb_over_time_fps", {}).setdefault(system, {})[str(frames)] = 1 / whole_s
    run.note("absorb_fps", system, 1 / whole_s)  # the last stream time stays
    run.note("gemm_share", system, flops / whole_s)


def _kept(system: str, side: Peers, frames: int) -> int:
    """Bytes that a peer holds of so many frames, by formula: an hour of some is more than a machine has."""
    geo, near = side.model.geometry, side.near
    if system == "full":
        return frames * geo.visual * geo.width * geo.dtype.itemsize
    kept = min(frames, 16) if system == "window" else frames
    return (near.system + kept * geo.visual) * geo.carrier_bytes


def shorter(run: Run) -> None:
    """Words, first tokens and frames with fewer bytes a weight, back to back with the native ones."""
    kinds = ["native", "float16", "int8"] if run.device.type == "cpu" else ["native", "int8"]
    geo, side = run.model.geometry, Ours(run.model, run.plan.cameras, 0)
    side.forward_to(CARRIERS)
    for kind in kinds:
        say(f"weights {kind}")
        with packed(run.model.net, kind):
            side.word(4)
            word_s = side.word(run.plan.words)
            size = run.work.word_bytes({"float16": 2, "int8": 1}.get(kind, geo.dtype.itemsize), 128, geo.dtype.itemsize)
            run.note(
                "weights",
                kind,
                {
                    "decode_tps": 1 / word_s,
                    "decode_share": size / word_s,
                    "ttft_ms": 1000 * run.often(side.first_token, 0.25),
                    "absorb_fps": run.plan.cameras / run.often(side.absorb, 0.25),
                },
            )


@contextmanager
def packed(net: Any, kind: str) -> Iterator[None]:
    """The network with its weights in `kind`, and as it was afterwards."""
    linears = [
        (parent, name, child, child.weight)
        for parent in net.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.Linear)
    ]
    repack(net, kind)
    try:
        yield
    finally:
        for parent, name, child, weight in linears:
            child.weight = weight
            setattr(parent, name, child)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """The JSON line. Raises LongwatchError, and torch's OutOfMemoryError where the geometry does not fit."""
    device = pick_device(args.device)
    wanted = geometry.config(args.geometry)
    dtype = pick_dtype("auto", device, 5_000_000 if args.geometry == "tiny" else 900_000_000)
    model = make_model(args.geometry, device, dtype)
    plan = Plan.of(args)
    with torch.inference_mode():
        found = [limits(wanted, device, dtype)]
        run = Run(plan, model, Work(wanted))
        images = Ours(model, 1, 0).frame("", 0).image[None]
        model.encode(images)
        tower_s = run.often(lambda: timed(lambda: model.encode(images), device))
        ours(run, random.Random(0))
        found.append(limits(wanted, device, dtype))
        peers(run, tower_s)
        shorter(run)
        found.append(limits(wanted, device, dtype))
    best = Limits(max(item.matrix_flops for item in found), max(item.read_bytes for item in found))
    _share(run.found, best)
    tokens = model.geometry.visual + 1
    frame = run.work.tower + run.work.language(tokens, CARRIERS)
    return {
        "bench": "speed",
        "geometry": args.geometry,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "dtype": str(dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "cameras": plan.cameras,
        "carriers": CARRIERS,
        "late_frames": plan.late,
        "matrix_gflops": best.matrix_flops / 1e9,
        "read_gbs": best.read_bytes / 1e9,
        "frame_gflop": frame / 1e9,
        "padding_share": (run.work.language(tokens, CARRIERS) - run.work.language(tokens, 0)) / frame,
        "tower_ms": 1000 * tower_s,
        "question_tokens": len(model.question_ids(QUESTION)),
        **run.found,
        "plan": asdict(plan),
        "machine": machine(),
        "load_before": args.load,
        "commit": commit(),
        "date": date(),
    }


def _share(found: dict[str, Any], best: Limits) -> None:
    """Rates become shares of the limits, which are the best of the whole run."""
    for key, limit in (("gemm_share", best.matrix_flops), ("decode_share", best.read_bytes)):
        found[key] = {system: rate / limit for system, rate in found[key].items()}
    for got in found["weights"].values():
        got["decode_share"] /= best.read_bytes


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--geometry", choices=geometry.NAMES, default="tiny")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu")
    parser.add_argument("--cameras", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each load under which questions are asked")
    parser.add_argument("--threads", type=int, default=0, help="of torch; default: all cores")
    parser.add_argument(
        "--quick", action="store_true", help="fewer tries, short streams, hour 1 in the place of hour 24"
    )
    parser.add_argument("--plot", type=Path, help="draw questions and bytes over stream time here (.svg, .png)")
    parser.add_argument("--out", type=Path, help="write the result there too")
    args = parser.parse_args()
    args.load = round(os.getloadavg()[0], 2)
    torch.set_num_threads(args.threads or os.cpu_count() or 1)
    try:
        result = measure(args)
    except LongwatchError as error:
        sys.exit(f"speed: {error}")
    except torch.OutOfMemoryError as error:
        sys.exit(f"speed: {args.geometry} does not fit: {str(error).splitlines()[0]}; --quick keeps shorter streams")
    show(result)
    if args.plot:
        plot(result, args.plot)
    line = json.dumps(_rounded(result))
    print(line)
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(line + "\n", encoding="utf-8")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
