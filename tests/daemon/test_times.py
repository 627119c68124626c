"""Times in answers: what people read where the model wrote a mark."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
import torch

from daemon.session import Session
from daemon.times import clock, length, spoken
from stream.attention import Mass
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


def test_a_clock_names_the_day_only_when_it_is_another() -> None:
    assert clock(NOON - 60, NOON, UTC) == "11:59:00"
    assert clock(NOON - 86_400, NOON, UTC) == "2026-05-31 12:00:00"


def test_marks() -> None:
    span = Span(NOON - 30, NOON - 25)
    assert spoken(AGO, span, NOON, UTC) == "30 seconds ago"
    assert spoken(CLOCK, span, NOON, UTC) == "11:59:30"
    assert spoken(SPAN, span, NOON, UTC) == "5 seconds"


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
    forward = model.forward
    steps = iter(ids)

    def attends(embeds: Any, positions: Any, slab: Any, mass: Mass) -> Any:
        hidden = forward(embeds, positions, slab, mass)
        assert mass.total is not None
        mass.total[:] = 0
        for moment, share in pointed.items():
            mass.total[:, system + moment] = share
        return hidden

    def writes(hidden: Any) -> Any:
        scores = torch.zeros(len(hidden), len(model.tokenizer))
        scores[:, next(steps)] = 50.0
        return scores

    monkeypatch.setattr(model, "forward", attends)
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
