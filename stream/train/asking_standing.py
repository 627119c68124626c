"""Standing questions: yes or no about the newest frame, whatever it shows; no is as common as yes."""

from __future__ import annotations

from stream.train.asking import NO, YES, Draft, Moment
from stream.train.asking_now import SAID
from stream.train.events import Event
from stream.train.script import STATES
from stream.train.things import KINDS, PAINTS, Thing
from stream.train.truth import SEEN, SLIVER

ALIKE = (("car", "van", "bus", "truck"), ("dog", "cat", "bird"), ("person", "bike"))  # taken for one another


def _shares(moment: Moment) -> list[tuple[Event, float]]:
    """What the newest frame shows anything of. Nothing in a black one."""
    row = moment.truth.share[moment.step]
    return [(moment.event(number), float(row[number])) for number in row.nonzero()[0].tolist()]


def _fits(name: Thing, event: Event, coloured: bool) -> bool:
    """Whether `event` may be what `name` says."""
    shown = event.thing
    return shown.kind == name.kind and (not name.colour or not coloured or shown.colour == name.colour)


def _is(moment: Moment) -> Draft | None:
    coloured = bool(moment.truth.coloured[moment.step])
    shown = _shares(moment)
    clear = [event.thing for event, share in shown if share >= SEEN]
    if clear and moment.rng.random() < 0.5:
        thing = clear[int(moment.rng.integers(len(clear)))]
        if not coloured or thing.kind == "parcel" or moment.rng.random() < 0.6:
            thing = Thing(thing.kind, "")
        return Draft("stand_is", YES, (("a", thing.name),), (moment.step,))
    for _ in range(6):
        thing = _other(moment, clear)
        if not any(share > SLIVER and _fits(thing, event, coloured) for event, share in shown):
            return Draft("stand_is", NO, (("a", thing.name),), (moment.step,))
    return None


def _other(moment: Moment, clear: list[Thing]) -> Thing:
    """A name that may be wrong here: of what was there before, of what looks like what is there, or any."""
    rng = moment.rng
    luck, plain = rng.random(), rng.random() < 0.6
    past = [moment.event(number).thing for number in moment.seen]
    if past and luck < 0.3:
        known = past[int(rng.integers(len(past)))]
        kind, colour = known.kind, known.colour
    elif clear and luck < 0.75:
        known = clear[int(rng.integers(len(clear)))]
        if rng.random() < 0.5:  # the same in another colour; `plain` would be the thing itself
            kind, plain = known.kind, False
            colour = PAINTS[kind][int(rng.integers(len(PAINTS[kind])))]
        else:
            group = next((group for group in ALIKE if known.kind in group), KINDS)
            kind = group[int(rng.integers(len(group)))]
            colour = known.colour if known.colour in PAINTS[kind] else PAINTS[kind][0]
    else:
        kind = KINDS[int(rng.integers(len(KINDS)))]
        colour = PAINTS[kind][int(rng.integers(len(PAINTS[kind])))]
    return Thing(kind, "" if plain or kind == "parcel" else colour)


def _any(moment: Moment) -> Draft | None:
    shares = [share for _, share in _shares(moment)]
    there = any(share >= SEEN for share in shares)
    if not there and any(share > SLIVER for share in shares):
        return None
    if there and moment.rng.random() < 0.85:
        return None  # a gate leaves hardly a frame in which nothing is
    return Draft("stand_any", YES if there else NO, (), (moment.step,))


def _empty(moment: Moment) -> Draft | None:
    found = _any(moment)
    if found is None or moment.black:
        return None
    return Draft("stand_empty", NO if found.answer == YES else YES, (), found.evidence)


def _parcel(moment: Moment) -> Draft | None:
    """Whether one lies there: in nobody's hands."""
    now_s = float(moment.truth.times_s[moment.step])
    parcels = [(event, share) for event, share in _shares(moment) if event.carriers]
    if any(share < SEEN or not event.halt[0] <= now_s <= event.halt[1] for event, share in parcels):
        return None
    if parcels and moment.rng.random() < 0.6:
        return None  # it lies there for long
    return Draft("stand_parcel", YES if parcels else NO, (), (moment.step,))


def _fixture(kind: str, moment: Moment) -> Draft | None:
    states, rng = moment.truth.fixtures.get(kind), moment.rng
    if states is None:  # no gate: it is neither open nor closed
        asked = STATES[kind][int(rng.integers(len(STATES[kind])))]
        return Draft(f"stand_{kind}", NO, (("state", asked),)) if rng.random() < 0.2 else None
    if kind == "light" and not moment.black and not moment.truth.coloured[moment.step] and rng.random() < 0.5:
        return None
    now = states[moment.step]
    others = [state for state in STATES[kind] if state != now]
    asked = now if rng.random() < 0.5 else others[int(rng.integers(len(others)))]
    right = asked == now and not moment.black
    return Draft(f"stand_{kind}", YES if right else NO, (("state", asked),), (moment.step,))


def _hour(moment: Moment) -> Draft | None:
    light = moment.truth.light[moment.step]
    if moment.black or light == "dusk":
        return None
    asked = ("day", "night")[int(moment.rng.integers(2))]
    return Draft("stand_hour", YES if (light == "day") == (asked == "day") else NO, (("hour", asked),), (moment.step,))


def _black(moment: Moment) -> Draft | None:
    if not moment.black and moment.rng.random() < 0.7:
        return None
    return Draft("stand_black", YES if moment.black else NO, (), (moment.step,))


def _side(moment: Moment) -> Draft | None:
    """On which side it is, of something whose kind is there once."""
    shown = [event for event, share in _shares(moment) if share > 0]
    places = [
        number
        for number in moment.truth.share[moment.step].nonzero()[0].tolist()
        if moment.truth.share[moment.step, number] >= SEEN
        and sum(event.thing.kind == moment.event(number).thing.kind for event in shown) == 1
    ]
    if not places:
        return None
    number = moment.pick(places)
    where = moment.truth.where(number, moment.step)
    if not where:
        return None
    others = [side for side in SAID if side != where]
    asked = where if moment.rng.random() < 0.5 else others[int(moment.rng.integers(len(others)))]
    kind = Thing(moment.event(number).thing.kind, "")
    return Draft("stand_side", YES if asked == where else NO, (("a", kind.name), ("side", SAID[asked])), (moment.step,))


def _gate(moment: Moment) -> Draft | None:
    return _fixture("gate", moment)


def _light(moment: Moment) -> Draft | None:
    return _fixture("light", moment)


def _sign(moment: Moment) -> Draft | None:
    return _fixture("sign", moment)


MAKERS = {
    "stand_is": ("standing", _is),
    "stand_any": ("standing", _any),
    "stand_empty": ("standing", _empty),
    "stand_parcel": ("standing", _parcel),
    "stand_gate": ("standing", _gate),
    "stand_light": ("standing", _light),
    "stand_sign": ("standing", _sign),
    "stand_hour": ("standing", _hour),
    "stand_black": ("standing", _black),
    "stand_side": ("standing", _side),
}
