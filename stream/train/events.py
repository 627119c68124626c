"""What may happen on a street: things on their way, fixtures that change, cameras that fail. Times in seconds."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from stream.train.things import SIZES, Thing

HAND = 0.075  # how far ahead of a carrier's middle a parcel is held, share of the picture's width


@dataclass(frozen=True, slots=True)
class Event:
    """One thing from when it first touches the picture to when it last does.

    A parcel travels in somebody's hands until `halt[0]`, lies until `halt[1]`, and travels again; its direction is 0.
    """

    thing: Thing
    first_s: float
    last_s: float
    direction: int  # +1 left to right, -1 right to left, 0 does not travel by itself
    scale: float = 1.0
    ground: float = 0.7  # where its feet are, share of the picture's height
    halt: tuple[float, float] = (0.0, 0.0)  # it stands still from .. to; equal: it never does
    wave: float = 0.0  # height of a bird's path, share of the picture's height
    laden: tuple[float, float] = (0.0, 0.0)  # it carries a parcel from .. to
    carriers: tuple[Event, ...] = ()  # of a parcel: who brings it and who takes it away

    @property
    def length(self) -> float:
        """Share of the picture's width."""
        return SIZES[self.thing.kind][0] * self.scale

    @property
    def tall(self) -> float:
        """Share of the picture's height."""
        return SIZES[self.thing.kind][1] * self.scale

    @property
    def speed(self) -> float:
        """Shares of the picture's width a second, while it moves."""
        return (1 + self.length) / (self.last_s - self.first_s - (self.halt[1] - self.halt[0]))

    def centre(self, t_s: float) -> float:
        """Where its middle is, share of the picture's width; outside 0..1 where it is off the picture."""
        if self.carriers:
            carrier = self.carriers[-1] if t_s > self.halt[1] else self.carriers[0]
            return carrier.centre(min(t_s, self.halt[0]) if t_s <= self.halt[1] else t_s) + carrier.direction * HAND
        if self.direction == 0:
            return 0.5
        stop_s, go_s = self.halt
        walked_s = t_s if t_s <= stop_s or stop_s == go_s else max(stop_s, t_s - (go_s - stop_s))
        at = -self.length / 2 + (walked_s - self.first_s) * self.speed
        return at if self.direction > 0 else 1 - at

    def visible(self, t_s: float) -> float:
        """Share of the thing that is inside the picture, 0..1."""
        if not self.first_s <= t_s <= self.last_s:
            return 0.0
        half = self.length / 2
        at = self.centre(t_s)
        if half <= at <= 1 - half:
            return 1.0
        return max(0.0, min(1.0, at + half) - max(0.0, at - half)) / (2 * half)

    def moving(self, t_s: float) -> bool:
        """Whether it is in the picture and moves."""
        return self.first_s <= t_s <= self.last_s and not self.halt[0] <= t_s < self.halt[1]

    def lift(self, t_s: float) -> float:
        """How far above its ground it is held, share of the picture's height; 0 for all but a carried parcel."""
        if not self.carriers or self.halt[0] <= t_s <= self.halt[1]:
            return 0.0
        bearer = self.carriers[0] if t_s < self.halt[0] else self.carriers[-1]
        near_s = abs(t_s - self.halt[0 if t_s < self.halt[0] else 1])
        bend_s = self.halt[0] - bearer.halt[0] if t_s < self.halt[0] else bearer.halt[1] - self.halt[1]
        return 0.38 * bearer.tall * min(1.0, near_s / bend_s)

    def rise(self, t_s: float) -> float:
        """How far its feet are above its ground, share of the picture's height: carried parcels, flying birds."""
        return self.lift(t_s) + self.wave * math.sin((t_s - self.first_s) * 2.5)

    def box(self, t_s: float) -> tuple[float, float, float, float]:
        """Left, top, right, bottom, shares of the picture; parts may lie outside it."""
        at, feet = self.centre(t_s), self.ground - self.rise(t_s)
        return at - self.length / 2, feet - self.tall, at + self.length / 2, feet


@dataclass(frozen=True, slots=True)
class Change:
    """A state from `at_s` on."""

    at_s: float
    state: str


@dataclass(frozen=True, slots=True)
class Fixture:
    """A thing that is always there and changes: a gate (open, closed), a light (red, green), a sign (one of WORDS)."""

    kind: str
    changes: tuple[Change, ...]  # the first at 0.0

    def state(self, t_s: float) -> str:
        """Its state at `t_s`; before the start, that of the start."""
        return state_at(self.changes, t_s)


@dataclass(frozen=True, slots=True)
class Fault:
    """The camera is `frozen`, `black`, or gives no picture at all (`gap`), from first_s to last_s."""

    kind: str
    first_s: float
    last_s: float


def state_at(changes: Sequence[Change], t_s: float) -> str:
    """The state at `t_s` of what changes so."""
    return changes[max(0, bisect_right(changes, t_s, key=lambda change: change.at_s) - 1)].state
