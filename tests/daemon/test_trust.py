"""When an answer is given, when it is held back, and how sure it is said to be."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.trust import Judged, chance, judge, odds, shown
from stream.types import Trust

CARD = Trust(
    answer=(1.0, 0.5, -0.25),
    evidence=(2.0, 1.0),
    support=0.4,
    unseen="Not seen",
    denials=("no", "none", "it did not"),
)
SHARES = st.floats(0, 1)
WEIGHTS = st.floats(-1e6, 1e6)


@pytest.mark.parametrize(
    ("text", "support", "least", "given_text", "seen", "supported"),
    [
        ("a red car", 0.4, None, "a red car", True, True),  # just enough
        ("a red car", 0.399, None, "Not seen", False, False),
        ("a red car", 0.0, None, "Not seen", False, False),
        ("a red car", None, None, "a red car", True, True),  # nobody points: nothing is known
        ("", 0.1, None, "Not seen", False, False),
        # denials rest on nothing, and say so
        ("no", 0.0, None, "no", True, False),
        ("No.", 0.0, None, "No.", True, False),
        ("  It  did NOT! ", 0.0, None, "  It  did NOT! ", True, False),
        ("no car", 0.0, None, "Not seen", False, False),
        ("nothing", 0.0, None, "Not seen", False, False),
        # the model says itself that it did not see it
        ("not seen", 0.9, None, "not seen", False, True),
        ("Not seen.", 0.0, None, "Not seen.", False, False),
        ("not seen", 0.0, 0.0, "not seen", False, True),
        # the configuration has the last word
        ("a red car", 0.3, 0.2, "a red car", True, True),
        ("a red car", 0.3, 0.0, "a red car", True, True),
        ("a red car", 0.0, 0.0, "a red car", True, True),
        ("a red car", 0.6, 0.7, "Not seen", False, False),
        ("a red car", 1.0, 1.0, "a red car", True, True),
    ],
)
def test_what_is_given_and_what_is_held_back(
    text: str, support: float | None, least: float | None, given_text: str, seen: bool, supported: bool
) -> None:
    found = judge(text, 0.8, support, CARD, least)
    assert (found.text, found.seen, found.supported) == (given_text, seen, supported)


@pytest.mark.parametrize("least", [None, 0.0, 1.0])
@pytest.mark.parametrize("support", [None, 0.0, 1.0])
def test_without_a_card_nothing_is_held_back(least: float | None, support: float | None) -> None:
    assert judge("not seen", 0.3, support, None, least) == Judged("not seen", seen=True, confidence=0.3)
    assert shown(0.7, None) is None


def test_a_chance_is_logistic_in_log_odds() -> None:
    assert chance((0.0,)) == 0.5
    assert chance((1.0, 0.0), 0.8) == pytest.approx(0.8), "weight one, no constant: the share itself"
    assert chance((1.0, 1.0, 0.0), 0.8, 0.8) == pytest.approx(16 / 17)
    assert chance((0.0, math.log(3.0)), 0.1) == pytest.approx(0.75)
    assert shown(0.5, CARD) == pytest.approx(1 / (1 + math.exp(-1.0)))
    assert judge("a red car", 0.8, 0.5, CARD, None).confidence == pytest.approx(1 / (1 + math.exp(0.25) / 4))


def test_what_is_held_back_is_as_sure_as_the_answer_was_not() -> None:
    """`not seen` is right where the guess would have been wrong."""
    back, forth = (judge("a red car", 0.9, 0.3, CARD, least).confidence for least in (0.4, 0.3))
    assert back == pytest.approx(1.0 - forth)


@given(st.text(max_size=30), SHARES, st.none() | SHARES, st.none() | SHARES, st.tuples(WEIGHTS, WEIGHTS, WEIGHTS))
def test_any_answer_is_judged_within_bounds(
    text: str, confidence: float, support: float | None, least: float | None, weights: tuple[float, float, float]
) -> None:
    card = replace(CARD, answer=weights)
    found = judge(text, confidence, support, card, least)
    assert 0.0 <= found.confidence <= 1.0
    assert found.text in (text, CARD.unseen)
    assert found.seen or not found.supported or found.text.lower().rstrip(".!").split() == ["not", "seen"]
    wanted = CARD.support if least is None else least
    assert found.supported == (support is None or support >= wanted)
    assert judge(text, confidence, support, card, 0.0).text == text, "with nothing asked for nothing is held back"


@given(SHARES, SHARES, st.floats(0, 50), st.floats(-50, 50))
def test_more_attention_is_never_less_sure(one: float, other: float, weight: float, constant: float) -> None:
    low, high = sorted((one, other))
    card = replace(CARD, evidence=(weight, constant))
    less, more = shown(low, card), shown(high, card)
    assert less is not None
    assert more is not None
    assert 0.0 <= less <= more <= 1.0


@given(SHARES)
def test_log_odds_are_finite_and_odd(share: float) -> None:
    assert math.isfinite(odds(share))
    assert odds(share) == pytest.approx(-odds(1.0 - share), abs=1e-9)
    assert (odds(share) > 0) == (share > 0.5) or share == pytest.approx(0.5)
