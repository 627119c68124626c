"""What do 100 standing questions on 8 cameras cost, and what do 10? Streets, full memories, the daemon's own path.

    python bench/standing_cost.py [--checkpoint tiny] [--rounds 20] [--cameras 8] [--threads 0] [--quick] [--out FILE]

A round: one changed frame of every camera is absorbed in one batch, then every camera is asked all its questions, turn
by turn (`Watchman.turn`, so schedule, machines and events are in it). Sets of 10, 100 and 1 question take turns, all
over the same memories. The ten are every tenth of the hundred, which are all different: things by kind, colour and
wording, gate, light, picture, and what a plant asks of its halls and docks, in words that the model was not made for.

Milliseconds are the process's own processor time: with one thread, the time on a machine that does nothing else; the
clock's are in the JSON. `fixed` is the round of one question: what does not grow with their number. `pepe` is one
forward over the tree of all questions, `each` one forward a question, the baseline; `fork` the copies of memory alone.
`threads` 0 is the daemon's default. Ends with one JSON line; `--out` writes it to a file.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from where import commit, date, machine

from daemon.core import Core, build
from daemon.metrics import Counters
from daemon.outlook import Outlook
from daemon.replay import FileClock
from daemon.settings import parse
from daemon.watch.judge import Judge
from daemon.watch.spec import WatchingSettings, WatchSpec
from daemon.watch.watchman import Watchman
from memory.bank import MemoryBank
from stream.train.phrasings import names
from stream.train.script import Style
from stream.train.world import Street
from stream.types import Frame

CARRIERS, DETAIL = 48, 4
SEED = 3_000_000  # far from every seed of training
WARM = 2  # rounds that do not count
EACH_ROUNDS = 1  # the baseline is slow
SIZES = (10, 100, 1)  # questions, in turns
STYLE = Style(pause_s=1.5)


def hundred() -> list[str]:
    """100 questions that differ, as people put them; every tenth is a fair sample."""
    house = [f"is there {thing.name}?" for thing in names()]  # 55 things, with and without colour
    kinds = [thing.name for thing in names() if not thing.colour]
    wordings = ("do you see {a} now?", "is {a} in view?", "can you see {a} right now?", "is {a} visible now?")
    house += [wordings[number % len(wordings)].format(a=name) for number, name in enumerate(kinds)]
    house += [f"is the gate {state}{when}?" for state in ("open", "closed") for when in ("", " now", " right now")]
    house += ["please check if the gate is open", "the gate is closed, right?", "gate open?"]
    house += ["is the traffic light red?", "is the traffic light green now?", "is it night?"]
    house += ["is the picture ok?", "does the camera work now?", "can you see anything at all?", "is the gate shut?"]
    plant = [f"is the roller door of hall {hall} open?" for hall in range(1, 6)]
    plant += [f"is there a truck at dock {dock}?" for dock in range(1, 8)]
    plant += [f"is anybody inside the yellow line at press {press}?" for press in range(1, 5)]
    plant += [f"is there a forklift in lane {lane} without its light on?" for lane in (1, 2)]
    plant += ["is there smoke above the paint line?"]
    return house + plant


def ten() -> list[str]:
    """Every tenth of them."""
    return hundred()[5::10]


def questions(count: int) -> list[str]:
    """So many standing questions."""
    return {1: ten()[:1], 10: ten(), 100: hundred()}[count]


@dataclass(slots=True)
class Yard:
    """Cameras with their memories, and the frames to come."""

    core: Core
    clock: FileClock
    banks: dict[str, MemoryBank] = field(default_factory=dict)
    streets: dict[str, Street] = field(default_factory=dict)
    taken: int = 0  # frames of each camera

    def frames(self) -> list[Frame]:
        """The next one of every camera."""
        side = self.core.model.geometry.image_px
        self.taken += 1
        self.clock.now_s = at_s = float(self.taken)
        return [
            Frame(name, self.taken, 0, at_s, at_s, street.render(at_s, side, side), score=9.0)
            for name, street in self.streets.items()
        ]

    def absorb(self, frames: Sequence[Frame]) -> None:
        """As the engine does: all in one batch."""
        work = [self.banks[frame.camera].work(frame) for frame in frames]
        for frame, carrier in zip(frames, self.core.encoder.absorb(work), strict=True):
            self.banks[frame.camera].add(carrier)


def yard(core: Core, cameras: int, frames: int) -> Yard:
    """Streets that last so long, and banks filled from them."""
    made = Yard(core, FileClock(0.0))
    for number in range(cameras):
        name = f"cam{number}"
        made.streets[name] = Street(SEED + number, frames + CARRIERS + 20.0, STYLE)
        made.banks[name] = core.bank(name)
    for _ in tqdm(range(CARRIERS + 4), desc="filling memories", unit="frame"):
        made.absorb(made.frames())
    return made


def watchman(made: Yard, texts: Sequence[str], method: str | None = None) -> Watchman:
    """As the daemon builds it, with all the time it wants. `method`: of `memory/rules`; None: the daemon's."""
    model, positions = made.core.model, made.core.policy.positions
    judge = Judge.of(model, positions) if method is None else Judge.of(model, positions, method)
    outlook = Outlook(newest_s=lambda _camera: made.clock.now_s, clock=made.clock)
    settings = WatchingSettings(share=1.0)
    man = Watchman(judge, model.question_ids, settings, outlook, Counters(), lambda _told: None)
    man.exchange({f"q{number}": WatchSpec(question=text) for number, text in enumerate(texts)})
    return man


