"""What every way to read standing questions promises."""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from typing import Any

import pytest
import torch

from memory import rules
from memory.rules import Reader
from memory.view import MemoryView
from stream.policy import build, load
from tests.models import make_bank, make_encoder, random_frames, random_model

APART = {"pap": {"share": 1.0}}  # by default it reads what any of its rules attends to
ONCE = {"prompt_cache"}  # whose words do not read the memory: tests/memory/test_prompt_cache.py
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
    assert torch.allclose(method.scores(reader, view, ids[::-1]), whole.flip(0), atol=1e-4), "in any order"
    assert torch.equal(method.scores(reader, view, ids), whole)
    assert torch.allclose(whole.exp().sum(-1), torch.ones(3), atol=1e-4)
    assert torch.equal(view.past.keys, keys)
    alone = build("rules", rules.TABLE, name, APART.get(name))
    whole = alone.scores(reader, view, ids)
    assert torch.allclose(alone.scores(reader, view, ids[1:2]), whole[1:2], atol=1e-4), "whoever else asks"


@pytest.mark.parametrize("name", [name for name in rules.TABLE if name not in ONCE])
def test_rules_that_read_everything_give_what_one_after_the_other_gives(name: str) -> None:
    reader, view, ids = scene()
    cls = load("rules", rules.TABLE, name)
    options = {"share": 1.0} if any(field.name == "share" for field in dataclasses.fields(cls)) else {}
    found = build("rules", rules.TABLE, name, options).scores(reader, view, ids)
    assert torch.allclose(found, build("rules", rules.TABLE, "each").scores(reader, view, ids), atol=1e-4)


@pytest.mark.parametrize("name", rules.TABLE)
@pytest.mark.parametrize("frames", [0, 1])
def test_rules_over_little_or_nothing(name: str, frames: int) -> None:
    model = random_model(dtype=torch.bfloat16)
    bank, encoder = make_bank(model, carriers=8, detail=2), make_encoder(model)
    for frame in random_frames(frames):
        bank.add(encoder.absorb([bank.work(frame)])[0])
    ids = [model.question_ids(text) for text in RULES]
    found = build("rules", rules.TABLE, name).scores(Reader(model, bank.policy.positions), bank.fork(now_s=1001.0), ids)
    assert found.isfinite().all()
    assert found.shape[0] == 3
