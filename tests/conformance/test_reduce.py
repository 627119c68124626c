"""What every reducer promises."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from stream import reduce
from stream.errors import ConfigError
from stream.policy import build
from stream.reduce import Seen
from stream.reduce.dull import Selecting
from stream.tap import Tap
from stream.types import Frame, VisualTokens

BLOCKS = 4  # of the vision tower
GRID = (4, 6)


def seen(count: int = 1, dtype: torch.dtype = torch.float32, score: float = 0.0, seed: int = 1) -> list[Seen]:
    """A camera's last `count` frames; taps of all blocks as if patches were tokens."""
    rng = torch.Generator().manual_seed(seed)
    made = []
    for index in range(count):
        feats = torch.randn(24, 8, generator=rng).to(dtype)
        taps = {block: Tap.of(*torch.randn(3, 2, 24, 4, generator=rng)) for block in range(BLOCKS)}
        image = np.random.default_rng(index).integers(0, 256, (48, 48, 3), dtype=np.uint8)
        frame = Frame("door", index, 0, float(index), float(index), image, score=score)
        made.append(Seen(VisualTokens(feats, GRID, None, taps), frame))
    return made


def made(name: str, **options: Any) -> reduce.Reduce:
    method: reduce.Reduce = build("model.reduce", reduce.TABLE, name, {} if name == "none" else options)
    return method


def run(name: str) -> Any:
    method = made(name, dull=6)
    found = method.reduce(seen(method.window))
    return [found.places.tolist() if found.places is not None else None, [round(x, 4) for x in found.feats[:, 0].tolist()]]


@pytest.mark.parametrize("name", reduce.TABLE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_reducers_keep_their_budget_and_leave_tokens_alone(name: str, dtype: torch.dtype) -> None:
    for budget in (1, 2, 5, 6, 7, 23, 24, 25):
        method = made(name, dull=budget)
        given, same = seen(method.window, dtype), seen(method.window, dtype)
        found = method.reduce(given)
        count = len(found.feats)
        assert (found.feats.shape, found.feats.dtype) == ((count, 8), dtype)
        assert found.feats.isfinite().all()
        assert found.grid[0] * found.grid[1] == count
        assert name == "none" or 1 <= count <= budget
        assert torch.equal(method.reduce(same).feats, found.feats), "it depends on its arguments only"
        assert all(torch.equal(a.tokens.feats, b.tokens.feats) for a, b in zip(given, same, strict=True))


@pytest.mark.parametrize("name", reduce.TABLE)
def test_reducers_keep_all_when_told_to(name: str) -> None:
    for options in ({}, {"dull": 0}, {"dull": 24}, {"dull": 100, "keen": 100}):
        method = made(name, **options)
        given = seen(method.window, score=1.0)
        assert method.reduce(given) is given[-1].tokens
        dull = seen(method.window)
        assert name == "none" or not options or method.reduce(dull) is dull[-1].tokens


@pytest.mark.parametrize("name", reduce.TABLE)
@pytest.mark.parametrize("budget", [1, 5, 23])
def test_selecting_reducers_give_rows_in_order_each_once(name: str, budget: int) -> None:
    method = made(name, dull=budget)
    if not isinstance(method, Selecting):
        return
    given = seen(method.window)
    found = method.reduce(given)
    assert found.places is not None
    assert found.places.tolist() == sorted(set(found.places.tolist()))
    assert len(found.places) == budget
    assert torch.equal(found.feats, given[-1].tokens.feats[found.places])


@pytest.mark.parametrize("name", reduce.TABLE)
def test_a_constant_frame_and_the_first_frame_of_a_stream(name: str) -> None:
    method = made(name, dull=6)
    one = seen(1)[0]
    flat = dataclasses.replace(one, tokens=dataclasses.replace(one.tokens, feats=torch.ones(24, 8)))
    for given in ([flat], [flat] * method.window, seen(1)):
        found = method.reduce(given)
        assert found.feats.isfinite().all()
        assert name == "none" or 1 <= len(found.feats) <= 6
    assert torch.allclose(method.reduce([flat]).feats, torch.ones(1), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [("m3", {"dull": -1}, "dull"), ("random", {"keen": -4}, "keen")],
)
def test_values_that_make_no_sense_are_refused(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build("model.reduce", reduce.TABLE, name, options)
