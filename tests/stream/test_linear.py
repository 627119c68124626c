"""Linear layers for a few rows: the same function over the same parameters."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from stream.model.linear import FEW, WordLinear
from tests.models import random_model


@pytest.fixture(params=[1, 2, 3])
def cores(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(512, 384), (384, 518), (896, 149)])
def test_it_is_the_same_function(bias: bool, shape: tuple[int, int], cores: int) -> None:
    """One row, a few, many; strided; outputs that no number of cores divides."""
    torch.manual_seed(0)
    plain = nn.Linear(*shape, bias=bias).requires_grad_(False)
    ours = WordLinear.of(plain)
    with torch.inference_mode():
        for rows in (1, 7, FEW, FEW + 1):
            states = torch.randn(1, rows, shape[0])
            strided = torch.randn(shape[0], rows).t()[None]
            for given in (states, strided):
                expected = F.linear(given, plain.weight, plain.bias)
                assert torch.allclose(ours(given), expected, rtol=1e-4, atol=1e-5), (rows, cores)
                assert ours(given).shape == expected.shape


def test_parameters_are_shared_and_learn() -> None:
    plain = nn.Linear(512, 512)
    ours = WordLinear.of(plain)
    assert ours.weight is plain.weight
    assert list(ours.state_dict()) == list(plain.state_dict())
    ours(torch.randn(2, 512)).sum().backward()
    assert plain.weight.grad is not None


def test_a_model_on_a_processor_has_it() -> None:
    net = random_model().net
    kinds = [type(module) for module in net.model.language_model.modules()]
    assert kinds.count(WordLinear) == 4 * 7
    assert nn.Linear not in kinds
    assert type(net.lm_head) is WordLinear
    assert net.lm_head.weight is net.get_input_embeddings().weight, "still tied"
