"""What happens on a street, and when: things that come and go, gates and lights that change, the camera's faults.

All of it is drawn from one generator before anything is rendered. Times are seconds from the street's start.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from stream.train.events import HAND, Change, Event, Fault, Fixture
from stream.train.things import KINDS, PAINTS, WORDS, Thing

LONG_S = 1200.0  # from here on a street's light may change
DAY_S = 86_400.0
APART_S = 6.0  # two things of one name keep this distance in time, but for REPEAT
REPEAT = 0.06


@dataclass(frozen=True, slots=True)
class Style:
    """What a street is drawn from; the defaults are an ordinary mix."""

    pause_s: float = 3.0  # mean empty time between happenings
    burst: float = 0.08  # chance that from here on happenings follow one another closely for a while
    meet: float = 0.12  # chance that a happening begins while another is in view
    parcels: float = 0.08  # chance that a happening is a delivery
    fixtures: tuple[str, ...] | None = None  # None: each of gate, light, sign is there with chance 0.5
    lights: tuple[str, ...] = ("day", "day", "day", "dusk", "night", "infrared")
    weather: bool = True  # rain, noise, shake, dirt on the lens
    faults: bool = False
    kinds: tuple[str, ...] = KINDS


@dataclass(frozen=True, slots=True)
class Script:
    """A street's whole course."""

    events: tuple[Event, ...]  # by first_s
    fixtures: tuple[Fixture, ...]
    faults: tuple[Fault, ...]
    lights: tuple[Change, ...]
    weather: tuple[Change, ...]  # "dry", "rain"


STATES = {"gate": ("open", "closed"), "light": ("red", "green"), "sign": WORDS}


def write(seed: int, seconds: float, style: Style) -> Script:
    """The script of a street of `seconds`; each part has a generator of its own, so none disturbs another."""
    rngs = [np.random.default_rng((seed, part)) for part in range(5)]
    return Script(
        events=_Cast(rngs[0], seconds, style).play(),
        fixtures=_fixtures(seed, seconds, style),
        faults=_faults(rngs[2], seconds) if style.faults else (),
        lights=_lights(rngs[3], seconds, style.lights),
        weather=_weather(rngs[4], seconds) if style.weather else (Change(0.0, "dry"),),
    )


LANES = {
    "sky": (0.16, 0.30),
    "pavement": (0.50, 0.57),
    "far": (0.68, 0.74),
    "near": (0.84, 0.90),
    "front": (0.96, 0.98),
}
_WAYS = {  # kind -> lanes it may take, seconds it takes to cross
    "person": (("pavement", "front"), (4.0, 7.0)),
    "car": (("far", "near"), (3.0, 5.0)),
    "truck": (("far", "near"), (3.5, 6.0)),
    "van": (("far", "near"), (3.0, 5.0)),
    "bus": (("far", "near"), (4.0, 6.0)),
    "bike": (("far", "near"), (3.5, 6.0)),
    "dog": (("pavement", "front"), (3.5, 6.5)),
    "cat": (("pavement", "front"), (3.5, 6.5)),
    "bird": (("sky",), (3.0, 4.5)),
}


def hidden(one: Event, other: Event) -> float:
    """The largest share of the one behind that the one in front can cover while they pass."""
    back, front = sorted((one, other), key=lambda event: event.ground)
    tall = max(0.0, back.ground - (front.ground - front.tall)) / back.tall
    return min(1.0, tall) * min(1.0, front.length / back.length)


