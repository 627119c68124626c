"""What every carrier promises."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from stream import carrier
from stream.errors import ConfigError
from stream.policy import build
from stream.types import VisualTokens


def tokens(count: int = 16, dtype: torch.dtype = torch.float32) -> VisualTokens:
    feats = torch.randn(count, 8, generator=torch.Generator().manual_seed(1)).to(dtype)
    return VisualTokens(feats, (4, 4) if count == 16 else (1, count))


def run(name: str) -> Any:
    return [[round(x, 4) for x in row] for row in build("model.carrier", carrier.TABLE, name).embed(tokens()).tolist()]


@pytest.mark.parametrize("name", carrier.TABLE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("count", [1, 3, 16])
def test_carriers_keep_dtype_and_leave_tokens_alone(name: str, dtype: torch.dtype, count: int) -> None:
    method = build("model.carrier", carrier.TABLE, name)
    given = tokens(count, dtype)
    before = given.feats.clone()
    made = method.embed(given)
    rows = 1 if method.attentive else min(len(made), method.companions + 1)
    assert (made.shape, made.dtype) == ((rows, 8), dtype)
    assert made.isfinite().all()
    assert torch.equal(given.feats, before)
    assert torch.equal(method.embed(tokens(count, dtype)), made)


@pytest.mark.parametrize("name", carrier.TABLE)
def test_a_constant_frame_has_a_constant_carrier(name: str) -> None:
    made = build("model.carrier", carrier.TABLE, name).embed(VisualTokens(torch.ones(16, 8), (4, 4)))
    assert torch.allclose(made, torch.ones(1), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [("plus", {"companions": 0}, "companions"), ("uniform", {"companions": -1}, "companions")],
)
def test_values_that_make_no_sense_are_refused(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build("model.carrier", carrier.TABLE, name, options)
