"""What the makers of questions share: the moment at which one is asked, and a draft of question and answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np

from stream.train.events import Event
from stream.train.things import PAINTS, Thing
from stream.train.truth import MOVERS, SLIVER, Truth

NOT_SEEN, NOTHING, YES, NO, BLACK = "I have not seen that", "nothing", "yes", "no", "the picture is black"


@dataclass(frozen=True, slots=True)
class Draft:
    """A question without its wording."""

    template: str
    answer: str
    slots: tuple[tuple[str, str], ...] = ()
    evidence: tuple[int, ...] = ()
    needs: tuple[tuple[int, ...], ...] = ()  # of each of these groups one frame must still be remembered
    span_s: tuple[float, float] | None = None


@dataclass(frozen=True)
class Moment:
    """After frame `step` of what `truth` tells."""

    truth: Truth
    step: int
    rng: np.random.Generator
    _frames: dict[int, tuple[int, ...]] = field(default_factory=dict)

    @property
    def black(self) -> bool:
        """Whether the newest frame is black."""
        return self.truth.fault[self.step] == "black"

    @cached_property
    def seen(self) -> list[int]:
        """Events that were there in some frame, in order."""
        return self.truth.seen(self.step)

    @cached_property
    def movers(self) -> list[int]:
        """Those of them that pass: all but parcels."""
        return [event for event in self.seen if self.event(event).thing.kind != "parcel"]

    @cached_property
    def unclear(self) -> list[int]:
        """Events of which only a part was ever seen."""
        return self.truth.unclear(self.step)

    @cached_property
    def muddled(self) -> bool:
        """Whether it is unclear what passed, or in which order."""
        firsts = [self.frames(event)[0] for event in self.movers]
        if any(self.event(event).direction for event in self.unclear) or len(set(firsts)) < len(firsts):
            return True
        parts = [int((self.truth.share[: self.step + 1, event] > SLIVER).argmax()) for event in self.movers]
        return any(
            later <= before for before, later in pairwise(parts)
        )  # one came into view first, the other was clear first

    def event(self, number: int) -> Event:
        """Event number `number`."""
        return self.truth.events[number]

    def frames(self, event: int) -> tuple[int, ...]:
        """Frames up to now in which it is there."""
        if event not in self._frames:
            self._frames[event] = self.truth.frames_of(event, self.step)
        return self._frames[event]

    def thing(self, event: int) -> Thing:
        """What it is called."""
        return self.truth.thing(event, self.step)

    def span_s(self, frames: Sequence[int]) -> tuple[float, float]:
        """First and last time of `frames`."""
        return float(self.truth.times_s[frames[0]]), float(self.truth.times_s[frames[-1]])

    def pick(self, items: Sequence[int]) -> int:
        """One of `items`."""
        return items[int(self.rng.integers(len(items)))]

    def matches(self, thing: Thing) -> list[int]:
        """Events, unclear ones included, that `thing` may be a name of."""
        found = []
        for event in (*self.seen, *self.unclear):
            known = self.thing(event)
            if known.kind == thing.kind and (not thing.colour or not known.colour or known.colour == thing.colour):
                found.append(event)
        return found

    def reference(self, event: int) -> Thing | None:
        """A name for `event` that fits nothing else; sometimes its kind alone."""
        own = self.thing(event)
        names = [own, Thing(own.kind, "")] if own.colour and own.kind != "parcel" else [own]
        if len(names) > 1 and self.rng.random() < 0.3:
            names.reverse()
        return next((name for name in names if self.matches(name) == [event]), None)

    def named(self, events: Sequence[int]) -> tuple[int, Thing] | None:
        """One of `events` that has a name of its own, with that name."""
        order = self.rng.permutation(len(events)).tolist()
        for place in order[:4]:
            name = self.reference(events[place])
            if name is not None:
                return events[place], name
        return None

    def stranger(self, colourless: bool = False) -> Thing | None:
        """A thing that was never shown, not even in part: often the right kind in another colour."""
        rng = self.rng
        for _ in range(6):
            kind = MOVERS[int(rng.integers(len(MOVERS)))]
            if self.movers and rng.random() < 0.5:
                kind = self.event(self.pick(self.movers)).thing.kind
            plain = colourless or rng.random() < 0.3
            thing = Thing(kind, "" if plain else PAINTS[kind][int(rng.integers(len(PAINTS[kind])))])
            if not self.matches(thing):
                return thing
        return None