@dataclass(slots=True)
class _Cast:
    """Draws the things that come and go, one happening after another."""

    rng: np.random.Generator
    seconds: float
    style: Style
    done: list[Event] = field(default_factory=list)
    reserved: Event | None = None  # who will fetch the parcel that lies there
    parcel_until_s: float = -1.0
    favourite: Thing | None = None

    def play(self) -> tuple[Event, ...]:
        """All events, by the time they begin."""
        rng, style = self.rng, self.style
        movers = [kind for kind in style.kinds if kind != "parcel"]
        if not movers:
            return ()
        if rng.random() < 0.35:
            self.favourite = self._thing(movers, 0.0)
        t_s, busy = float(rng.uniform(0.2, 3.0)), 0
        while t_s < self.seconds:
            busy = max(0, busy - 1) or (int(rng.integers(3, 9)) if rng.random() < style.burst else 0)
            end_s = self._happening(t_s, movers)
            t_s = end_s + 0.4 + float(rng.exponential(0.4 if busy else style.pause_s))
        return tuple(sorted(self.done, key=lambda event: event.first_s))

    def _happening(self, t_s: float, movers: list[str]) -> float:
        """Something begins at `t_s`; returns when the street is clear again."""
        rng, style = self.rng, self.style
        parcel = "parcel" in style.kinds and "person" in style.kinds and t_s > self.parcel_until_s
        group = self._delivery(t_s) if parcel and rng.random() < style.parcels else [self._mover(t_s, movers)]
        if len(group) == 1 and rng.random() < style.meet:
            group += self._second(group[0], movers)
        end_s = max(event.last_s for event in group if event.direction)
        if self.reserved is not None and end_s + 0.4 > self.reserved.first_s:
            end_s, self.reserved = self.reserved.last_s, None  # what was drawn here gives way to who fetches the parcel
            return end_s
        self.done += group
        if len(group) > 1 and group[-1].carriers:
            self._arrange(group[-1])
        return end_s

    def _arrange(self, parcel: Event) -> None:
        self.parcel_until_s = parcel.last_s
        if len(parcel.carriers) > 1:
            self.reserved = parcel.carriers[1]
            self.done.append(parcel.carriers[1])

    def _thing(self, movers: list[str], t_s: float) -> Thing:
        """One that was not in view just now, but for a small chance."""
        rng = self.rng
        near = {event.thing for event in self.done[-6:] if event.last_s > t_s - APART_S}
        if self.reserved is not None:
            near.add(self.reserved.thing)
        for _ in range(8):
            kind = movers[rng.integers(len(movers))]
            thing = Thing(kind, PAINTS[kind][rng.integers(len(PAINTS[kind]))])
            if self.favourite is not None and rng.random() < 0.3:
                thing = self.favourite
            if thing not in near or rng.random() < REPEAT:
                break
        return thing

    def _mover(self, t_s: float, movers: list[str]) -> Event:
        return self._walk(self._thing(movers, t_s), t_s)

    def _walk(self, thing: Thing, t_s: float, lane: str = "", halt_s: float = 0.0) -> Event:
        """`thing` crosses from `t_s` on; `halt_s` > 0: it stands for that long on its way."""
        rng = self.rng
        lanes, (quick_s, slow_s) = _WAYS[thing.kind]
        low, high = LANES[lane or lanes[rng.integers(len(lanes))]]
        walk_s = float(rng.uniform(quick_s, slow_s))
        if not halt_s and thing.kind != "bird" and rng.random() < 0.15:
            halt_s = float(rng.uniform(2.0, 6.0))
        stop_s = t_s + walk_s * float(rng.uniform(0.38, 0.62)) if halt_s else 0.0
        return Event(
            thing,
            t_s,
            t_s + walk_s + halt_s,
            1 if rng.random() < 0.5 else -1,
            scale=float(rng.uniform(0.88, 1.12)),
            ground=float(rng.uniform(low, high)),
            halt=(stop_s, stop_s + halt_s),
            wave=float(rng.uniform(0.01, 0.05)) if thing.kind == "bird" else 0.0,
        )

    def _second(self, first: Event, movers: list[str]) -> list[Event]:
        """Another that meets `first` without hiding it; none when none was found."""
        rng = self.rng
        for _ in range(6):
            at_s = float(rng.uniform(first.first_s + 0.5, first.last_s - 1.0))
            other = self._mover(at_s, movers)
            if other.thing != first.thing and hidden(first, other) < 0.45:
                return [other]
        return []

    def _delivery(self, t_s: float) -> list[Event]:
        """Somebody brings a parcel and leaves; the parcel lies until somebody else takes it away, or for ever."""
        rng = self.rng
        bringer = self._walk(self._thing(["person"], t_s), t_s, "front", 1.4)
        put_s = bringer.halt[0] + 0.8
        bringer = _carrying(bringer, (bringer.first_s - 5.0, put_s))
        lies_s = 5.0 + float(rng.exponential(25.0 if self.seconds < LONG_S else 120.0))
        stays = rng.random() < 0.3 and self.seconds - put_s < LONG_S
        carriers = [bringer]
        taken_s = end_s = max(self.seconds, put_s + lies_s)
        if not stays:
            fetcher = self._walk(self._other_person(bringer.thing), bringer.last_s + lies_s, "front", 1.4)
            taken_s = fetcher.halt[0] + 0.6
            carriers.append(_carrying(fetcher, (taken_s, fetcher.last_s + 5.0)))
        parcel = Event(
            Thing("parcel", "brown"), t_s, end_s, 0, ground=0.985, halt=(put_s, taken_s), carriers=(*carriers,)
        )
        reach = bringer.length / 2 - HAND - parcel.length / 2  # its front edge before its bringer's
        first_s = bringer.first_s + reach / bringer.speed
        if not stays:
            fetcher = carriers[1]
            away_s = fetcher.last_s - (HAND - parcel.length / 2 + fetcher.length / 2) / fetcher.speed
            end_s = max(away_s, taken_s)
        return [bringer, _lasting(parcel, first_s, end_s)]

    def _other_person(self, than: Thing) -> Thing:
        colours = [colour for colour in PAINTS["person"] if colour != than.colour]
        return Thing("person", colours[self.rng.integers(len(colours))])


