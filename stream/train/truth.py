"""What a sequence of absorbed frames showed, exactly: the ground that questions and their answers stand on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from stream.train.events import Event
from stream.train.script import STATES
from stream.train.things import COLOURS, KINDS, PAINTS, Thing
from stream.train.world import Street

SEEN, SLIVER = 0.5, 0.02  # visible share from which a thing is there, and up to which it is not
MOVERS = tuple(kind for kind in KINDS if kind != "parcel")
WHERES = ("left", "middle", "right")
WAYS = ("to the left", "to the right")
BORDER = 0.03  # around the thirds nobody can say where a thing is

NONE, NOTHING = "none", "nothing"
SIGHTS: dict[str, tuple[str, ...]] = {  # what can be told of a frame, one of each: a probe has a head for every entry
    "kind": (NOTHING, *KINDS),
    "colour": tuple(COLOURS),
    "where": WHERES,
    "way": WAYS,
    "hour": ("day", "night", "black"),
    **{kind: (NONE, *states) for kind, states in STATES.items()},
}
FACTS: tuple[str, ...] = (  # and what may be true of several things at once
    *KINDS,
    *(f"{colour} {kind}" for kind in MOVERS for colour in PAINTS[kind]),
)
UNSURE = -100
CLEAR, LITTLE = 0.3, 0.05  # share of a cell from which a thing stands in it, and up to which it does not
_AT = {name: place for place, name in enumerate(FACTS)}
MOST = 9  # things that anybody is asked to count
RECAP: tuple[int, ...] = (len(SIGHTS["kind"]), len(SIGHTS["colour"]), MOST + 1)  # values of each entry of `recaps`


@dataclass(frozen=True)
class Truth:
    """The visible share and place of every event in every frame, and the state of all else. Times in seconds."""

    times_s: np.ndarray  # float64 [F]
    events: tuple[Event, ...]  # those that touch any of the frames, by first_s
    share: np.ndarray  # float64 [F, E]; 0 in black frames
    centre: np.ndarray  # float64 [F, E] share of the picture's width
    boxes: np.ndarray  # float64 [F, E, 4] left, top, right, bottom, shares of the picture; 0 where it is not in view
    fixtures: Mapping[str, tuple[str, ...]]  # kind -> state in each frame; what the street lacks is absent
    light: tuple[str, ...]
    fault: tuple[str, ...]
    coloured: np.ndarray  # bool [F]

    @classmethod
    def of(cls, street: Street, times_s: Sequence[float]) -> Truth:
        """The truth about `street` sampled at `times_s`, ascending; a frozen picture shows the moment it froze.

        Raises ValueError for a time inside a gap.
        """
        count = len(times_s)
        touched: dict[int, tuple[Event, list[tuple[int, float]]]] = {}
        fault = tuple(street.fault(t_s) for t_s in times_s)
        if "gap" in fault:
            raise ValueError(f"no picture at {times_s[fault.index('gap')]:.1f} s: nothing was absorbed in that gap")
        shown_s = [_shown(street, t_s, kind) for t_s, kind in zip(times_s, fault, strict=True)]
        for frame, t_s in enumerate(shown_s):
            for event, share in street.at(t_s):
                touched.setdefault(id(event), (event, []))[1].append((frame, 0.0 if fault[frame] == "black" else share))
        found = sorted(touched.values(), key=lambda item: item[0].first_s)
        shares, centres = np.zeros((count, len(found))), np.full((count, len(found)), -1.0)
        boxes = np.zeros((count, len(found), 4))
        for column, (event, shown) in enumerate(found):
            for frame, share in shown:
                shares[frame, column] = share
                centres[frame, column] = event.centre(shown_s[frame])
                boxes[frame, column] = event.box(shown_s[frame])
        return cls(
            times_s=np.asarray(times_s, dtype=np.float64),
            events=tuple(event for event, _ in found),
            share=shares,
            centre=centres,
            boxes=boxes,
            fixtures={item.kind: tuple(item.state(t_s) for t_s in shown_s) for item in street.fixtures},
            light=tuple(street.light(t_s) for t_s in shown_s),
            fault=fault,
            coloured=np.asarray([street.coloured(t_s) for t_s in shown_s], dtype=bool),
        )

    @cached_property
    def begun(self) -> np.ndarray:
        """Largest visible share of every event up to each frame, float64 [F, E]."""
        return np.maximum.accumulate(self.share, axis=0) if len(self.events) else self.share

    def frames_of(self, event: int, step: int) -> tuple[int, ...]:
        """Frames up to `step` in which event number `event` is there."""
        return tuple(np.flatnonzero(self.share[: step + 1, event] >= SEEN).tolist())

    def thing(self, event: int, step: int) -> Thing:
        """How event number `event` is called by one who saw frames up to `step`: in infrared without a colour."""
        frames = list(self.frames_of(event, step)) or np.flatnonzero(self.share[: step + 1, event] > 0).tolist()
        known = self.events[event].thing
        return known if self.coloured[frames].any() else Thing(known.kind, "")

    def unclear(self, step: int) -> list[int]:
        """Events of which no more than a part was ever seen up to `step`: nobody can say whether they passed."""
        best = self.begun[step]
        return np.flatnonzero((best > SLIVER) & (best < SEEN)).tolist() if len(best) else []

    def seen(self, step: int) -> list[int]:
        """Events that were there in some frame up to `step`, by their first such frame."""
        best = self.begun[step]
        there = np.flatnonzero(best >= SEEN).tolist() if len(best) else []
        return sorted(there, key=lambda event: (int(np.argmax(self.share[:, event] >= SEEN)), event))

    def now(self, step: int) -> list[int] | None:
        """Events in view at `step`, in naming order; None while one of them is only a sliver."""
        share = self.share[step]
        if ((share > SLIVER) & (share < SEEN)).any():
            return None
        there = np.flatnonzero(share >= SEEN).tolist()
        return sorted(there, key=lambda event: rank(self.events[event].thing))

    def where(self, event: int, step: int) -> str:
        """`left`, `middle` or `right`; "" at a border."""
        at = float(self.centre[step, event])
        if min(abs(at - 1 / 3), abs(at - 2 / 3)) < BORDER:
            return ""
        return WHERES[int(at > 1 / 3) + int(at > 2 / 3)]


def _shown(street: Street, t_s: float, fault: str) -> float:
    """The moment that the picture at `t_s` shows."""
    if fault != "frozen":
        return t_s
    return next(item.first_s - 1e-3 for item in street.faults if item.first_s <= t_s < item.last_s)


def rank(thing: Thing) -> tuple[int, int]:
    """The order in which several things are named: by kind, then by colour."""
    colours = PAINTS[thing.kind]
    return KINDS.index(thing.kind), colours.index(thing.colour) if thing.colour else -1


def facts(truth: Truth) -> np.ndarray:
    """Which of FACTS hold in each frame: int8 [F, len(FACTS)], 1 it does, 0 it does not, -1 nobody can say."""
    found = np.zeros((len(truth.times_s), len(FACTS)), dtype=np.int8)
    for frame, row in enumerate(found):
        share = truth.share[frame]
        for event in sorted(np.flatnonzero(share > SLIVER).tolist(), key=lambda number: float(share[number])):
            thing, value = truth.events[event].thing, 1 if share[event] >= SEEN else -1  # the clearer of two alike wins
            row[_AT[thing.kind]] = value
            if truth.coloured[frame] and thing.kind != "parcel":
                row[_AT[f"{thing.colour} {thing.kind}"]] = value
            elif thing.kind != "parcel":
                row[[_AT[f"{colour} {thing.kind}"] for colour in PAINTS[thing.kind]]] = -1
    return found


def sights(truth: Truth) -> np.ndarray:
    """int64 [F, len(SIGHTS)]: each frame's place in every entry of SIGHTS; UNSURE where nobody can say.

    Kind, colour, where and way are told of frames with one thing or none in view.
    """
    found = np.full((len(truth.times_s), len(SIGHTS)), UNSURE, dtype=np.int64)
    names = list(SIGHTS)
    for frame, row in enumerate(found):
        if truth.fault[frame] == "black":
            row[names.index("hour")] = SIGHTS["hour"].index("black")
            continue
        said = dict(_alone(truth, frame))
        said.update(dict.fromkeys(STATES, NONE) | {kind: states[frame] for kind, states in truth.fixtures.items()})
        if truth.light[frame] != "dusk":
            said["hour"] = "day" if truth.light[frame] == "day" else "night"
        for name, value in said.items():
            row[names.index(name)] = SIGHTS[name].index(value)
    return found


def _alone(truth: Truth, frame: int) -> Iterator[tuple[str, str]]:
    """What is told of the only thing in view."""
    here = truth.now(frame)
    if here is None or len(here) > 1:
        return
    if not here:
        yield "kind", NOTHING
        return
    event = truth.events[here[0]]
    yield "kind", event.thing.kind
    if truth.coloured[frame] and event.direction:
        yield "colour", event.thing.colour
    if event.direction:
        yield "way", WAYS[event.direction > 0]
    if where := truth.where(here[0], frame):
        yield "where", where


def cells(truth: Truth, grid: tuple[int, int]) -> np.ndarray:
    """What stands in every cell of a picture of `grid` (rows, columns): int64 [F, rows*columns, 2].

    Places in SIGHTS["kind"] and SIGHTS["colour"], UNSURE where a thing covers only a little of a cell, or two do.
    A grid of (0, 0), of a model whose cells are not taught, has none.
    """
    rows, columns = grid
    found = np.zeros((len(truth.times_s), rows, columns, 2), dtype=np.int64)
    if not found.size:
        return found.reshape(len(found), 0, 2)
    found[..., 1] = UNSURE
    left, top = np.arange(columns)[None, None] / columns, np.arange(rows)[None, :, None] / rows
    for frame in range(len(found)):
        there = np.flatnonzero(truth.share[frame] > 0)
        if not len(there):
            continue
        box = truth.boxes[frame, there][:, None, None]  # [n, 1, 1, 4]
        wide = np.minimum(box[..., 2], left + 1 / columns) - np.maximum(box[..., 0], left)
        high = np.minimum(box[..., 3], top + 1 / rows) - np.maximum(box[..., 1], top)
        cover = wide.clip(0) * high.clip(0) * rows * columns  # [n, rows, columns] share of each cell
        best, most = cover.argmax(0), cover.max(0)
        clear, some = (most >= CLEAR) & ((cover >= LITTLE).sum(0) == 1), most >= LITTLE
        kinds = np.asarray([SIGHTS["kind"].index(truth.events[event].thing.kind) for event in there])
        colours = np.asarray([SIGHTS["colour"].index(truth.events[event].thing.colour) for event in there])
        found[frame, ..., 0] = np.where(clear, kinds[best], np.where(some, UNSURE, 0))
        if truth.coloured[frame]:
            found[frame, ..., 1] = np.where(clear, colours[best], UNSURE)
    return found.reshape(len(found), rows * columns, 2)


def recaps(truth: Truth, held: Sequence[frozenset[int]]) -> np.ndarray:
    """What passed before the thing that each frame shows, or last where it shows none, and how many passed by then.

    `held`: the frames that the memory still holds when each frame comes; what it no longer holds is not asked of it.
    int64 [F, 3]: places in SIGHTS["kind"] and SIGHTS["colour"], a count up to MOST; UNSURE where nobody can say.
    """
    found = np.full((len(truth.times_s), len(RECAP)), UNSURE, dtype=np.int64)
    movers = [number for number, event in enumerate(truth.events) if event.thing.kind in MOVERS]
    for step, (row, known) in enumerate(zip(found, held, strict=True)):
        if truth.fault[step] == "black" or any(number in movers for number in truth.unclear(step)):
            continue
        begun = {number: truth.frames_of(number, step) for number in truth.seen(step) if number in movers}
        remembered = {number for number, frames in begun.items() if known & set(frames)}
        share = truth.share[step]
        here = [number for number in movers if share[number] > SLIVER]
        if len(begun) <= MOST and all(number in remembered or number in here for number in begun):
            row[2] = len(begun)
        if len(here) > 1 or any(share[number] < SEEN for number in here):
            continue
        until = begun[here[0]][0] if here else step + 1
        past = [number for number, frames in begun.items() if number not in here and frames[0] <= until]
        firsts = [begun[number][0] for number in past[-2:]]
        if not past:
            row[0] = SIGHTS["kind"].index(NOTHING)
        elif firsts[-1] < until and len(set(firsts)) == len(firsts) and past[-1] in remembered:
            thing = truth.thing(past[-1], step)
            row[0] = SIGHTS["kind"].index(thing.kind)
            row[1] = SIGHTS["colour"].index(thing.colour) if thing.colour else UNSURE
    return found
