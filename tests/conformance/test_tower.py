"""What every tower method promises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from stream import tower
from stream.errors import ConfigError
from stream.policy import build
from stream.tap import Tap
from stream.tower import Patches

GRID = (4, 6)
BLOCKS = 8
ALL = {  # options under which nothing leaves
    "none": {},
    "uniform": {"keep": 1},
    "random": {"keep": 1},
    "gtp": {"keep": 1},
    "flowcut": {"keep": 1},
    "zerotprune": {"keep": 1},
    "transforming": {"keep": 1},
    "tempme": {"early": 0, "late": 0},
    "stvit": {"keep": 1},
}
LEFT: dict[str, tuple[dict[str, Any], int]] = {  # options, and how many of the 24 rows are left at the end
    "none": ({}, 24),
    "uniform": ({"keep": 0.5, "depths": [0.1, 0.5]}, 6),
    "random": ({"keep": 0.5, "depths": [0.1, 0.5]}, 6),
    "gtp": ({"keep": 0.3}, 8),  # 7.2, rounded up
    "flowcut": ({"keep": 0.3}, 8),
    "zerotprune": ({"keep": 0.7, "depths": [0.1, 0.5]}, 12),  # 16.8 and 11.9, rounded up
    "transforming": ({"keep": 0.7, "depths": [0.1, 0.5]}, 12),
    "tempme": ({"early": 0.5, "late": 0.5}, 6),
    "stvit": ({"keep": 0.25}, 6),
}
SWELL = {"gtp"}  # what is passed on is added, not averaged: a flat frame does not stay as it is


def walk(
    method: tower.Tower,
    seed: int = 1,
    dtype: torch.dtype = torch.float32,
    flat: bool = False,
    grid: tuple[int, int] = GRID,
) -> list[Patches]:
    """A frame's patches after each block, with random attention; no block changes a row by itself."""
    return list(steps(method, seed, dtype, flat, grid))


def steps(method: tower.Tower, seed: int, dtype: torch.dtype, flat: bool, grid: tuple[int, int]) -> Iterator[Patches]:
    rng, count = torch.Generator().manual_seed(seed), grid[0] * grid[1]
    feats = (torch.ones(count, 8) if flat else torch.randn(count, 8, generator=rng)).to(dtype)
    patches, before = Patches.whole(feats), feats.clone()
    thinning = method.start(feats, grid, BLOCKS)
    project = torch.randn(3, 2, 8, 4, generator=rng)
    for block in range(BLOCKS):
        queries, keys, values = (torch.einsum("nc,hcd->hnd", patches.feats.float(), own) for own in project)
        if thinning is not None:
            given = [patches.feats, patches.sizes, patches.back, queries, keys, values]
            copies = [own.clone() for own in given]
            patches = thinning.thin(block, patches, Tap.of(queries, keys, values))
            assert all(torch.equal(a, b) for a, b in zip(given, copies, strict=True)), "what it was given is changed"
        yield patches
    assert torch.equal(feats, before)


def run(name: str) -> Any:
    made = walk(build("model.tower", tower.TABLE, name))
    back = made[-1].back
    return [
        [len(patches.feats) for patches in made],
        back.tolist() if back.dtype == torch.int64 else [round(x, 4) for x in back.max(1).values.tolist()],
        [round(x, 4) for x in made[-1].feats[:, 0].tolist()],
    ]


@pytest.mark.parametrize("name", tower.TABLE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("flat", [False, True])
def test_the_grid_comes_back_whole(name: str, dtype: torch.dtype, flat: bool) -> None:
    method = build("model.tower", tower.TABLE, name)
    made = walk(method, dtype=dtype, flat=flat)
    counts = [len(patches.feats) for patches in made]
    assert counts == sorted(counts, reverse=True), "rows only leave"
    for patches in made:
        assert patches.restored().shape == (24, 8)
        assert patches.restored().dtype == dtype
        assert patches.restored().isfinite().all()
        assert patches.sizes.shape == (len(patches.feats),)
        assert (patches.sizes > 0).all()
        if patches.back.dtype == torch.int64:
            assert sorted(set(patches.back.tolist())) == list(range(len(patches.feats))), "every row stands for some"
        else:
            assert torch.allclose(patches.back.sum(1), torch.ones(24), atol=1e-4)
    assert name == "none" or counts[-1] < 24
    again = walk(method, dtype=dtype, flat=flat)
    assert all(torch.equal(a.feats, b.feats) for a, b in zip(made, again, strict=True))
    if flat and name not in SWELL:
        assert torch.allclose(made[-1].restored().float(), torch.ones(1), atol=1e-2)


@pytest.mark.parametrize("name", tower.TABLE)
def test_keeping_all_leaves_the_frame_whole(name: str) -> None:
    """None: the runner then takes the plain way, bit for bit (tests/stream/test_siglip.py)."""
    assert build("model.tower", tower.TABLE, name, ALL[name]).start(torch.ones(24, 8), GRID, BLOCKS) is None


@pytest.mark.parametrize("name", tower.TABLE)
def test_so_many_rows_are_left_as_was_asked_for(name: str) -> None:
    options, left = LEFT[name]
    made = walk(build("model.tower", tower.TABLE, name, options))
    assert len(made[-1].feats) == left
    assert len({tuple(row) for row in made[-1].feats.tolist()}) == left, "no row twice"


@pytest.mark.parametrize("name", tower.TABLE)
@pytest.mark.parametrize("grid", [(1, 1), (1, 2), (2, 2)])
def test_a_grid_may_be_tiny(name: str, grid: tuple[int, int]) -> None:
    made = walk(build("model.tower", tower.TABLE, name), grid=grid)
    assert made[-1].restored().shape == (grid[0] * grid[1], 8)
    assert made[-1].restored().isfinite().all()


@pytest.mark.parametrize("name", tower.TABLE)
def test_frames_know_nothing_of_each_other(name: str) -> None:
    """Block by block in turn, as two cameras may be, and after others: each is what it is alone."""
    method = build("model.tower", tower.TABLE, name)
    alone = [walk(build("model.tower", tower.TABLE, name), seed)[-1] for seed in (1, 2)]
    walk(method, 3)
    turns = zip(*(steps(method, seed, torch.float32, False, GRID) for seed in (1, 2)), strict=True)
    for own, found in zip(alone, list(turns)[-1], strict=True):
        assert torch.equal(own.feats, found.feats)
        assert torch.equal(own.restored(), found.restored())


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("uniform", {"keep": 0}, "keep"),
        ("random", {"depths": [1.5]}, "depths"),
        ("gtp", {"keep": 1.5}, "keep"),
        ("gtp", {"graph": "line"}, "spatial, semantic, mixed"),
        ("gtp", {"neighbours": 0}, "neighbours"),
        ("flowcut", {"keep": 0}, "keep"),
        ("zerotprune", {"similar": 2}, "similar"),
        ("transforming", {"temperature": 0}, "temperature"),
        ("tempme", {"late": 1}, "late"),
        ("stvit", {"depth": 1}, "depth"),
        ("stvit", {"temperature": 0}, "temperature"),
    ],
)
def test_values_that_make_no_sense_are_refused(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build("model.tower", tower.TABLE, name, options)
