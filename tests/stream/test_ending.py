"""A forward of which some rows are read: they are what they are in a whole one, and so are all keys and values."""

from __future__ import annotations

import pytest
import torch

from stream.attention import Mass, Step
from tests.models import random_model

TOKENS = torch.tensor([[5, 6, 7, 8, 9]])
WHERE = torch.arange(1.0, 6.0)[None]


@torch.inference_mode()
@pytest.mark.parametrize("ends", [[4], [0, 2], [], [0, 1, 2, 3, 4]])
def test_rows_are_what_they_are_in_a_whole_forward(ends: list[int]) -> None:
    model = random_model()
    embeds = model.embed(TOKENS)
    own, other, plain = (model.slab([model.system()], 7) for _ in range(3))
    whole = model.forward(embeds, WHERE, plain)
    rows = torch.tensor(ends, dtype=torch.long)
    found, beside = model.forward_all([Step(embeds, WHERE, own, ends=rows), Step(embeds[:, :3], WHERE[:, :3], other)])
    assert found.shape == (1, len(ends), model.geometry.width)
    assert torch.allclose(found, whole[:, rows], atol=1e-5)
    assert torch.allclose(beside, whole[:, :3], atol=1e-5), "a step without ends is read as a whole"
    word = model.embed(torch.tensor([[11]]))
    after = [model.forward(word, torch.tensor([[6.0]]), slab) for slab in (own, plain)]
    assert torch.allclose(*after, atol=1e-5), "what comes after reads the same keys and values"


@torch.inference_mode()
def test_what_is_not_computed_cannot_be_wanted() -> None:
    model = random_model()
    embeds, ends = model.embed(TOKENS), torch.tensor([4])
    slab = model.slab([model.system()], 5)
    with pytest.raises(ValueError, match="collects no attention"):
        model.forward_all([Step(embeds, WHERE, slab, Mass(), ends=ends)])
    two = model.slab([model.system()] * 2, 5)
    with pytest.raises(ValueError, match="one row a step"):
        model.forward_all([Step(embeds.expand(2, -1, -1), WHERE, two, ends=ends)])
