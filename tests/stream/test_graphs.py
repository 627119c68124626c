"""Captured forwards: replayed with inputs and memory that never move they give what a fresh forward gives.

There is no GPU here. The stand-in keeps a forward's Python and runs it again on what was captured: whatever is not
fixed (a column, a mask, a position, a tensor of the first run) would come out wrong.
"""

from __future__ import annotations

import gc

import pytest
import torch
from torch import Tensor

from daemon.session import Session
from memory.bank import MemoryBank
from stream.graphs import AFTER, LIMIT, Graphs, Work
from stream.kv import Boards
from stream.model.llava_onevision import LlavaOnevision
from tests.models import absorb, make_bank, make_encoder, random_frames, random_model


class Again:
    """Counts captures and replays."""

    def __init__(self) -> None:
        self.captured = self.replayed = 0

    def __call__(self, work: Work) -> Work:
        work()
        self.captured += 1

        def replay() -> None:
            self.replayed += 1
            work()

        return replay


def captured(seed: int = 0) -> tuple[LlavaOnevision, Again]:
    """A model that believes it is on a GPU."""
    model, again = random_model(seed), Again()
    model._graphs = Graphs(lambda side: model.run(side.embeds, side), again)
    model._boards = Boards(bucket=32)
    return model, again


def content(bank: MemoryBank) -> list[Tensor]:
    view = bank.fork(now_s=0.0)
    return [view.past.keys, view.past.values, view.past.positions, view.digests]


@pytest.mark.parametrize("positions", ["compact", "time"])
def test_frames_are_replayed_with_what_is_remembered_then(positions: str) -> None:
    """Filling up, evictions, positions that move: three cameras, then two of them."""
    plain = random_model()
    model, again = captured()
    banks = {}
    for kind in (plain, model):
        encoder = make_encoder(kind)
        own = [make_bank(kind, 4, 2, positions=positions, camera=f"cam{number}") for number in range(3)]
        films = [random_frames(14, number, f"cam{number}") for number in range(3)]
        for step in range(14):
            some = range(3) if step % 4 else range(2)
            for place, made in zip(some, encoder.absorb([own[p].work(films[p][step]) for p in some]), strict=True):
                own[place].add(made)
        banks[kind] = own
    assert again.captured == 2
    assert again.replayed == 14 - 2 * (AFTER - 1)
    for ours, theirs in zip(banks[model], banks[plain], strict=True):
        assert ours.frames == theirs.frames
        for left, right in zip(content(ours), content(theirs), strict=True):
            assert torch.allclose(left, right, rtol=1e-4, atol=1e-5)


def test_answers_are_replayed_on_boards_that_come_again() -> None:
    """Questions of several lengths over views of several lengths, one after another and side by side."""
    plain = random_model()
    model, again = captured()
    said = {}
    for kind in (plain, model):
        encoder, bank = make_encoder(kind), make_bank(kind, 6, 2)
        texts = []
        for number, frame in enumerate(random_frames(9)):
            absorb(encoder, bank, frame)
            ids = kind.question_ids("what is visible now?"[: 4 + number])
            views = [bank.fork(now_s=0.0), bank.fork(since_s=frame.wall_s - 2, now_s=0.0)][: 1 + number % 2]
            session = Session(kind, bank.policy.positions, views, ids, 7)
            while not session.done:
                session.step()
            for row in range(len(views)):
                found = session.rows[row]
                shown = [(moment.frame, round(weight, 4)) for moment, weight in session.evidence(row, 3)]
                texts.append((found.ids, round(found.log_p, 3), shown, len(found.spans)))
            del session, views
            gc.collect()
        said[kind] = texts
    assert said[model] == said[plain]
    assert again.replayed > 20
    assert again.captured < 6, "an answer finds the board of one before it, and what was captured of it"


def test_captures_are_bounded_and_a_failure_only_costs_speed() -> None:
    model, again = captured()
    encoder = make_encoder(model)
    frames = random_frames(AFTER)
    for _ in range(LIMIT + 3):
        bank = make_bank(model, 2, camera="door")
        for frame in frames:
            absorb(encoder, bank, frame)
    assert again.captured == LIMIT + 3
    assert model._graphs is not None
    assert len(model._graphs) == LIMIT

    def broken(work: Work) -> Work:
        raise RuntimeError("no room for a graph")

    model._graphs = Graphs(lambda side: model.run(side.embeds, side), broken)
    bank = make_bank(model, 2)
    for frame in random_frames(AFTER + 2):
        absorb(encoder, bank, frame)
    assert bank.absorbed == AFTER + 2
    assert len(model._graphs) == 0
