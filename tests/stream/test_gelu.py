"""GELU, faster: the same function, with gradients too."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from stream.model.gelu import CHUNK, TanhGelu
from tests.models import random_model


def test_it_is_the_same_function() -> None:
    """Small, large and extreme values, in more than one chunk and strided."""
    rng = torch.Generator().manual_seed(0)
    for states in (
        torch.randn(3, CHUNK // 2 + 7, generator=rng) * 3,
        torch.randn(40, 60, generator=rng).t(),
        torch.tensor([0.0, -0.0, 1e-30, -1e-30, 12.0, -12.0, 1e4, -1e4, 3e38, -3e38]),
    ):
        before = states.clone()
        made = TanhGelu()(states)
        assert torch.allclose(made, F.gelu(states, approximate="tanh"), rtol=1e-5, atol=1e-6)
        assert torch.equal(states, before)
        assert made.shape == states.shape


def test_gradients_and_other_precisions_are_left_to_torch() -> None:
    states = torch.linspace(-4, 4, 50, requires_grad=True)
    TanhGelu()(states).sum().backward()
    again = states.detach().clone().requires_grad_()
    F.gelu(again, approximate="tanh").sum().backward()
    assert torch.equal(states.grad, again.grad)
    half = states.detach().bfloat16()
    assert torch.equal(TanhGelu()(half), F.gelu(half, approximate="tanh"))


def test_a_model_on_a_processor_has_it() -> None:
    kinds = [type(module) for module in random_model().net.modules()]
    assert kinds.count(TanhGelu) == 4, "one a block of the tower"
