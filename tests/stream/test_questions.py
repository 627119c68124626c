"""Questions have the one answer that the truth gives, ask nothing that cannot be known, and survive any wording."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stream.marks import AGO, CLOCK, SPAN
from stream.train.events import Event
from stream.train.questions import BLACK, KINDS, NO, NOT_SEEN, NOTHING, YES, Question, ask, rephrase, right
from stream.train.things import Thing
from stream.train.truth import Truth

RED_CAR, DOG, VAN, PARCEL = Thing("car", "red"), Thing("dog", "white"), Thing("van", "blue"), Thing("parcel", "brown")
PRESENT = ("now_", "absent_fixture", "fault_")  # kinds about the newest frame alone
Shown = tuple[Thing, int, Mapping[int, float]]  # a thing, its direction, its visible share by frame


def told(shown: Sequence[Shown], frames: int, **changed: Any) -> Truth:
    """A truth made by hand: a frame every 2 s, everything in the middle of the picture, by day."""
    share = np.zeros((frames, len(shown)))
    events = []
    for number, (thing, direction, frames_of) in enumerate(shown):
        for frame, visible in frames_of.items():
            share[frame, number] = visible
        events.append(Event(thing, min(frames_of) * 2.0, max(frames_of) * 2.0 + 1, direction))
    truth = Truth(
        times_s=np.arange(frames) * 2.0,
        events=tuple(events),
        share=share,
        centre=np.where(share > 0, 0.5, -1.0),
        boxes=np.zeros((frames, len(shown), 4)),
        fixtures={},
        light=("day",) * frames,
        fault=("",) * frames,
        coloured=np.ones(frames, dtype=bool),
    )
    return replace(truth, **changed)


def there(*frames: int) -> dict[int, float]:
    return dict.fromkeys(frames, 1.0)


def example() -> Truth:
    """A red car, a white dog, a blue van that stops, a parcel; the gate opens and closes, the light turns green."""
    shown = [
        (RED_CAR, 1, there(1, 2)),
        (DOG, -1, there(4, 5)),
        (PARCEL, 0, there(6, 7, 8, 9)),
        (VAN, 1, there(7, 8, 9)),
    ]
    fixtures = {
        "gate": ("closed",) * 4 + ("open",) * 5 + ("closed",) * 3,
        "light": ("red",) * 6 + ("green",) * 6,
        "sign": ("OPEN",) * 7 + ("TAXI",) * 5,
    }
    truth = told(shown, 12, fixtures=fixtures)
    van = replace(truth.events[3], halt=(13.5, 17.0))
    return replace(truth, events=(*truth.events[:3], van))


def key(question: Question) -> str:
    """What it asks about, in short."""
    slots = dict(question.slots)
    about = [slots[name] for name in ("the", "other", "many", "state") if name in slots]
    return " / ".join(about or [slots.get("a", "")])


def asked(truth: Truth, kind: str, step: int, turns: int = 150, held: frozenset[int] | None = None) -> list[Question]:
    rng = np.random.default_rng(7)
    drawn = (ask(truth, kind, step, rng, held) for _ in range(turns))
    return [question for question in drawn if question is not None]


Golden = tuple[str, int, str, str, tuple[int, ...], tuple[float, float] | None]
GOLDEN: list[Golden] = [  # kind, step, about, answer, evidence, span
    ("now_what", 2, "", "a red car", (2,), None),
    ("now_what", 8, "", "a blue van and a parcel", (8,), None),
    ("now_what", 11, "", NOTHING, (11,), None),
    ("now_is", 2, "a red car", YES, (2,), None),
    ("now_is", 2, "a car", YES, (2,), None),
    ("now_is", 5, "a red car", NO, (5,), None),
    ("now_colour", 5, "the dog", "white", (5,), None),
    ("now_where", 5, "the dog", "in the middle", (5,), None),
    ("now_gate", 5, "", "open", (5,), None),
    ("now_gate", 9, "", "closed", (9,), None),
    ("now_gate_is", 5, "open", YES, (5,), None),
    ("now_gate_is", 5, "closed", NO, (5,), None),
    ("now_light", 5, "", "red", (5,), None),
    ("now_light", 6, "", "green", (6,), None),
    ("now_sign", 6, "", "OPEN", (6,), None),
    ("now_sign", 7, "", "TAXI", (7,), None),
    ("now_day", 0, "", "day", (0,), None),
    ("now_count", 8, "", "2", (8,), None),
    ("now_count", 3, "", "0", (3,), None),
    ("fault_picture", 3, "", YES, (3,), None),
    ("seen", 11, "the red car", YES, (1, 2), None),
    ("seen", 11, "the parcel", YES, (6, 7, 8, 9), None),
    ("seen", 0, "the red car", NO, (), None),
    ("colour_of", 11, "the van", "blue", (7, 8, 9), None),
    ("direction", 11, "the white dog", "to the left", (4, 5), None),
    ("direction", 11, "the car", "to the right", (1, 2), None),
    ("stopped", 11, "the blue van", YES, (7, 8, 9), None),
    ("stopped", 11, "the red car", NO, (1, 2), None),
    ("first", 11, "", "a red car", (1, 2), None),
    ("first", 0, "", NOTHING, (), None),
    ("last", 11, "", "a blue van", (7, 8, 9), None),
    ("last", 6, "", "a white dog", (4, 5), None),
    ("after", 11, "the red car", "a white dog", (4, 5), None),
    ("after", 11, "the blue van", NOTHING, (7, 8, 9), None),
    ("before", 11, "the blue van", "a white dog", (4, 5), None),
    ("before", 11, "the dog", "a red car", (1, 2), None),
    ("which_first", 11, "the white dog / the red car", "the red car", (1, 2), None),
    ("which_first", 11, "the red car / the blue van", "the red car", (1, 2), None),
    ("sequence", 11, "", "a red car, a white dog, a blue van", (1, 2, 4, 5, 7, 8, 9), None),
    ("sequence", 5, "", "a red car, a white dog", (1, 2, 4, 5), None),
    ("count_all", 11, "", "3", (1, 2, 4, 5, 7, 8, 9), None),
    ("count_all", 0, "", "0", (), None),
    ("count_kind", 11, "dogs", "1", (4, 5), None),
    ("count_kind", 11, "buses", "0", (), None),
    ("count_thing", 11, "red cars", "1", (1, 2), None),
    ("count_thing", 11, "black cars", "0", (), None),
    ("when_ago", 11, "the white dog", AGO, (4, 5), (8.0, 10.0)),
    ("when_clock", 11, "the car", f"at {CLOCK}", (1, 2), (2.0, 4.0)),
    ("last_seen", 11, "a dog", AGO, (4, 5), (8.0, 10.0)),
    ("how_long_view", 11, "the van", f"for {SPAN}", (7, 8, 9), (14.0, 18.0)),
    ("how_long_parcel", 11, "", f"for {SPAN}", (6, 7, 8, 9), (12.0, 18.0)),
    ("how_long_gate", 11, "", f"for {SPAN}", (4, 5, 6, 7, 8), (8.0, 18.0)),  # until it was seen closed
    ("then_gate", 11, "the red car / closed", YES, (1, 2), None),
    ("then_gate", 11, "the white dog / closed", NO, (4, 5), None),
    ("then_light", 11, "the white dog", "red", (4, 5), None),
    ("then_light", 11, "the van", "green", (7, 8, 9), None),
    ("then_sign", 11, "the car", "OPEN", (1, 2), None),
    ("then_sign", 11, "the blue van", "TAXI", (7, 8, 9), None),
    ("absent", 11, "the truck", NOT_SEEN, (), None),
    ("absent", 11, "the black van", NOT_SEEN, (), None),
    ("absent_parcel", 5, "", NOT_SEEN, (), None),
]


@pytest.mark.parametrize(("kind", "step", "about", "answer", "evidence", "span_s"), GOLDEN)
def test_golden(
    kind: str, step: int, about: str, answer: str, evidence: tuple[int, ...], span_s: tuple[float, float] | None
) -> None:
    found = [question for question in asked(example(), kind, step, 600) if key(question) == about]
    assert found, f"never asked: {kind} about {about!r}"
    assert {(item.answer, item.evidence, item.span_s) for item in found} == {(answer, evidence, span_s)}


def test_every_kind_has_a_golden_value() -> None:
    assert {kind for kind, *_ in GOLDEN} | {"absent_fixture"} == set(KINDS)


def test_a_street_without_fixtures() -> None:
    truth = told([(RED_CAR, 1, there(1, 2))], 4)
    assert {question.answer for question in asked(truth, "absent_fixture", 3)} == {NOT_SEEN}
    assert {question.template for question in asked(truth, "absent_fixture", 3)} == {
        "now_gate",
        "now_light",
        "now_sign",
    }
    fixed = (
        "now_gate",
        "now_gate_is",
        "now_light",
        "now_sign",
        "how_long_gate",
        "then_gate",
        "then_light",
        "then_sign",
    )
    assert not any(asked(truth, kind, 3) for kind in fixed)
    assert not asked(example(), "absent_fixture", 3)


def test_a_black_picture() -> None:
    truth = told([(RED_CAR, 1, there(1, 2))], 5, fault=("", "", "", "black", ""), fixtures={"gate": ("open",) * 5})
    assert {question.answer for question in asked(truth, "now_what", 3)} == {BLACK}
    assert {question.answer for question in asked(truth, "fault_picture", 3)} == {BLACK}
    assert not any(asked(truth, kind, 3) for kind in KINDS if kind.startswith("now_") and kind != "now_what")
    assert {question.answer for question in asked(truth, "now_what", 4)} == {NOTHING}


def test_infrared_has_no_colours() -> None:
    truth = told(
        [(RED_CAR, 1, there(1, 2)), (DOG, 1, there(3))], 5, coloured=np.zeros(5, dtype=bool), light=("infrared",) * 5
    )
    assert {question.answer for question in asked(truth, "now_what", 2)} == {"a car"}
    assert {question.answer for question in asked(truth, "now_day", 2)} == {"night"}
    assert not asked(truth, "now_colour", 2)
    assert not asked(truth, "colour_of", 4)
    assert {question.answer for question in asked(truth, "first", 4)} == {"a car"}
    for kind in ("seen", "direction", "absent", "count_thing"):
        for question in asked(truth, kind, 4):
            assert not re.search(r"(red|blue|black|white|green|yellow) (car|dog)s?\b", key(question)), question.text


def test_a_name_fits_one_thing() -> None:
    """Two red cars and a blue one: only the blue one has a name."""
    shown = [(RED_CAR, 1, there(1)), (Thing("car", "blue"), -1, there(3)), (RED_CAR, 1, there(5))]
    for kind in ("direction", "when_ago", "when_clock", "after", "before", "stopped"):
        assert {key(question) for question in asked(told(shown, 7), kind, 6)} <= {"the blue car"}
    assert not asked(told(shown, 7), "colour_of", 6)
    assert {item.answer for item in asked(told(shown, 7), "count_thing", 6) if key(item) == "red cars"} == {"2"}
    assert {item.answer for item in asked(told(shown, 7), "count_kind", 6) if key(item) == "cars"} == {"3"}


@pytest.mark.parametrize("part", [0.03, 0.3, 0.49])
def test_nothing_depends_on_a_sliver(part: float) -> None:
    truth = told([(RED_CAR, 1, {2: part}), (DOG, 1, there(4, 5))], 7)
    assert not any(asked(truth, kind, 2) for kind in ("now_what", "now_is", "now_count", "now_colour", "now_where"))
    for kind in ("first", "last", "after", "before", "which_first", "sequence", "count_all"):
        assert not asked(truth, kind, 6), kind
    for kind in KINDS:
        if not kind.startswith(PRESENT):
            about = {f"{key(question)} {question.answer}" for question in asked(truth, kind, 6)}
            assert not any(re.search(r"red car|the car|a car", text) for text in about), kind


def test_what_came_at_once_has_no_order() -> None:
    truth = told([(RED_CAR, 1, there(2, 3)), (DOG, 1, there(2, 3))], 5)
    for kind in ("first", "last", "after", "before", "which_first", "sequence"):
        assert not asked(truth, kind, 4), kind
    assert {question.answer for question in asked(truth, "count_all", 4)} == {"2"}


NEEDS = [
    ("first", {"a red car"}, {1, 2}),
    ("last", {"a blue van"}, {7, 8, 9}),
    ("count_all", {"3"}, {1, 2, 4, 5, 7, 8, 9}),
    ("sequence", {"a red car, a white dog, a blue van"}, {1, 2, 4, 5, 7, 8, 9}),
    ("how_long_parcel", {f"for {SPAN}"}, {6, 7, 8, 9}),
]


@pytest.mark.parametrize(("kind", "answer", "frames"), NEEDS)
def test_what_is_forgotten_is_not_asked(kind: str, answer: set[str], frames: set[int]) -> None:
    truth = example()
    assert {item.answer for item in asked(truth, kind, 11, held=frozenset(frames))} == answer
    for number, event in enumerate(truth.events):
        own = set(truth.frames_of(number, 11))
        if own <= frames and (event.direction != 0) == (kind != "how_long_parcel"):
            assert not asked(truth, kind, 11, held=frozenset(range(12)) - own)


def test_neighbours_need_both() -> None:
    truth = example()
    for lost in ((1, 2), (4, 5)):
        held = frozenset(range(12)) - set(lost)
        assert "the red car" not in {key(item) for item in asked(truth, "after", 11, held=held)}
        assert not any(
            "red car" in key(item) and "dog" in key(item) for item in asked(truth, "which_first", 11, held=held)
        )


def test_without_memory_only_what_rests_on_nothing_is_asked() -> None:
    for kind in KINDS:
        if not kind.startswith(PRESENT):
            for question in asked(example(), kind, 11, held=frozenset()):
                assert question.answer in (NO, NOT_SEEN, NOTHING, "0"), (kind, question.answer)
                assert question.evidence == ()


def test_rephrasing_keeps_what_is_asked() -> None:
    (question, *_) = asked(example(), "after", 11)
    rng = np.random.default_rng(9)
    texts = {rephrase(question, rng) for _ in range(60)}
    assert len(texts) >= 10
    assert all(dict(question.slots)["the"] in text.lower() for text in texts)


# what counts as right


def said(answer: str, span_s: tuple[float, float] | None = None) -> Question:
    return Question("now", "now_what", "", answer, 0, (0,), (0,), 0.0, span_s, (), "now_what")


@pytest.mark.parametrize(
    ("answer", "given", "fine"),
    [
        ("a red car and a dog", "A dog and a  red car.", True),
        ("a red car and a dog", "a red car", False),
        ("a red car, a dog", "a dog, a red car", False),
        ("OPEN", "open", True),
        (YES, NO, False),
        (NOT_SEEN, "i have not seen that.", True),
        ("3", "3", True),
        ("3", "13", False),
        (NOTHING, "", False),
        (YES, AGO, False),
    ],
)
def test_right_compares_plainly(answer: str, given: str, fine: bool) -> None:
    assert right(said(answer), given) is fine


@pytest.mark.parametrize(
    ("answer", "given", "span_s", "fine"),
    [
        (AGO, AGO, (11.9, 99.0), True),
        (AGO, AGO, (12.1, 30.0), False),
        (AGO, AGO, None, False),
        (AGO, f"at {CLOCK}", (10.0, 30.0), False),
        (f"at {CLOCK}", f"at {CLOCK}", (8.5, 8.5), True),
        (f"for {SPAN}", f"for {SPAN}", (100.0, 123.9), True),  # 20 s, a fifth more
        (f"for {SPAN}", f"for {SPAN}", (100.0, 124.1), False),
    ],
)
def test_right_compares_times(answer: str, given: str, span_s: tuple[float, float] | None, fine: bool) -> None:
    assert right(said(answer, (10.0, 30.0)), given, span_s) is fine


def test_what_shows_in_part_first_has_no_order() -> None:
    """A bus enters slowly, a bird quickly: which of them came first is nobody's guess."""
    truth = told([(Thing("bus", "red"), 1, {1: 0.4, 2: 0.45, 3: 1.0}), (Thing("bird", "blue"), 1, there(2, 3))], 6)
    for kind in ("first", "last", "after", "before", "which_first", "sequence"):
        assert not asked(truth, kind, 5), kind


def test_last_seen_is_not_asked_while_one_is_in_view() -> None:
    truth = told([(RED_CAR, 1, there(*range(1, 9))), (Thing("car", "blue"), 1, there(3, 4))], 12)
    assert not asked(truth, "last_seen", 8)
    assert {item.span_s for item in asked(truth, "last_seen", 11)} == {(2.0, 16.0)}  # the one that left last
