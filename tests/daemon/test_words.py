"""What people read: the small print of an answer, the questions of the demo."""

from __future__ import annotations

from datetime import datetime

import pytest

from daemon.demo.show import SETTLE_S, prompts
from daemon.messages import Answer, Evidence, Gap, Timing
from daemon.times import SPEECH
from daemon.words import notes, remainder, span
from stream.types import Span

NOON_S = datetime(2026, 11, 20, 12, 0, 0).timestamp()


@pytest.mark.parametrize(
    ("text", "streamed", "rest"),
    [
        ("a red car", "", "a red car"),
        ("a red car", "a red", " car"),
        ("a red car", "a red car", ""),
        ("a red car", "red car", "\na red car"),  # the first piece was lost
        ("the deadline passed", "a red", "\nthe deadline passed"),
    ],
)
def test_an_answer_is_shown_whole_whatever_was_streamed(text: str, streamed: str, rest: str) -> None:
    assert remainder(Answer("q", "ok", text), streamed) == rest


def test_a_span_is_said_as_times_are() -> None:
    assert span(Span(NOON_S, NOON_S), NOON_S) == "12:00:00"
    assert span(Span(NOON_S, NOON_S + 5), NOON_S) == "12:00:00-12:00:05"
    assert span(Span(NOON_S, NOON_S + 5), NOON_S + 86_400) == "yesterday at 12:00"


def test_the_small_print_says_what_matters() -> None:
    answer = Answer(
        "q",
        "ok",
        "a red car",
        confidence=0.5,
        evidence=(Evidence("door", Span(NOON_S, NOON_S + 5), 0.251, b"", 0.9), Evidence("yard", Span(1.0, 1.0), 0.1)),
        newest_age_s=600.0,
        asked_from_s=NOON_S - 3600,
        carriers=56,
        recalled=8,
        gaps=(
            Gap("yard", NOON_S, None, "refused"),
            Gap("yard", NOON_S, NOON_S + 9, "frozen"),
            Gap("yard", NOON_S, NOON_S + 9, "erased"),
        ),
        answered_s=NOON_S + 60,
        timing=Timing(1.0, 20.4, 99.6),
    )
    old = SPEECH.clock(1.0, NOON_S)
    assert notes(answer) == [
        "  asked about the time since 11:00",
        f"  evidence: door 12:00:00-12:00:05 (25% of the attention, 90% sure), yard {old} (10% of the attention)",
        "  the newest frame is 600 s old",
        "  not seen: yard 12:00:00-now (refused)",
        "  not seen: yard 12:00:00-12:00:09 (frozen)",
        "  erased: yard 12:00:00-12:00:09",
        "  read 56 moments, 8 of them from the archive",
        "  100 ms, first word after 20 ms, confidence 50%",
    ]
    assert notes(Answer("q", "no_evidence", "nothing")) == ["  status: no_evidence", "  0 ms"]


def test_the_demo_asks_what_its_film_can_answer() -> None:
    names = ["a red car", "a blue dog", "a green bus", "a white bike"]
    events = [{"what": what, "t_start": 3.0 + 7 * n, "t_end": 7.0 + 7 * n} for n, what in enumerate(names)]
    asked = prompts({"events": events, "seconds": 29.0})  # the last one leaves too late to be asked about
    assert [prompt.truth for prompt in asked] == ["a green bus", "a red car", "a green bus", "3", "yes"]
    assert events[2]["t_start"] < asked[0].at_s < events[2]["t_end"]  # type: ignore[operator]
    assert all(prompt.at_s == 21.0 + SETTLE_S for prompt in asked[1:])
