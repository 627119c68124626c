"""Questions about what was: what passed, in which order, how often, when, for how long, and how things stood then."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from stream.marks import AGO, CLOCK, SPAN
from stream.train.asking import NO, NOT_SEEN, NOTHING, YES, Draft, Moment
from stream.train.things import PAINTS, Thing
from stream.train.truth import MOST, MOVERS

WAYS = {-1: "to the left", 1: "to the right"}
PLURALS = {"person": "people", "bus": "buses"}


def plural(thing: Thing) -> str:
    """`red cars`, `people in red`."""
    many = PLURALS.get(thing.kind, f"{thing.kind}s")
    if not thing.colour:
        return many
    return f"people in {thing.colour}" if thing.kind == "person" else f"{thing.colour} {many}"


def _about(moment: Moment, event: int, template: str, answer: str, thing: Thing) -> Draft:
    frames = moment.frames(event)
    return Draft(template, answer, (("the", thing.the), ("a", thing.name)), frames, (frames,))


def _seen(moment: Moment) -> Draft | None:
    if moment.seen and moment.rng.random() < 0.5:
        event = moment.pick(moment.seen)
        thing = moment.thing(event)
        if thing.colour and moment.rng.random() < 0.3:
            thing = Thing(thing.kind, "")
        alike = [other for other in moment.seen if other in moment.matches(thing)]
        frames = tuple(sorted({frame for other in alike for frame in moment.frames(other)}))
        return Draft("seen", YES, (("a", thing.name), ("the", thing.the)), frames, (frames,))
    stranger = moment.stranger()
    return None if stranger is None else Draft("seen", NO, (("a", stranger.name), ("the", stranger.the)))


def _colour_of(moment: Moment) -> Draft | None:
    coloured = [event for event in moment.movers if moment.thing(event).colour]
    if not coloured:
        return None
    event = moment.pick(coloured)
    thing = Thing(moment.event(event).thing.kind, "")
    if moment.matches(thing) != [event]:
        return None
    return _about(moment, event, "colour_of", moment.thing(event).colour, thing)


def _direction(moment: Moment) -> Draft | None:
    found = moment.named(moment.movers)
    if found is None:
        return None
    return _about(moment, found[0], "direction", WAYS[moment.event(found[0]).direction], found[1])


def _stood(moment: Moment, number: int) -> int:
    """In how many frames event `number` was seen standing."""
    first_s, last_s = moment.event(number).halt
    return sum(first_s <= moment.truth.times_s[frame] < last_s for frame in moment.frames(number))


def _stopped(moment: Moment) -> Draft | None:
    halts = {number: moment.event(number).halt for number in moment.movers}
    stopped = [number for number, (first_s, last_s) in halts.items() if first_s < last_s and _stood(moment, number) > 1]
    went_on = [
        number for number, (first_s, last_s) in halts.items() if first_s == last_s and len(moment.frames(number)) > 1
    ]
    if not stopped and moment.rng.random() < 0.8:
        return None  # few things stop: without this the answer would nearly always be no
    asked = stopped if moment.rng.random() < 0.6 else went_on
    found = moment.named(asked)
    if found is None:
        return None
    return _about(moment, found[0], "stopped", YES if asked is stopped else NO, found[1])


def _first(moment: Moment) -> Draft | None:
    return _end(moment, 0, "first")


def _last(moment: Moment) -> Draft | None:
    return _end(moment, -1, "last")


def _end(moment: Moment, place: int, template: str) -> Draft | None:
    if moment.muddled:
        return None
    if not moment.movers:
        return Draft(template, NOTHING)
    event = moment.movers[place]
    frames = moment.frames(event)
    return Draft(template, moment.thing(event).name, (), frames, (frames,))


def _after(moment: Moment) -> Draft | None:
    return _neighbour(moment, 1, "after")


def _before(moment: Moment) -> Draft | None:
    return _neighbour(moment, -1, "before")


def _neighbour(moment: Moment, way: int, template: str) -> Draft | None:
    if moment.muddled or not moment.movers:
        return None
    found = moment.named(moment.movers)
    if found is None:
        return None
    event, thing = found
    place = moment.movers.index(event) + way
    slots = (("the", thing.the), ("a", thing.name))
    own = moment.frames(event)
    if not 0 <= place < len(moment.movers):
        return Draft(template, NOTHING, slots, own, (own,)) if moment.rng.random() < 0.5 else None
    other = moment.movers[place]
    frames = moment.frames(other)
    return Draft(template, moment.thing(other).name, slots, frames, (frames, own))


def _which_first(moment: Moment) -> Draft | None:
    if moment.muddled or len(moment.movers) < 2:
        return None
    one, two = sorted(moment.rng.choice(len(moment.movers), 2, replace=False).tolist())
    early, late = moment.movers[one], moment.movers[two]
    names = moment.reference(early), moment.reference(late)
    if names[0] is None or names[1] is None:
        return None
    said = [names[0].the, names[1].the]
    answer = said[0]
    if moment.rng.random() < 0.5:
        said.reverse()
    groups = (moment.frames(early), moment.frames(late))
    return Draft("which_first", answer, (("the", said[0]), ("other", said[1])), groups[0], groups)


def _sequence(moment: Moment) -> Draft | None:
    if moment.muddled or not 2 <= len(moment.movers) <= 3:
        return None
    groups = tuple(moment.frames(event) for event in moment.movers)
    answer = ", ".join(moment.thing(event).name for event in moment.movers)
    return Draft("sequence", answer, (), tuple(sorted({frame for group in groups for frame in group})), groups)


def _counted(moment: Moment, events: list[int], template: str, slots: tuple[tuple[str, str], ...]) -> Draft | None:
    if len(events) > MOST or any(moment.event(event).direction for event in moment.unclear):
        return None
    groups = tuple(moment.frames(event) for event in events)
    frames = tuple(sorted({frame for group in groups for frame in group}))
    return Draft(template, str(len(events)), slots, frames, groups)


def _count_all(moment: Moment) -> Draft | None:
    return _counted(moment, moment.movers, "count_all", ())


def _kind(moment: Moment) -> str:
    """Mostly one that passed, and one of which several passed rather than one."""
    if moment.movers and moment.rng.random() < 0.85:
        kinds = [moment.event(event).thing.kind for event in moment.movers]
        often = [kind for kind in kinds if kinds.count(kind) > 1]
        pool = often if often and moment.rng.random() < 0.5 else kinds
        return pool[int(moment.rng.integers(len(pool)))]
    return MOVERS[int(moment.rng.integers(len(MOVERS)))]


def _count_kind(moment: Moment) -> Draft | None:
    kind = _kind(moment)
    events = [event for event in moment.movers if moment.event(event).thing.kind == kind]
    return _counted(moment, events, "count_kind", (("many", plural(Thing(kind, ""))),))


def _count_thing(moment: Moment) -> Draft | None:
    kind = _kind(moment)
    alike = [event for event in moment.movers if moment.event(event).thing.kind == kind]
    if any(not moment.thing(event).colour for event in alike):
        return None
    colours = [moment.thing(event).colour for event in alike]
    if not colours or moment.rng.random() < 0.15:
        colours = list(PAINTS[kind])
    thing = Thing(kind, colours[int(moment.rng.integers(len(colours)))])
    events = [event for event in alike if moment.thing(event) == thing]
    return _counted(moment, events, "count_kind", (("many", plural(thing)),))


def _when(moment: Moment, template: str, answer: str) -> Draft | None:
    found = moment.named([event for event in moment.seen if moment.frames(event)[-1] < moment.step])
    if found is None:
        return None
    draft = _about(moment, found[0], template, answer, found[1])
    return Draft(template, answer, draft.slots, draft.evidence, draft.needs, moment.span_s(draft.evidence))


def _when_ago(moment: Moment) -> Draft | None:
    return _when(moment, "when_ago", AGO)


def _when_clock(moment: Moment) -> Draft | None:
    return _when(moment, "when_clock", f"at {CLOCK}")


def _last_seen(moment: Moment) -> Draft | None:
    if not moment.movers:
        return None
    kind = moment.event(moment.pick(moment.movers)).thing.kind
    alike = [event for event in moment.movers if moment.event(event).thing.kind == kind]
    frames = max((moment.frames(event) for event in alike), key=lambda own: own[-1])
    if frames[-1] >= moment.step or any(moment.event(other).thing.kind == kind for other in moment.unclear):
        return None
    return Draft("last_seen", AGO, (("a", Thing(kind, "").name),), frames, (frames,), moment.span_s(frames))


def _how_long_view(moment: Moment) -> Draft | None:
    gone = [event for event in moment.movers if moment.frames(event)[-1] < moment.step]
    found = moment.named([event for event in gone if len(moment.frames(event)) > 1])
    if found is None:
        return None
    draft = _about(moment, found[0], "how_long_view", f"for {SPAN}", found[1])
    frames = draft.evidence
    if any(after - before > 2 for before, after in pairwise(frames)):
        return None
    return Draft("how_long_view", draft.answer, draft.slots, frames, draft.needs, moment.span_s(frames))


def _how_long_parcel(moment: Moment) -> Draft | None:
    parcels = [event for event in moment.seen if not moment.event(event).direction]
    if len(parcels) != 1 or any(not moment.event(event).direction for event in moment.unclear):
        return None
    frames = moment.frames(parcels[0])
    return Draft("how_long_parcel", f"for {SPAN}", (), frames, (frames,), moment.span_s(frames))


def _how_long_gate(moment: Moment) -> Draft | None:
    states = moment.truth.fixtures.get("gate", ())[: moment.step + 1]
    if "open" not in states or "closed" not in states:
        return None
    last = max(frame for frame, state in enumerate(states) if state == "open")
    first = last
    while first > 0 and states[first - 1] == "open":
        first -= 1
    if first == 0:
        return None  # nobody saw it open
    frames = tuple(range(first, last + 1))
    ends = (first, min(last + 1, moment.step))  # until it was seen closed again
    return Draft("how_long_gate", f"for {SPAN}", (), frames, (frames,), moment.span_s(ends))


def _then(kind: str) -> Callable[[Moment], Draft | None]:
    def make(moment: Moment) -> Draft | None:
        states = moment.truth.fixtures.get(kind)
        gone = [event for event in moment.movers if moment.frames(event)[-1] < moment.step]
        found = moment.named(gone) if states is not None else None
        if found is None or states is None:
            return None
        shown = {states[frame] for frame in moment.frames(found[0])}
        if len(shown) != 1:
            return None
        state = shown.pop()
        if kind != "gate":
            return _about(moment, found[0], f"then_{kind}", state, found[1])
        asked = ("open", "closed")[int(moment.rng.integers(2))]
        draft = _about(moment, found[0], "then_gate", YES if state == asked else NO, found[1])
        return Draft(draft.template, draft.answer, (*draft.slots, ("state", asked)), draft.evidence, draft.needs)

    return make


_WH = ("colour_of", "direction", "when_ago", "when_clock", "last_seen", "after", "before", "how_long_view", "stopped")


def _absent(moment: Moment) -> Draft | None:
    template = _WH[int(moment.rng.integers(len(_WH)))]
    thing = moment.stranger(colourless=template in ("colour_of", "last_seen"))
    return None if thing is None else Draft(template, NOT_SEEN, (("the", thing.the), ("a", thing.name)))


def _absent_parcel(moment: Moment) -> Draft | None:
    if moment.matches(Thing("parcel", "")):
        return None
    return Draft("how_long_parcel", NOT_SEEN)


MAKERS: dict[str, tuple[str, Callable[[Moment], Draft | None]]] = {
    "seen": ("needle", _seen),
    "colour_of": ("needle", _colour_of),
    "direction": ("needle", _direction),
    "stopped": ("needle", _stopped),
    "first": ("order", _first),
    "last": ("order", _last),
    "after": ("order", _after),
    "before": ("order", _before),
    "which_first": ("order", _which_first),
    "sequence": ("order", _sequence),
    "count_all": ("count", _count_all),
    "count_kind": ("count", _count_kind),
    "count_thing": ("count", _count_thing),
    "when_ago": ("when", _when_ago),
    "when_clock": ("when", _when_clock),
    "last_seen": ("when", _last_seen),
    "how_long_view": ("howlong", _how_long_view),
    "how_long_parcel": ("howlong", _how_long_parcel),
    "how_long_gate": ("howlong", _how_long_gate),
    "then_gate": ("then", _then("gate")),
    "then_light": ("then", _then("light")),
    "then_sign": ("then", _then("sign")),
    "absent": ("absence", _absent),
    "absent_parcel": ("absence", _absent_parcel),
}
