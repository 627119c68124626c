"""When a standing question's probability of yes is said to be so. Pure: a state and a moment give the next state.

    P(yes) of a camera --hysteresis--> so there? --any camera--> raw --debounce--> held --for_s, cooldown_s--> event

Cameras that see the same moment are one event: raw is so as long as any of them says so, and gaps shorter than the
debounce do not end it. What was not evaluated is as it was: a picture that does not change is not looked at again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from pydantic import ConfigDict

from daemon.watch.spec import WatchSpec

HOUR_S = 3600.0
MAX_STARTS = 7200  # in the last hour, of which the oldest are given up
SLEWED_S = 60.0  # cameras' stamps are not in order; a clock that goes back further was set
Kind = Literal["new", "update", "end"]
_WHOLE = ConfigDict(extra="forbid")  # of a saved state every key is known


@dataclass(frozen=True, slots=True)
class Event:
    """One happening. Times are epoch seconds."""

    __pydantic_config__: ClassVar[ConfigDict] = _WHOLE

    id: str
    start_s: float  # since when it is so, as far as is known
    end_s: float | None = None  # until when; None: still so
    cameras: tuple[str, ...] = ()  # that saw it, in order
    top: float = 0.0  # the highest probability of yes
    open: bool = True
    reason: str = ""  # why it ended: `over`, or what else came between


@dataclass(frozen=True, slots=True)
class Reading:
    """What a camera's memory says."""

    __pydantic_config__: ClassVar[ConfigDict] = _WHOLE

    probability: float
    so: bool  # with hysteresis


@dataclass(frozen=True, slots=True)
class State:
    """Everything the future depends on."""

    __pydantic_config__: ClassVar[ConfigDict] = _WHOLE

    now_s: float = 0.0
    readings: dict[str, Reading] = field(default_factory=dict)
    rose_s: float | None = None  # some camera says so, since then
    held_s: float | None = None  # longer than the debounce: since then
    fell_s: float | None = None  # while held: no camera says so any more, since then
    ended_s: float | None = None  # when the last event's end was said
    event: Event | None = None  # the open one
    starts: tuple[float, ...] = ()  # when events of the last hour were said

    @property
    def on(self) -> bool:
        """Whether an event is open."""
        return self.event is not None

    def last_hour(self, now_s: float) -> int:
        """Events that began in the hour before `now_s`."""
        return sum(start_s > now_s - HOUR_S for start_s in self.starts)


@dataclass(frozen=True, slots=True)
class Transition:
    """What is to be told. `before` of a `new` event is the same one, not yet open."""

    type: Kind
    before: Event
    after: Event


Next = tuple[State, tuple[Transition, ...]]


def step(name: str, spec: WatchSpec, state: State, now_s: float, seen: Mapping[str, float | None]) -> Next:
    """The state at `now_s`, after the cameras in `seen` said yes with these probabilities; None: not evaluated."""
    state = _clocked(state, now_s)
    state, told = _advance(name, spec, state)  # what was so until now may have been so for long enough
    readings = dict(state.readings)
    for camera, probability in seen.items():
        if probability is not None:
            was = camera in readings and readings[camera].so
            limit = spec.off_below if was else spec.on_above
            readings[camera] = Reading(probability=probability, so=probability >= limit)
    state, more = _advance(name, spec, _weighed(state, readings))
    return state, told + more


def lose(name: str, spec: WatchSpec, state: State, now_s: float, camera: str) -> Next:
    """`camera` sees nothing any more: what it said counts no longer."""
    state, told = step(name, spec, state, now_s, {})
    rest = {other: reading for other, reading in state.readings.items() if other != camera}
    state, more = _advance(name, spec, _weighed(state, rest))
    return state, told + more


def close(state: State, now_s: float, reason: str) -> Next:
    """The question is not put for now: an open event ends, and nothing that was seen counts any more."""
    state = _clocked(state, now_s)
    told: tuple[Transition, ...] = ()
    ended_s = state.ended_s
    if state.event is not None:
        told, ended_s = (_end(state.event, state.now_s, reason),), state.now_s
    return State(now_s=state.now_s, ended_s=ended_s, starts=state.starts), told


def _end(event: Event, end_s: float, reason: str) -> Transition:
    after = replace(event, end_s=max(end_s, event.start_s), open=False, reason=reason)
    return Transition(type="end", before=event, after=after)


def _clocked(state: State, now_s: float) -> State:
    """At `now_s`. Of a clock that was set back only what is past is moved along: lengths stay what they are."""
    back_s = state.now_s - now_s
    if back_s <= SLEWED_S:
        return replace(state, now_s=max(now_s, state.now_s))
    rose_s, held_s, fell_s, ended_s = (
        None if value is None else value - back_s for value in (state.rose_s, state.held_s, state.fell_s, state.ended_s)
    )
    starts = tuple(start_s - back_s for start_s in state.starts)
    moved = replace(state, rose_s=rose_s, held_s=held_s, fell_s=fell_s, ended_s=ended_s)
    return replace(moved, now_s=now_s, starts=starts)


def _weighed(state: State, readings: dict[str, Reading]) -> State:
    """With new readings: whether any says so may change."""
    was, so = any(item.so for item in state.readings.values()), any(item.so for item in readings.values())
    rose_s, fell_s = state.rose_s, state.fell_s
    if so and not was:
        fell_s = None
        rose_s = state.now_s if state.held_s is None else rose_s
    elif was and not so:
        rose_s, fell_s = (None, fell_s) if state.held_s is None else (rose_s, state.now_s)
    return replace(state, readings=readings, rose_s=rose_s, fell_s=fell_s)


def _advance(name: str, spec: WatchSpec, state: State) -> Next:
    """What has become so, with the readings as they are, until the state's own time."""
    now_s = state.now_s
    if state.held_s is None and state.rose_s is not None and now_s - state.rose_s >= spec.debounce_s:
        state = replace(state, held_s=state.rose_s)
    if state.fell_s is not None and now_s - state.fell_s >= spec.debounce_s:
        fell_s = state.fell_s
        event = state.event
        state = replace(state, rose_s=None, held_s=None, fell_s=None)
        if event is not None:
            ended = replace(state, event=None, ended_s=now_s)
            return ended, (_end(event, fell_s, "over"),)
    cool = state.ended_s is None or now_s - state.ended_s >= spec.cooldown_s
    if state.held_s is None or state.fell_s is not None:
        return state, ()
    seeing = {camera: item.probability for camera, item in state.readings.items() if item.so}
    if state.event is not None:
        return _updated(state, state.event, seeing)
    if now_s - state.held_s < spec.for_s or not cool:
        return state, ()
    event = Event(
        id=f"{name}-{round(1000 * state.held_s)}",
        start_s=state.held_s,
        cameras=tuple(seeing),
        top=max(seeing.values()),
    )
    recent = (*(start_s for start_s in state.starts if start_s > now_s - HOUR_S), now_s)[-MAX_STARTS:]
    state = replace(state, event=event, starts=recent)
    return state, (Transition(type="new", before=replace(event, open=False), after=event),)


def _updated(state: State, event: Event, seeing: Mapping[str, float]) -> Next:
    """An open event that one more camera sees is told again; a higher probability is only kept."""
    fresh = tuple(camera for camera in seeing if camera not in event.cameras)
    after = replace(event, cameras=event.cameras + fresh, top=max((event.top, *seeing.values())))
    told = (Transition(type="update", before=event, after=after),) if fresh else ()
    return replace(state, event=after), told