@dataclass(slots=True)
class Took:
    """Milliseconds of one piece of work."""

    cpu: float
    wall: float


def timed(work: Callable[[], object]) -> Took:
    """What `work` takes."""
    began_s, used_s = time.perf_counter(), time.process_time()
    work()
    return Took(1000 * (time.process_time() - used_s), 1000 * (time.perf_counter() - began_s))


def turns(man: Watchman, made: Yard, frames: Sequence[Frame]) -> None:
    """All that `frames` make due."""
    man.changed(frames)
    while man.due:
        man.turn(made.banks)


def measure(made: Yard, rounds: int) -> dict[str, list[Took]]:
    """A round's parts: absorbing, forking, and the questions by their number and method."""
    men = {f"{size}": watchman(made, questions(size)) for size in SIZES}
    men |= {f"pepe {size}": watchman(made, questions(size), "pepe") for size in SIZES[:2]}
    slow = {f"each {size}": watchman(made, questions(size), "each") for size in SIZES[:2]}
    found: dict[str, list[Took]] = {}
    for number in tqdm(range(WARM + rounds), desc="rounds", unit="round"):
        for name, man in {**men, **(slow if WARM <= number < WARM + EACH_ROUNDS else {})}.items():
            frames = made.frames()
            took = {
                "absorb": timed(partial(made.absorb, frames)),
                "fork": timed(lambda: [bank.fork(now_s=made.clock.now_s) for bank in made.banks.values()]),
                name: timed(partial(turns, man, made, frames)),
            }
            for key, value in took.items() if number >= WARM else ():
                found.setdefault(key, []).append(value)
    return found


def summary(found: dict[str, list[Took]], made: Yard) -> dict[str, Any]:
    """The JSON line."""
    mid = {name: statistics.median(took.cpu for took in values) for name, values in found.items()}
    wall = {name: statistics.median(took.wall for took in values) for name, values in found.items()}
    model = made.core.model
    tokens = {size: sum(len(model.question_ids(text)) for text in questions(size)) for size in SIZES}
    rounds = {name: mid["absorb"] + mid[name] for name in ("10", "100")}
    return {
        "bench": "standing_cost",
        "cameras": len(made.banks),
        "carriers": CARRIERS,
        "detail_frames": DETAIL,
        "threads": torch.get_num_threads(),
        "cpu_ms": {name: round(value, 2) for name, value in mid.items()},
        "wall_ms": {name: round(value, 2) for name, value in wall.items()},
        "question_tokens": tokens,
        "ratio": round(mid["100"] / mid["10"], 2),
        "ratio_round": round(rounds["100"] / rounds["10"], 2),
        "rules": model.geometry.rules,
        "ratio_pepe": round(mid["pepe 100"] / mid["pepe 10"], 2),
        "ratio_each": round(mid["each 100"] / mid["each 10"], 2),
        "ratio_wall": round(wall["100"] / wall["10"], 2),
        "fixed_share": {name: round(mid["1"] / mid[name], 2) for name in ("10", "100")},
        "rounds": len(found["100"]),
        "model": model.geometry.name,
        "machine": machine(),
        "commit": commit(),
        "date": date(),
    }


def show(result: dict[str, Any]) -> None:
    """The table."""
    own, cameras = result["cpu_ms"], result["cameras"]
    print(f"{result['machine']}, {result['threads']} threads; {cameras} cameras, model {result['model']}")
    print(f"{'ms a round':34} {'10':>9} {'100':>9} {'ratio':>7}")
    rows = [
        (f"questions ({result['rules']})", own["10"], own["100"]),
        ("questions, as one tree (pepe)", own["pepe 10"], own["pepe 100"]),
        ("questions, one by one (each)", own["each 10"], own["each 100"]),
        ("frames absorbed and questions", own["absorb"] + own["10"], own["absorb"] + own["100"]),
    ]
    for name, few, many in rows:
        print(f"{name:34} {few:9.1f} {many:9.1f} {many / few:7.2f}")
    print(
        f"one question {own['1']:.1f} ms, of that forks of memory {own['fork']:.1f}; absorbing {own['absorb']:.1f} ms"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="tiny")
    parser.add_argument("--rounds", type=int, default=20, help="of each number of questions")
    parser.add_argument("--cameras", type=int, default=8)
    parser.add_argument("--threads", type=int, default=0, help="0: the daemon's default, one core left free")
    parser.add_argument("--quick", action="store_true", help="a few rounds")
    parser.add_argument("--out", type=Path, help="write the JSON here too")
    wanted = parser.parse_args()
    rounds = 4 if wanted.quick else wanted.rounds
    raw = {
        "cameras": {"street": {"url": "file"}},
        "memory": {"carriers": CARRIERS, "detail_frames": DETAIL},
        "model": {"path": wanted.checkpoint, "device": "cpu", "threads": wanted.threads},
    }
    core = build(parse(raw, ""))
    made = yard(core, wanted.cameras, (WARM + rounds) * (len(SIZES) + 2) + 2 * EACH_ROUNDS)
    result = summary(measure(made, rounds), made)
    show(result)
    line = json.dumps(result)
    print(line)
    if wanted.out:
        wanted.out.write_text(line + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
