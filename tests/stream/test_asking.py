"""Questions about random streets, against a plain second reading of the truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest

from stream.marks import MARKS
from stream.train.questions import KINDS, NOTHING, YES, Question, ask, right
from stream.train.script import Style
from stream.train.things import PAINTS, Thing
from stream.train.truth import MOVERS, SEEN, SLIVER, Truth
from stream.train.world import Street

PRESENT = ("now_", "absent_fixture", "fault_")  # kinds about the newest frame alone
STYLES = (
    Style(),
    Style(faults=True, pause_s=1.0),
    Style(meet=0.6, pause_s=0.8, fixtures=("gate", "light", "sign"), lights=("day", "infrared")),
    Style(parcels=0.5, pause_s=1.0, kinds=("person", "car", "parcel"), lights=("day",)),
)


@cache
def streets() -> tuple[Truth, ...]:
    found = []
    for seed in range(24):
        street = Street(seed, 80.0, STYLES[seed % len(STYLES)])
        times = [
            t_s for t_s in np.arange(seed % 3, 78, 1.0 + seed % 4 * 0.4).tolist() if street.fault(t_s) in ("", "black")
        ]
        found.append(Truth.of(street, times[:40]))
    return tuple(found)


@cache
def crowd() -> tuple[tuple[Truth, Question, frozenset[int] | None], ...]:
    """A few thousand questions of every kind, half of them with a leaky memory."""
    rng = np.random.default_rng(3)
    found = []
    for truth in streets():
        for step in rng.integers(0, len(truth.times_s), 8).tolist():
            some = frozenset(np.flatnonzero(rng.random(step + 1) < 0.6).tolist()) | {step}
            for kind in KINDS:
                held = some if rng.random() < 0.5 else None
                question = ask(truth, kind, step, rng, held)
                if question is not None:
                    found.append((truth, question, held))
    return tuple(found)


def by_kind(*kinds: str) -> Iterator[tuple[Truth, Question]]:
    for truth, question, _ in crowd():
        if question.kind in kinds:
            yield truth, question


def alike(truth: Truth, step: int, thing: Thing, least: float) -> list[int]:
    """Events up to `step` with a visible share above `least` that `thing` may name."""
    found = []
    for event, own in enumerate(item.thing for item in truth.events):
        shown = truth.share[: step + 1, event] > least
        same = not thing.colour or own.colour == thing.colour or not truth.coloured[: step + 1][shown].any()
        if shown.any() and own.kind == thing.kind and same:
            found.append(event)
    return found


def thing_of(name: str) -> Thing:
    known = [*(Thing(kind, colour) for kind in PAINTS for colour in ("", *PAINTS[kind]))]
    return next(thing for thing in known if name in (thing.name, thing.the))


def by(truth: Truth, step: int) -> list[int]:
    """Movers seen up to `step`, by their first frame."""
    there = truth.share[: step + 1] >= SEEN
    movers = [e for e in np.flatnonzero(there.any(0)).tolist() if truth.events[e].thing.kind in MOVERS]
    return sorted(movers, key=lambda event: int(there[:, event].argmax()))


def test_enough_is_asked() -> None:
    counts = Counter(question.kind for _, question, _ in crowd())
    assert set(counts) == set(KINDS)
    assert min(counts.values()) >= 5, counts.most_common()[-5:]


def test_questions_are_well_formed() -> None:
    for truth, question, held in crowd():
        evidence, step = question.evidence, question.step
        assert question.family == KINDS[question.kind]
        assert list(evidence) == sorted(set(evidence))
        assert all(0 <= frame <= step for frame in evidence)
        assert set(evidence) <= set(question.rests_on)
        assert held is None or set(question.rests_on) <= held
        if question.kind in ("after", "before") and evidence and held is None:
            (named,) = alike(truth, step, thing_of(dict(question.slots)["the"]), SLIVER)
            assert set(truth.frames_of(named, step)) <= set(question.rests_on), "what it came after is needed too"
        assert held is None or question.kind.startswith(PRESENT) or set(evidence) <= held
        age_s = truth.times_s[step] - truth.times_s[evidence[-1]] if evidence else 0.0
        assert question.age_s == pytest.approx(age_s)
        assert "{" not in question.text + question.answer
        marks = [mark for mark in MARKS if mark in question.answer]
        assert len(marks) == (question.span_s is not None)
        assert right(question, question.answer, question.span_s)
        if question.span_s is not None:
            assert truth.times_s[0] <= question.span_s[0] <= question.span_s[1] <= truth.times_s[step]
            assert question.span_s[0] <= truth.times_s[evidence[0]]


def test_absent_things_are_absent() -> None:
    for truth, question in by_kind("absent"):
        assert alike(truth, question.step, thing_of(dict(question.slots)["the"]), SLIVER) == [], question.text
    for truth, question in by_kind("seen"):
        thing = thing_of(dict(question.slots)["a"])
        assert (question.answer == YES) == bool(alike(truth, question.step, thing, SLIVER)), question.text


def test_names_are_unambiguous() -> None:
    kinds = ("colour_of", "direction", "stopped", "after", "before", "when_ago", "when_clock", "how_long_view")
    for truth, question in by_kind(*kinds, "then_gate", "then_light", "then_sign"):
        assert len(alike(truth, question.step, thing_of(dict(question.slots)["the"]), SLIVER)) == 1, question.text


def test_counts_are_numbers_of_what_was_seen() -> None:
    for truth, question in by_kind("count_all"):
        assert question.answer == str(len(by(truth, question.step)))
    for truth, question in by_kind("now_count"):
        assert question.answer == str(int((truth.share[question.step] >= SEEN).sum()))


def test_order_is_that_of_the_first_sights() -> None:
    for truth, question in by_kind("first", "last", "after", "before"):
        movers = by(truth, question.step)
        names = [truth.thing(event, question.step).name for event in movers]
        if question.kind in ("first", "last"):
            assert question.answer == ((names[0] if question.kind == "first" else names[-1]) if names else NOTHING)
            continue
        (event,) = alike(truth, question.step, thing_of(dict(question.slots)["the"]), SLIVER)
        place = movers.index(event) + (1 if question.kind == "after" else -1)
        assert question.answer == (names[place] if 0 <= place < len(names) else NOTHING)


def test_times_are_those_of_the_thing() -> None:
    for truth, question in by_kind("when_ago", "when_clock", "how_long_view"):
        (event,) = alike(truth, question.step, thing_of(dict(question.slots)["the"]), SLIVER)
        frames = np.flatnonzero(truth.share[: question.step + 1, event] >= SEEN)
        assert question.span_s == (truth.times_s[frames[0]], truth.times_s[frames[-1]])


@pytest.mark.parametrize("kind", ["seen", "now_is", "stopped", "now_gate_is", "then_gate", "direction"])
def test_two_answers_are_balanced(kind: str) -> None:
    rng = np.random.default_rng(4)
    drawn = (ask(truth, kind, step, rng) for truth in streets() for step in range(4, len(truth.times_s), 3))
    counts = Counter(question.answer for question in drawn if question is not None)
    assert len(counts) == 2
    least = 0.2 if kind == "stopped" else 0.35  # few things stop
    assert min(counts.values()) > least * counts.total(), counts


def test_the_same_seed_asks_the_same() -> None:
    truth = streets()[0]
    for kind in KINDS:
        one, two = (ask(truth, kind, 30, np.random.default_rng(5)) for _ in range(2))
        assert one == two


def test_a_frozen_picture_shows_the_moment_it_froze() -> None:
    found = 0
    for seed in range(12):
        street = Street(seed, 60.0, Style(faults=True, pause_s=1.0))
        times = [t_s for t_s in np.arange(0, 59, 1.0).tolist() if street.fault(t_s) != "gap"]
        truth = Truth.of(street, times)
        for frame in (number for number, fault in enumerate(truth.fault) if fault == "frozen"):
            froze = next(item.first_s for item in street.faults if item.first_s <= times[frame] < item.last_s)
            there = {id(event) for event, share in street.at(froze - 1e-3) if share >= SEEN}
            assert {id(truth.events[event]) for event in np.flatnonzero(truth.share[frame] >= SEEN)} == there
            found += 1
    assert found > 10


def test_a_gap_has_no_truth() -> None:
    street = next(
        item for item in (Street(seed, 60.0, STYLES[1]) for seed in range(40)) if "gap" in {f.kind for f in item.faults}
    )
    gap = next(item for item in street.faults if item.kind == "gap")
    with pytest.raises(ValueError, match="no picture"):
        Truth.of(street, [gap.first_s + 0.1])
