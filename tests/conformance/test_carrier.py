"""What every carrier promises."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from stream import carrier
from stream.errors import ConfigError
from stream.policy import build, load
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


@pytest.mark.parametrize("name", carrier.TABLE)
@pytest.mark.parametrize("count", [1, 3, 16])
def test_the_last_row_is_the_mean_which_is_also_the_digest(name: str, count: int) -> None:
    given = tokens(count)
    made = build("model.carrier", carrier.TABLE, name).embed(given)
    assert torch.equal(made[-1], given.feats.mean(0))


@pytest.mark.parametrize("name", carrier.TABLE)
@pytest.mark.parametrize("companions", [1, 2, 5, 16, 100])
@pytest.mark.parametrize("count", [1, 3, 16])
def test_companions_stay_within_their_number(name: str, companions: int, count: int) -> None:
    if "companions" not in {
        field.name for field in dataclasses.fields(load("model.carrier", carrier.TABLE, name)) if field.init
    }:
        assert build("model.carrier", carrier.TABLE, name).companions == 0
        return
    method = build("model.carrier", carrier.TABLE, name, {"companions": companions})
    made = method.embed(tokens(count))
    assert method.companions == companions
    assert 1 <= len(made) <= 1 + min(companions, count)
    assert (len(made) == 1) == method.attentive


@pytest.mark.parametrize("name", carrier.TABLE)
def test_frames_one_after_another_are_embedded_each_for_itself(name: str) -> None:
    method = build("model.carrier", carrier.TABLE, name)
    frames = [VisualTokens(tokens().feats + shift, (4, 4)) for shift in range(3)]
    made = [method.embed(frame) for frame in frames]
    fresh = [build("model.carrier", carrier.TABLE, name).embed(frame) for frame in reversed(frames)]
    assert all(torch.equal(one, other) for one, other in zip(made, reversed(fresh), strict=True))


@pytest.mark.parametrize("name", carrier.TABLE)
def test_a_grid_that_is_one_line_and_rows_out_of_a_batch_are_fine(name: str) -> None:
    batch = torch.randn(2, 12, 8, generator=torch.Generator().manual_seed(3))
    method = build("model.carrier", carrier.TABLE, name)
    lone = method.embed(VisualTokens(batch[1].clone(), (1, 12)))
    assert torch.equal(method.embed(VisualTokens(batch[1], (1, 12))), lone)
    assert lone.isfinite().all()


@pytest.mark.parametrize("name", carrier.TABLE)
def test_a_black_frame_has_a_finite_carrier(name: str) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        made = build("model.carrier", carrier.TABLE, name).embed(VisualTokens(torch.zeros(16, 8, dtype=dtype), (4, 4)))
        assert made.isfinite().all()


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("plus", {"companions": 0}, "companions"),
        ("uniform", {"companions": -1}, "companions"),
        ("codes", {"companions": 257}, "1 to 256, got 257"),
        ("semtok", {"companions": 0}, "companions"),
        ("semtok", {"temperature": 0.0}, "temperature above 0"),
    ],
)
def test_values_that_make_no_sense_are_refused(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build("model.carrier", carrier.TABLE, name, options)
