"""Words that are read once: a rule's last token gets what it gets where everything is read anew under one mask."""

from __future__ import annotations

import gc
from collections.abc import Hashable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from memory.rules import Reader
from memory.rules.prompt_cache import SETS, Known, PromptCache
from memory.view import MemoryView
from stream.kv import NO, Slab
from stream.model.llava_onevision import LlavaOnevision
from tests.conformance.test_rules import scene
from tests.models import make_bank, make_encoder, random_frames, random_model

RULE = st.lists(st.integers(1, 60), min_size=1, max_size=7).map(tuple)


class Masked:
    """A slab of which all new tokens but the last see only each other."""

    def __init__(self, slab: Slab) -> None:
        self._slab = slab

    @property
    def fixed(self) -> Hashable:
        return None

    def begin(self, count: int) -> Tensor | None:
        first = self._slab.length
        mask = self._slab.begin(count)
        if mask is None:
            return None
        mask = mask.clone()
        mask[..., : count - 1, :first] = NO
        return mask

    def put(self, layer: int, key: Tensor, turned: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        return self._slab.put(layer, key, turned, value)

    def still(self) -> Slab:
        return self._slab.still()

    def finish(self) -> None:
        self._slab.finish()


@torch.inference_mode()
def anew(reader: Reader, view: MemoryView, rule: Sequence[int]) -> Tensor:
    """[V] everything computed where it stands, one rule, one mask."""
    model = reader.model
    slab = model.slab([view.past], len(rule))
    where = reader.positions.text(view.count, len(rule))
    hidden = model.forward(model.embed(torch.tensor([list(rule)])), where[None], Masked(slab))
    return model.logits(hidden[:, -1])[0].log_softmax(-1)


@settings(max_examples=25, deadline=None)
@given(st.lists(RULE, min_size=1, max_size=9))
def test_words_once_are_words_anew(some: list[tuple[int, ...]]) -> None:
    reader, view, _ = scene()
    found = PromptCache().scores(reader, view, some)
    for row, rule in zip(found, some, strict=True):
        assert torch.allclose(row, anew(reader, view, rule), atol=2e-4)


@pytest.mark.parametrize("positions", ["compact", "spaced", "time"])
def test_modules_serve_wherever_they_stand(positions: str) -> None:
    model = random_model()
    bank, encoder = make_bank(model, carriers=4, detail=1, positions=positions), make_encoder(model)
    reader, method, rules = Reader(model, bank.policy.positions), PromptCache(), [[5, 6, 7, 8], [5, 9], [4]]
    for frame in random_frames(6):
        bank.add(encoder.absorb([bank.work(frame)])[0])
        view = bank.fork(now_s=frame.wall_s)
        found = method.scores(reader, view, rules)
        for row, rule in zip(found, rules, strict=True):
            assert torch.allclose(row, anew(reader, view, rule), atol=2e-4)


def test_the_comparison_can_fail() -> None:
    """A last token that reads no frame is off by far more than the tolerance."""
    reader, view, ids = scene()
    blind = make_bank(random_model(), carriers=8, detail=2).fork(now_s=0.0)
    found = PromptCache().scores(reader, blind, ids[:1])[0]
    assert (found - anew(reader, view, ids[0])).abs().max() > 1e-2


def counted(model: LlavaOnevision, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens each forward takes."""
    tokens: list[int] = []
    run = model.run

    def noted(embeds: Tensor, plan: object) -> Tensor:
        tokens.append(embeds.shape[0] * embeds.shape[1])
        return run(embeds, plan)  # type: ignore[arg-type]

    monkeypatch.setattr(model, "run", noted)
    return tokens


def test_a_frame_costs_one_token_a_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model()
    bank = make_bank(model, carriers=4, detail=1)
    reader, method = Reader(model, bank.policy.positions), PromptCache()
    view = bank.fork(now_s=0.0)
    model.system()
    tokens = counted(model, monkeypatch)
    rules = [[1, 2, 3, 4], [1, 2, 3, 5], [7, 8]]
    method.scores(reader, view, rules)
    assert tokens == [2 * 3, 3], "what two have in common is one module"
    method.scores(reader, view, rules)
    assert tokens[2:] == [3]
    method.scores(reader, view, [*rules, [9, 9, 9]])
    assert tokens[3:] == [2, 4], "a new question alone is read"


def test_what_is_kept_is_bounded_and_what_is_used_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    model, known = random_model(), Known()
    monkeypatch.setattr("memory.rules.prompt_cache.MODULES", 5)
    known.pack(model, ((1, 2), (3, 4)))
    for number in range(SETS + 4):
        known.pack(model, ((1, 2), (number + 10, 4)))
    assert len(known.packs) == SETS
    assert len(known.modules) == 5
    assert (1,) in known.modules
    with pytest.raises(ValueError, match="rule 1 of 2 has no tokens"):
        known.pack(model, ((1, 2), ()))


def test_a_checkpoint_that_is_gone_leaves_nothing() -> None:
    method, model = PromptCache(), random_model(seed=77)
    bank = make_bank(model, carriers=4, detail=1)
    method.scores(Reader(model, bank.policy.positions), bank.fork(now_s=0.0), [[1, 2]])
    assert len(method._known) == 1
    del model, bank
    gc.collect()
    assert len(method._known) == 0
