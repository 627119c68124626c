"""What every tower method promises."""

from __future__ import annotations

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


def walk(method: tower.Tower, seed: int = 1, dtype: torch.dtype = torch.float32, flat: bool = False) -> list[Patches]:
    """A frame's patches after each block, with random attention; no block changes a row by itself."""
    rng = torch.Generator().manual_seed(seed)
    feats = (torch.ones(24, 8) if flat else torch.randn(24, 8, generator=rng)).to(dtype)
    patches, made = Patches.whole(feats), []
    thinning = method.start(feats, GRID, BLOCKS)
    project = torch.randn(3, 2, 8, 4, generator=rng)
    for block in range(BLOCKS):
        queries, keys, values = (torch.einsum("nc,hcd->hnd", patches.feats.float(), own) for own in project)
        if thinning is not None:
            patches = thinning.thin(block, patches, Tap.of(queries, keys, values))
        made.append(patches)
    return made


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
    assert all(a >= b for a, b in zip(counts, counts[1:], strict=False)), "rows only leave"
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
    if flat:
        assert torch.allclose(made[-1].restored().float(), torch.ones(1), atol=1e-2)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [("uniform", {"keep": 0}, "keep"), ("random", {"depths": [1.5]}, "depths")],
)
def test_values_that_make_no_sense_are_refused(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build("model.tower", tower.TABLE, name, options)
