"""Times in answers: what people read where the model wrote a mark."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from daemon.messages import Gap
from daemon.session import Session
from daemon.times import REASONS, Speech, length
from stream.attention import Step
from stream.marks import AGO, CLOCK, SPAN
from stream.types import Span
from tests.models import absorb, make_bank, make_encoder, random_frames, random_model

NOON = datetime(2026, 6, 1, 12, 0, 0, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 seconds"),
        (1.2, "1 second"),
        (119.4, "119 seconds"),
        (120, "2 minutes"),
        (3601, "60 minutes"),
        (7200, "2 hours"),
        (7500, "2 hours 5 minutes"),
        (86_400 * 2, "2 days"),
        (86_400 * 9.4, "9 days"),
        (-3, "0 seconds"),
    ],
)
def test_lengths(seconds: float, said: str) -> None:
    assert length(seconds) == said


BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 6, 3, 15, 30, tzinfo=BERLIN)  # a Wednesday
SPEECH = Speech(BERLIN)


def at(text: str) -> float:
    """Seconds of a local time in Berlin; of 3 June 2026 when it names no day."""
    return datetime.fromisoformat(text if "T" in text else f"2026-06-03T{text}").replace(tzinfo=BERLIN).timestamp()


@pytest.mark.parametrize(
    ("when", "said", "twelve"),
    [
        ("14:02:11", "14:02:11", "2:02:11 pm"),
        ("00:00:00", "00:00:00", "12:00:00 am"),
        ("12:00:00", "12:00:00", "12:00:00 pm"),
        ("2026-06-02T23:59:59", "yesterday at 23:59", "yesterday at 11:59 pm"),
        ("2026-06-02T00:00:00", "yesterday at 00:00", "yesterday at 12:00 am"),
        ("2026-06-01T14:02:11", "Monday at 14:02", "Monday at 2:02 pm"),
        ("2026-05-28T09:05:00", "Thursday at 09:05", "Thursday at 9:05 am"),
        ("2026-05-27T09:05:00", "27 May at 09:05", "27 May at 9:05 am"),
        ("2026-01-01T00:00:00", "1 January at 00:00", "1 January at 12:00 am"),
        ("2025-12-31T14:02:00", "31 December 2025 at 14:02", "31 December 2025 at 2:02 pm"),
        ("2026-06-04T01:00:00", "4 June at 01:00", "4 June at 1:00 am"),  # a camera's clock may be ahead
    ],
)
def test_a_clock_says_the_day_when_it_is_another(when: str, said: str, twelve: str) -> None:
    assert SPEECH.clock(at(when), NOW.timestamp()) == said
    assert Speech(BERLIN, "12h").clock(at(when), NOW.timestamp()) == twelve


def test_the_zone_decides_what_is_today() -> None:
    now_s = datetime(2026, 6, 3, 0, 30, tzinfo=BERLIN).timestamp()
    assert SPEECH.clock(now_s - 3600, now_s) == "yesterday at 23:30"
    assert Speech(UTC).clock(now_s - 3600, now_s) == "21:30:00"


def test_a_repeated_hour_is_said_as_the_wall_shows_it() -> None:
    now_s = at("2026-10-25T12:00:00")
    first_s = datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN).timestamp()
    assert SPEECH.clock(first_s, now_s) == SPEECH.clock(first_s + 3600, now_s) == "02:30:00"


@pytest.mark.parametrize(
    ("since", "until", "said"),
    [
        ("14:02:30", "14:10:00", "from 14:02 to 14:10"),
        ("14:02:11", "14:02:40", "from 14:02:11 to 14:02:40"),
        ("14:02:11", "14:02:11", "at 14:02:11"),
        ("14:02:11", None, "since 14:02"),
        (None, "14:10:00", "until 14:10"),
        (None, None, ""),
        ("2026-06-02T14:02:00", "2026-06-02T14:10:00", "yesterday from 14:02 to 14:10"),
        ("2026-06-01T14:02:00", "2026-06-01T14:10:00", "on Monday from 14:02 to 14:10"),
        ("2026-05-12T14:02:00", "2026-05-12T14:10:00", "on 12 May from 14:02 to 14:10"),
        ("2026-06-02T22:00:00", "06:00:00", "from yesterday at 22:00 to today at 06:00"),
        ("2026-06-01T22:00:00", "2026-06-02T06:00:00", "from Monday at 22:00 to yesterday at 06:00"),
        ("2026-06-01T22:00:00", None, "since Monday at 22:00"),
        ("2025-05-12T22:00:00", None, "since 12 May 2025 at 22:00"),
    ],
)
def test_ranges(since: str | None, until: str | None, said: str) -> None:
    ends = [None if end is None else at(end) for end in (since, until)]
    assert SPEECH.between(*ends, NOW.timestamp()) == said


def gap(since: str, until: str | None = None, reason: str = "unreachable", camera: str = "door") -> Gap:
    return Gap(camera, at(since), None if until is None else at(until), reason)


@pytest.mark.parametrize(
    ("gaps", "said"),
    [
        ([], ""),
        ([gap("14:02", "14:10")], "The camera was not seen from 14:02 to 14:10 (unreachable)."),
        ([gap("14:02", reason="frozen")], "The camera has not been seen since 14:02 (no new picture came)."),
        ([gap("14:02", "14:10", "odd_word")], "The camera was not seen from 14:02 to 14:10 (odd_word)."),
        ([gap("14:02", "14:10", "erased")], "What was seen from 14:02 to 14:10 was erased."),
        (
            [gap("14:02", "14:10"), gap("14:20", "14:30", "black")],
            "The camera was not seen from 14:02 to 14:10 (unreachable)"
            " and from 14:20 to 14:30 (the picture was black).",
        ),
        (
            [gap("14:02", "14:10"), gap("14:20", "14:30", "erased")],
            "The camera was not seen from 14:02 to 14:10 (unreachable); what was seen from 14:20 to 14:30 was erased.",
        ),
        (
            [gap("14:02", "14:10"), gap("14:20", None, camera="gate"), gap("13:00", "13:10", "erased", "gate")],
            "Camera door was not seen from 14:02 to 14:10 (unreachable); what camera gate saw from 13:00 to 13:10 was"
            " erased; camera gate has not been seen since 14:20 (unreachable).",
        ),
        (
            [gap(f"{hour:02}:00", f"{hour:02}:{hour:02}") for hour in range(1, 8)],
            "The camera was not seen from 05:00 to 05:05 (unreachable), from 06:00 to 06:06 (unreachable)"
            " and from 07:00 to 07:07 (unreachable); and 4 more.",
        ),
    ],
)
def test_what_was_missed_is_one_sentence(gaps: list[Gap], said: str) -> None:
    assert SPEECH.missed(gaps, NOW.timestamp()) == said


@given(
    st.lists(
        st.builds(
            Gap,
            st.sampled_from(["door", "gate", "yard"]),
            st.floats(0, 2e9),
            st.none() | st.floats(0, 2e9),
            st.sampled_from([*REASONS, "erased", "new_word"]),
        ),
        max_size=9,
    ),
    st.sampled_from(["24h", "12h"]),
)
def test_any_gaps_make_one_sentence(gaps: list[Gap], hours: Any) -> None:
    said = Speech(BERLIN, hours).missed(gaps, 2e9)
    assert said.count(".") == bool(gaps)
    assert said[:1].isupper() == bool(gaps)
    assert (" more." in said) == (len(gaps) > 3)


@given(st.floats(0, 4e9), st.floats(0, 4e9))
def test_a_clock_goes_back_to_the_moment_it_says(at_s: float, now_s: float) -> None:
    moment = datetime.fromtimestamp(at_s, BERLIN)
    assert f"{moment:%H:%M}" in SPEECH.clock(at_s, now_s)
    assert f"{moment:%H:%M}" in SPEECH.spoken(CLOCK, Span(at_s, at_s), now_s)


def test_a_mark_stands_after_at() -> None:
    """The model writes `at` and then the mark: the day goes behind the time."""
    now_s = NOW.timestamp()
    said = [SPEECH.spoken(CLOCK, Span(at(day + "T14:02:11"), now_s), now_s) for day in ("2026-06-03", "2026-06-02")]
    assert said == ["14:02:11", "14:02 yesterday"]
    said = [SPEECH.spoken(CLOCK, Span(at(day + "T14:02:11"), now_s), now_s) for day in ("2026-06-01", "2025-05-12")]
    assert said == ["14:02 on Monday", "14:02 on 12 May 2025"]


def test_marks() -> None:
    span = Span(NOON - 30, NOON - 25)
    assert Speech(UTC).spoken(AGO, span, NOON) == "30 seconds ago"
    assert Speech(UTC).spoken(CLOCK, span, NOON) == "11:59:30"
    assert Speech(UTC).spoken(SPAN, span, NOON) == "5 seconds"


def scripted(pointed: dict[int, float], written: list[str], monkeypatch: pytest.MonkeyPatch) -> Session:
    """A session over six frames whose model writes `written` and attends to the moments in `pointed`."""
    model = random_model()
    bank, encoder = make_bank(model), make_encoder(model)
    for frame in random_frames(6):
        absorb(encoder, bank, frame)
    view = replace(bank.fork(now_s=1010.0), moments=bank.fork().moments)
    system = len(model.system())
    ids = [token for text in written for token in model.tokenizer.encode(text, add_special_tokens=False)]
    ids.append(model.tokenizer.eos_token_id)
    forward = model.forward_all
    steps = iter(ids)

    def attends(steps: list[Step]) -> Any:
        hidden = forward(steps)
        mass = steps[0].mass
        assert mass is not None
        assert mass.total is not None
        mass.total = torch.zeros(mass.total.shape)
        for moment, share in pointed.items():
            mass.total[:, system + moment] = share
        return hidden

    def writes(hidden: Any) -> Any:
        scores = torch.zeros(len(hidden), len(model.tokenizer))
        scores[:, next(steps)] = 50.0
        return scores

    monkeypatch.setattr(model, "forward_all", attends)
    monkeypatch.setattr(model, "logits", writes)
    return Session(model, bank.policy.positions, [view], model.question_ids("when?"), 16)


def test_a_mark_says_the_span_that_it_attends_to(monkeypatch: pytest.MonkeyPatch) -> None:
    session = scripted({2: 0.5, 3: 0.4, 5: 0.05}, ["a red car ", AGO], monkeypatch)
    texts = []
    while not session.done:
        session.step()
        texts.append(session.text(0))
    assert session.rows[0].spans == [Span(1002.0, 1003.0)]
    assert texts[-1] == "a red car 8 seconds ago"
    assert texts[-3] == "a red car"
    assert all(later.startswith(earlier) for earlier, later in pairwise(texts))


def test_a_mark_that_nothing_follows_yet_is_not_said(monkeypatch: pytest.MonkeyPatch) -> None:
    session = scripted({1: 1.0}, [SPAN, " long"], monkeypatch)
    session.step()
    assert session.text(0) == ""
    session.step()
    assert session.text(0) == "0 seconds"
    assert [moment.frame for moment, _ in session.evidence(0, 1)] == [1]
