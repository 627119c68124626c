"""What every way to read standing questions promises."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest
import torch

from memory import rules
from memory.rules import Reader
from memory.view import MemoryView
from stream.policy import build
from tests.models import make_bank, make_encoder, random_frames, random_model

RULES = ("is somebody at the door?", "a red car?", "nothing at all")


@lru_cache(1)
def scene() -> tuple[Reader, MemoryView, tuple[tuple[int, ...], ...]]:
    """A memory of six frames, two of them in detail, and three rules of different length."""
    model = random_model()
    bank, encoder = make_bank(model, carriers=8, detail=2), make_encoder(model)
    for frame in random_frames(6):
        bank.add(encoder.absorb([bank.work(frame)])[0])
    ids = tuple(tuple(model.question_ids(text)) for text in RULES)
    return Reader(model, bank.policy.positions), bank.fork(now_s=1006.0), ids


def run(name: str) -> Any:
    reader, view, ids = scene()
    return build("rules", rules.TABLE, name).scores(reader, view, ids).argmax(-1).tolist()


@pytest.mark.parametrize("name", rules.TABLE)
def test_rules_do_not_read_each_other(name: str) -> None:
    reader, view, ids = scene()
    keys = view.past.keys.clone()
    method = build("rules", rules.TABLE, name)
    whole = method.scores(reader, view, ids)
    assert torch.allclose(method.scores(reader, view, ids[::-1]), whole.flip(0), atol=1e-4)
    assert torch.allclose(method.scores(reader, view, ids[1:2]), whole[1:2], atol=1e-4)
    assert torch.allclose(whole.exp().sum(-1), torch.ones(3), atol=1e-4)
    assert torch.equal(view.past.keys, keys)
