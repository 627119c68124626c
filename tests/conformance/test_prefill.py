"""What every prefill method promises."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from stream import prefill
from stream.errors import ConfigError
from stream.policy import build

LAYERS, VISUAL, TAIL = 8, 12, 2


def walk(method: prefill.Prefill, visual: int = VISUAL, dtype: torch.dtype = torch.float32, flat: bool = False) -> Any:
    """Which rows go through each layer, by their number in the frame; layers with random projections."""
    rng = torch.Generator().manual_seed(3)
    hidden = (torch.ones(visual + TAIL, 8) if flat else torch.randn(visual + TAIL, 8, generator=rng)).to(dtype)
    query, key = torch.randn(8, 4, 4, generator=rng), torch.randn(8, 2, 4, generator=rng)
    mix = torch.randn(2, 8, 8, generator=rng)
    passing = method.start(visual, TAIL, LAYERS)
    there, ran = list(range(visual)), []
    for layer in range(LAYERS):
        run = list(range(len(there)))
        now = torch.cat((hidden[there], hidden[visual:]))
        if passing is not None and (way := passing.enter(layer, now)) is not None:
            run = way.rows.tolist()
            assert run == sorted(set(run)), "rising, each once"
            assert all(0 <= row < len(there) for row in run)
            if not way.wait:
                there, run = [there[row] for row in run], list(range(len(way.rows)))
        rows = [there[row] for row in run]
        ran.append(rows)
        if passing is not None:
            x = torch.cat((hidden[rows], hidden[visual:]))
            passing.attention(layer, _heads(x, query), _heads(x, key))
            if method.modules:
                passing.module(layer, "attention", x, (x.float() @ mix[0]).to(dtype))
                passing.module(layer, "mlp", x, (x.float() @ mix[1]).to(dtype))
    return ran


def _heads(x: Tensor, by: Tensor) -> Tensor:
    return torch.einsum("td,dhw->htw", x.float(), by).to(x.dtype)


def run(name: str) -> Any:
    return walk(build("model.prefill", prefill.TABLE, name))


@pytest.mark.parametrize("name", prefill.TABLE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("flat", [False, True])
def test_prefill_drops_within_the_frame(name: str, dtype: torch.dtype, flat: bool) -> None:
    method = build("model.prefill", prefill.TABLE, name)
    ran = walk(method, dtype=dtype, flat=flat)
    assert all(rows for rows in ran), "something of the frame goes through every layer"
    assert name == "none" or any(len(rows) < VISUAL for rows in ran)
    assert walk(method, dtype=dtype, flat=flat) == ran
    assert all(rows == [0] for rows in walk(method, visual=1)), "the only token stays"


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [("uniform", {"keep": [0.0]}, "keep"), ("random", {"depths": [1.5]}, "depths")],
)
def test_values_that_make_no_sense_are_refused(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build("model.prefill", prefill.TABLE, name, options)
