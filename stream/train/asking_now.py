"""Questions about what the newest frame shows, and what state things are in."""

from __future__ import annotations

from collections.abc import Callable

from stream.train.asking import BLACK, NO, NOT_SEEN, NOTHING, YES, Draft, Moment
from stream.train.things import Thing
from stream.train.truth import rank

SAID = {"left": "on the left", "middle": "in the middle", "right": "on the right"}


def _here(moment: Moment) -> list[int] | None:
    return None if moment.black else moment.truth.now(moment.step)


def _names(moment: Moment, events: list[int]) -> list[str]:
    """As the newest frame alone shows them: in infrared without colours."""
    things = [moment.event(event).thing for event in events]
    if not moment.truth.coloured[moment.step]:
        things = [Thing(thing.kind, "") for thing in things]
    return [thing.name for thing in sorted(things, key=rank)]


def _what(moment: Moment) -> Draft | None:
    if moment.black:
        return Draft("now_what", BLACK, evidence=(moment.step,))
    here = _here(moment)
    if here is None:
        return None
    names = _names(moment, here)
    if len(set(names)) < len(names):
        return None
    return Draft("now_what", " and ".join(names) or NOTHING, evidence=(moment.step,))


def _is(moment: Moment) -> Draft | None:
    here = _here(moment)
    if here is None:
        return None
    if not here and moment.rng.random() < 0.5:
        return None  # an empty street knows only one answer
    if here and moment.rng.random() < 0.6:
        event = moment.pick(here)
        thing = moment.event(event).thing
        if not moment.truth.coloured[moment.step] or moment.rng.random() < 0.3:
            thing = Thing(thing.kind, "")
        return Draft("now_is", YES, (("a", thing.name),), (moment.step,))
    past = [moment.thing(event) for event in moment.seen if event not in here]
    if past and moment.rng.random() < 0.6:  # it was here, but is gone
        stranger: Thing | None = past[int(moment.rng.integers(len(past)))]
    else:
        stranger = moment.stranger()
    if stranger is None:
        return None
    for event in here:
        shown = moment.event(event).thing
        alike = not stranger.colour or not moment.truth.coloured[moment.step] or shown.colour == stranger.colour
        if shown.kind == stranger.kind and alike:
            return None
    return Draft("now_is", NO, (("a", stranger.name),), (moment.step,))


def _one(moment: Moment) -> tuple[int, Thing] | None:
    """Something in view whose kind is there only once."""
    here = [event for event in _here(moment) or [] if moment.event(event).direction]
    if not here:
        return None
    event = moment.pick(here)
    kind = moment.event(event).thing.kind
    return (event, Thing(kind, "")) if sum(moment.event(other).thing.kind == kind for other in here) == 1 else None


def _colour(moment: Moment) -> Draft | None:
    found = _one(moment)
    if found is None or not moment.truth.coloured[moment.step]:
        return None
    return Draft("now_colour", moment.event(found[0]).thing.colour, (("the", found[1].the),), (moment.step,))


def _where(moment: Moment) -> Draft | None:
    found = _one(moment)
    where = moment.truth.where(found[0], moment.step) if found else ""
    return Draft("now_where", SAID[where], (("the", found[1].the),), (moment.step,)) if found and where else None


def _fixture(kind: str) -> Callable[[Moment], Draft | None]:
    def make(moment: Moment) -> Draft | None:
        states = moment.truth.fixtures.get(kind)
        if states is None or moment.black:
            return None
        state = states[moment.step]
        if kind == "light" and not moment.truth.coloured[moment.step] and moment.rng.random() < 0.5:
            return None
        return Draft(f"now_{kind}", state, evidence=(moment.step,))

    return make


def _gate_is(moment: Moment) -> Draft | None:
    states = moment.truth.fixtures.get("gate")
    if states is None or moment.black:
        return None
    asked = ("open", "closed")[int(moment.rng.integers(2))]
    answer = YES if states[moment.step] == asked else NO
    return Draft("now_gate_is", answer, (("state", asked),), (moment.step,))


def _day(moment: Moment) -> Draft | None:
    light = moment.truth.light[moment.step]
    if moment.black or light == "dusk":
        return None
    return Draft("now_day", "day" if light == "day" else "night", evidence=(moment.step,))


def _count(moment: Moment) -> Draft | None:
    here = _here(moment)
    return None if here is None else Draft("now_count", str(len(here)), evidence=(moment.step,))


def _picture(moment: Moment) -> Draft | None:
    if not moment.black and moment.rng.random() < 0.7:
        return None
    return Draft("fault_picture", BLACK if moment.black else YES, evidence=(moment.step,))


def _no_fixture(moment: Moment) -> Draft | None:
    lacking = [kind for kind in ("gate", "light", "sign") if kind not in moment.truth.fixtures]
    if not lacking or "black" in moment.truth.fault[: moment.step + 1]:
        return None
    return Draft(f"now_{lacking[int(moment.rng.integers(len(lacking)))]}", NOT_SEEN)


MAKERS: dict[str, tuple[str, Callable[[Moment], Draft | None]]] = {
    "now_what": ("now", _what),
    "now_is": ("now", _is),
    "now_colour": ("now", _colour),
    "now_where": ("now", _where),
    "now_gate": ("now", _fixture("gate")),
    "now_gate_is": ("now", _gate_is),
    "now_light": ("now", _fixture("light")),
    "now_sign": ("now", _fixture("sign")),
    "now_day": ("now", _day),
    "now_count": ("now", _count),
    "fault_picture": ("fault", _picture),
    "absent_fixture": ("absence", _no_fixture),
}
