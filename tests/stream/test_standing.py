"""Standing questions of the street: yes and no are what the newest frame shows, and both are common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from stream.train.data import admitted
from stream.train.phrasings import PATTERNS, templates
from stream.train.questions import KINDS, NO, STANDING, YES, Question, ask
from stream.train.script import Style
from stream.train.things import KINDS as THINGS
from stream.train.truth import SEEN, SLIVER, Truth
from stream.train.world import Street


@pytest.fixture(scope="module")
def drawn() -> list[tuple[Truth, Question]]:
    """Questions on forty streets, every third frame."""

    def all_of_them() -> Iterator[tuple[Truth, Question]]:
        for seed in range(40):
            rng = np.random.default_rng(seed)
            street = Street(seed + 900, 60.0, Style(faults=seed % 3 == 0, parcels=0.3, pause_s=1.0 + seed % 5))
            truth = Truth.of(street, admitted(street, 30, rng))
            for step in range(0, len(truth.times_s), 3):
                for kind in STANDING:
                    question = ask(truth, kind, step, rng)
                    if question is not None:
                        yield truth, question

    return list(all_of_them())


def test_both_answers_are_common_for_every_kind(drawn: list[tuple[Truth, Question]]) -> None:
    count = Counter((question.kind, question.answer) for _, question in drawn)
    for kind in STANDING:
        yes, no = count[kind, YES], count[kind, NO]
        assert min(yes, no) >= 3, (kind, yes, no)
        assert 0.2 <= yes / (yes + no) <= 0.8 or kind == "stand_black", (kind, yes, no)
    assert {question.answer for _, question in drawn} == {YES, NO}


def test_a_yes_names_what_is_in_view_and_a_no_what_is_not(drawn: list[tuple[Truth, Question]]) -> None:
    for truth, question in drawn:
        if question.kind != "stand_is":
            continue
        name, share = dict(question.slots)["a"], truth.share[question.step]
        alike = [
            float(visible)
            for event, visible in zip(truth.events, share, strict=True)
            if name in (event.thing.name, f"a {event.thing.kind}")
        ]
        best = max(alike, default=0.0)
        assert best >= SEEN if question.answer == YES else best <= SLIVER, (name, best)
    assert {dict(question.slots)["a"].split()[-1] for _, question in drawn if question.kind == "stand_is"} >= {
        kind for kind in THINGS if kind != "person"
    }


def test_a_black_picture_shows_nothing(drawn: list[tuple[Truth, Question]]) -> None:
    black = [question for truth, question in drawn if truth.fault[question.step] == "black"]
    assert {question.answer for question in black if question.kind == "stand_black"} == {YES}
    assert {question.answer for question in black if question.kind != "stand_black"} == {NO}


def test_states_are_those_of_the_fixtures(drawn: list[tuple[Truth, Question]]) -> None:
    for truth, question in drawn:
        fixture = question.kind.removeprefix("stand_")
        if fixture in truth.fixtures and truth.fault[question.step] != "black":
            same = truth.fixtures[fixture][question.step] == dict(question.slots)["state"]
            assert (question.answer == YES) == same


def test_what_a_street_lacks_is_in_no_state(drawn: list[tuple[Truth, Question]]) -> None:
    for kind in ("gate", "light", "sign"):
        lacking = [
            question for truth, question in drawn if question.kind == f"stand_{kind}" and kind not in truth.fixtures
        ]
        assert {question.answer for question in lacking} == {NO}
        assert len({dict(question.slots)["state"] for question in lacking}) > 1


def test_they_are_no_part_of_what_people_ask_in_other_stages() -> None:
    assert not set(STANDING) & set(KINDS)
    assert not set(STANDING) & set(PATTERNS), "the tokeniser was made without them"
    assert all(templates(kind) for kind in STANDING)
