"""How well is a street remembered? Fresh rendered streams through the real bank, asked at random moments.

Systems, side by side on the same streams and questions:

    blind     no video at all: what guessing from the question gives
    window4   the last 4 frames at full detail and nothing else: the baseline that beats most published memories
    uniform   half the bank, thinned evenly over time
    carriers  one carrier a frame, no recent detail
    hybrid    carriers and the last 4 frames at full detail: the daemon's default
    full      every visual token of every frame (the shipped model was trained to read at most 4 frames so)

Prints a table, then one JSON line: {"n", "systems": {name: {kind: accuracy, "all": ..}}, ...}.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm
from where import commit, date, machine

from daemon.session import Session
from memory import recall, retain
from memory.bank import MemoryBank, Policy
from memory.view import MemoryView, Moment
from stream import carrier
from stream.encoder import Encoder, Work
from stream.model import Model
from stream.model.loading import open_model
from stream.positions import TABLE
from stream.train.data import sample_times
from stream.train.questions import PHRASINGS, Clip, Question, ask
from stream.train.world import Street
from stream.types import Budget, Frame, Span

KINDS = tuple(PHRASINGS)
MAX_TOKENS = 16
SEED = 1_000_000  # far from every training seed


@dataclass(frozen=True, slots=True)
class System:
    """One way to remember. `last` reads only the newest frames, into a bank of their own."""

    carriers: int
    detail: int
    retain: str = "adjacent"
    last: int | None = None


def systems(frames: int, bank: int) -> dict[str, System]:
    """What is compared at `frames` a stream and `bank` carriers."""
    return {
        "blind": System(1, 0, last=0),
        "window4": System(4, 4, "fifo", last=4),
        "uniform": System(max(1, bank // 2), 0, "uniform"),
        "carriers": System(bank, 0),
        "hybrid": System(bank, 4),
        "full": System(frames, frames, "fifo"),
    }


def stream(seed: int, frames: int, px: int) -> tuple[list[Frame], Clip]:
    """A fresh street as absorbed frames, and what it showed."""
    rng = np.random.default_rng((SEED, seed))
    times = sample_times(rng, frames)
    street = Street(int(rng.integers(2**31, 2**32)), float(times[-1]) + 1.0, empty=float(rng.uniform(0.05, 0.9)))
    pictures = [street.render(float(t_s), px, px) for t_s in times]
    shown = enumerate(zip(times.tolist(), pictures, strict=True))
    made = [Frame("street", number, 0, at_s, at_s, picture) for number, (at_s, picture) in shown]
    return made, Clip.of(street, list(times))


def questions(seed: int, clip: Clip, frames: int) -> list[Question]:
    """One question of every kind, each after a random frame of the second half, where there is something to forget."""
    rng = np.random.default_rng((SEED + 1, seed))
    found = []
    for kind in KINDS:
        for _ in range(8):
            question = ask(clip, kind, int(rng.integers(frames // 2, frames)), rng)
            if question is not None:
                found.append(question)
                break
    return found


class Memory:
    """A bank for one system over one stream."""

    def __init__(self, encoder: Encoder, system: System) -> None:
        self.encoder, self.system = encoder, system
        model = encoder.model
        self.scheme = TABLE[model.geometry.positions](len(model.system()), model.geometry.visual)
        self.bank = self._bank()
        self.seen: list[Frame] = []

    def absorb(self, frame: Frame) -> None:
        """Remember one frame."""
        self.seen.append(frame)
        if self.system.last is None:
            _absorb(self.encoder, self.bank, frame)

    def view(self) -> MemoryView:
        """What a question reads now."""
        if self.system.last is None:
            return self.bank.fork()
        bank = self._bank()
        for frame in self.seen[len(self.seen) - self.system.last :]:
            _absorb(self.encoder, bank, frame)
        return bank.fork()

    def _bank(self) -> MemoryBank:
        policy = Policy(
            Budget(self.system.carriers, self.system.detail),
            retain.make({self.system.retain: {}}),
            recall.make({"all": {}}),
            self.scheme,
        )
        return MemoryBank("street", self.encoder.model.geometry, policy)


def _absorb(encoder: Encoder, bank: MemoryBank, frame: Frame) -> None:
    work = Work(frame, bank.past(frame.wall_s), bank.next_positions(frame.wall_s))
    bank.add(encoder.absorb([work])[0])


def say(model: Model, memory: Memory, view: MemoryView, question: str) -> str:
    """The answer from `view`; an empty view leaves the model the question alone."""
    ids = model.question_ids(question)
    if not view:
        view = replace(view, moments=(Moment(0, Span(0.0, 0.0), b""),))  # a session wants something to name
    session = Session(model, memory.scheme, [view], ids, MAX_TOKENS)
    while not session.done:
        session.step()
    return session.text(0)


def play(model: Model, count: int, frames: int, bank: int) -> Iterator[tuple[str, Question, bool]]:
    """(system, question, right) for `count` streams."""
    encoder = Encoder(model, carrier.make({"mean": {}}))
    for seed in tqdm(range(count), desc="streams", file=sys.stderr):
        pictures, clip = stream(seed, frames, model.geometry.image_px)
        asked = questions(seed, clip, frames)
        for name, system in systems(frames, bank).items():
            memory = Memory(encoder, system)
            for frame in pictures:
                memory.absorb(frame)
                for question in asked:
                    if question.step == frame.index:
                        yield name, question, say(model, memory, memory.view(), question.text) == question.answer


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="tiny", help="`tiny`, a directory or a hub id")
    parser.add_argument("--streams", type=int, default=400)
    parser.add_argument("--frames", type=int, default=16, help="absorbed frames a stream")
    parser.add_argument("--bank", type=int, default=16, help="carriers")
    parser.add_argument("--quick", action="store_true", help="40 streams")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    args = parser.parse_args()
    count = 40 if args.quick else args.streams
    torch.set_num_threads(1)  # batches of one frame: more threads only wait for one another
    model = open_model(args.checkpoint)
    right: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for name, question, ok in play(model, count, args.frames, args.bank):
        right[name][question.kind].append(ok)
        right[name]["all"].append(ok)
    table = {
        name: {kind: round(sum(found) / len(found), 4) for kind, found in sorted(kinds.items())}
        for name, kinds in right.items()
    }
    columns = (*KINDS, "all")
    print(f"{count} streams of {args.frames} frames, bank of {args.bank}, {model.geometry.name}; accuracy in %")
    print(f"{'':10}" + "".join(f"{kind:>8}" for kind in columns))
    for name, kinds in table.items():
        print(f"{name:10}" + "".join(f"{100 * kinds.get(kind, float('nan')):8.1f}" for kind in columns))
    asked = len(right["carriers"]["all"])
    place = {"model": model.geometry.name, "machine": machine(), "commit": commit(), "date": date()}
    drawn = {"streams": count, "frames": args.frames, "bank": args.bank}
    result = {"bench": "accuracy", "n": asked, **drawn, "systems": table, **place}
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