def _carrying(event: Event, laden: tuple[float, float]) -> Event:
    return Event(
        event.thing,
        event.first_s,
        event.last_s,
        event.direction,
        scale=event.scale,
        ground=event.ground,
        halt=event.halt,
        laden=laden,
    )


def _lasting(parcel: Event, first_s: float, last_s: float) -> Event:
    return Event(parcel.thing, first_s, last_s, 0, ground=parcel.ground, halt=parcel.halt, carriers=parcel.carriers)


def _fixtures(seed: int, seconds: float, style: Style) -> tuple[Fixture, ...]:
    slow, found = max(1.0, (seconds / LONG_S) ** 0.5), []
    for number, kind in enumerate(STATES):
        rng = np.random.default_rng((seed, 9, number))  # its own, so that its first state does not depend on `seconds`
        if rng.random() < 0.5 if style.fixtures is None else kind in style.fixtures:
            found.append(Fixture(kind, _changes(rng, seconds, STATES[kind], 1.0 if kind == "light" else slow)))
    return tuple(found)


def _changes(rng: np.random.Generator, seconds: float, states: tuple[str, ...], slow: float) -> tuple[Change, ...]:
    """Changes every 8 to 60 s, `slow` times as rare."""
    state = int(rng.integers(len(states)))
    changes, t_s = [Change(0.0, states[state])], float(rng.uniform(3.0, 45.0)) * slow
    while t_s < seconds:
        state = (state + int(rng.integers(1, len(states)))) % len(states)
        changes.append(Change(t_s, states[state]))
        t_s += float(rng.uniform(8.0, 60.0)) * slow
    return tuple(changes)


def _faults(rng: np.random.Generator, seconds: float) -> tuple[Fault, ...]:
    faults, apart_s = [], float(np.clip(seconds / 2, 12.0, 900.0))
    t_s = float(rng.exponential(apart_s))
    while t_s < seconds:
        last_s = t_s + float(rng.uniform(3.0, 12.0) if seconds < LONG_S else rng.uniform(5.0, 60.0))
        faults.append(Fault(("frozen", "black", "gap")[rng.integers(3)], t_s, last_s))
        t_s = last_s + 2.0 + float(rng.exponential(apart_s))
    return tuple(faults)


def _lights(rng: np.random.Generator, seconds: float, allowed: tuple[str, ...]) -> tuple[Change, ...]:
    """One light for a short street; a day's course, from any hour on, for a long one."""
    dark = "night" if rng.random() < 0.5 else "infrared"
    hours = ((0.0, dark), (6.0, "dusk"), (7.0, "day"), (18.5, "dusk"), (19.5, dark), (24.0, dark))
    first = allowed[rng.integers(len(allowed))]
    if seconds < LONG_S:
        return (Change(0.0, first),)
    clock_s = float(rng.uniform(0.0, DAY_S))
    course: list[Change] = []
    for day in range(int((clock_s + seconds) // DAY_S) + 1):
        for (hour, state), (until, _) in pairwise(hours):
            at_s, end_s = (day * 24 + hour) * 3600 - clock_s, (day * 24 + until) * 3600 - clock_s
            mode = state if state in allowed else first
            if end_s > 0 and at_s < seconds and (not course or course[-1].state != mode):
                course.append(Change(max(0.0, at_s), mode))
    return tuple(course)


def _weather(rng: np.random.Generator, seconds: float) -> tuple[Change, ...]:
    state = int(rng.random() < 0.2)
    changes, t_s = [Change(0.0, ("dry", "rain")[state])], float(rng.uniform(1800.0, 10_800.0))
    while t_s < seconds:
        state = 1 - state
        changes.append(Change(t_s, ("dry", "rain")[state]))
        t_s += float(rng.uniform(1800.0, 10_800.0)) * (0.4 if state else 1.0)
    return tuple(changes)
