"""Muon: steps are orthogonal, and are those of torch's own where bf16 does not blur them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stream.train.muon import RMS, Muon, orthogonal


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 8, 40), (2, 40, 8), (1, 1, 5)])
def test_singular_vectors_stay_and_values_become_one(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(shape) * torch.tensor([1e-3, 1.0, 50.0])[: shape[0], None, None]
    found = orthogonal(matrices)
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    inner = left.mT @ found @ right.mT
    values = inner.diagonal(dim1=-2, dim2=-1)
    assert 0.5 < float(values.min()) <= float(values.max()) < 1.3
    assert float((inner - torch.diag_embed(values)).abs().max()) < 1e-3
    assert orthogonal(torch.zeros(shape)).abs().sum() == 0, "no gradient, no step"


def test_steps_are_those_of_torch() -> None:
    torch.manual_seed(1)
    ours = [nn.Parameter(torch.randn(shape)) for shape in ((24, 12), (12, 24), (24, 12))]
    theirs = [nn.Parameter(item.detach().clone()) for item in ours]
    reference = torch.optim.Muon(theirs, lr=0.1 * RMS / 0.2, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    own = Muon(ours, lr=0.1, weight_decay=0.0)
    for _ in range(4):
        for one, two in zip(ours, theirs, strict=True):
            one.grad = torch.randn_like(one)
            two.grad = one.grad.clone()
        own.step()
        reference.step()
    for one, two in zip(ours, theirs, strict=True):
        assert float((one - two).detach().norm() / two.detach().norm()) < 0.01


def test_decay_shrinks_and_a_state_goes_on() -> None:
    item = nn.Parameter(torch.ones(4, 4))
    own = Muon([item], lr=0.5, weight_decay=0.1)
    item.grad = torch.zeros(4, 4)
    own.step()
    assert torch.allclose(item, torch.full((4, 4), 0.95))
    other = nn.Parameter(item.detach().clone())
    again = Muon([other], lr=0.5, weight_decay=0.1)
    item.grad = other.grad = torch.eye(4)
    own.step()
    other.data.copy_(item.data)
    again.load_state_dict(own.state_dict())
    own.step()
    again.step()
    assert torch.equal(item, other)
