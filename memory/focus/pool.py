"""Means of tokens on a frame's grid: cells over the grid or a box of it, and what they make of the tokens at hand.

cells [c, H*W]  --a frame's own tokens-->  weights [c, n]  --stand, normalise-->  Reading
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt

import torch
from torch import Tensor
from torch.nn import functional as F

from memory.focus import Reading, Tokens
from stream.ops import nearest

Size = tuple[int, int]  # rows, columns


def bilinear(grid: Size, size: Size) -> Tensor:
    """float32 [h * w, H * W]: what each cell of `size` takes of `grid` when that is resized, corners not aligned."""
    return F.interpolate(_planes(grid), size=size, mode="bilinear").flatten(2)[0].T


def averages(grid: Size, size: Size, box: tuple[int, int, int, int] | None = None) -> Tensor:
    """float32 [h * w, H * W]: adaptive average pooling of `grid`, or of its `box` (top, bottom, left, right)."""
    top, bottom, left, right = box or (0, grid[0], 0, grid[1])
    return F.adaptive_avg_pool2d(_planes(grid)[..., top:bottom, left:right], size).flatten(2)[0].T


def sides(count: int, grid: Size) -> Size:
    """Rows and columns of at most `count` >= 1 cells: floor(sqrt(count)) both, and one more row, else one more column,
    if these still fit; nothing larger than `grid`."""
    side = isqrt(count)
    high, wide = min(side, grid[0]), min(side, grid[1])
    if high < grid[0] and (high + 1) * wide <= count:
        high += 1
    elif wide < grid[1] and high * (wide + 1) <= count:
        wide += 1
    return high, wide


def own(tokens: Tokens, frame: int) -> Tensor:
    """int64: the tokens of one frame."""
    return torch.nonzero(tokens.frames == frame).flatten()


def spread(cells: Tensor, tokens: Tokens, frame: int) -> Tensor:
    """Weights [c, n] over all tokens of `cells` [c, H * W] of one frame. Tokens that the frame has not got count for
    nothing; a cell of such tokens only takes the token nearest to its middle."""
    where = own(tokens, frame)
    weights = torch.zeros(len(cells), len(tokens))
    weights[:, where] = cells[:, tokens.places[where]]
    lost = weights.sum(1) == 0
    if lost.any():
        places = torch.arange(cells.shape[1])
        at = torch.stack((places // tokens.grid[1], places % tokens.grid[1]), dim=1).float()
        weights[lost.nonzero().flatten(), where[nearest(cells[lost] @ at, at[tokens.places[where]])]] = 1.0
    return weights


def whole(tokens: Tokens, frame: int) -> Tensor:
    """Weights [c, n] that read all c tokens of a frame as they are."""
    where = own(tokens, frame)
    weights = torch.zeros(len(where), len(tokens))
    weights[torch.arange(len(where)), where] = 1.0
    return weights


def reading(parts: Sequence[Tensor], tokens: Tokens) -> Reading:
    """What rows of `parts` [c, n] >= 0 read, in the order of the tokens that weigh most in them.

    Of rows with the same heaviest token the later ones stand at the next free token of its frame. A frame with more
    rows than tokens is read as it is.
    """
    weights = torch.cat(list(parts))
    weights = weights / weights.sum(1, keepdim=True)
    stands = weights.argmax(1)
    rows, found = list[Tensor](), list[Tensor]()
    for frame in sorted(set(tokens.frames[stands].tolist())):
        where = own(tokens, frame)
        here = torch.nonzero(tokens.frames[stands] == frame).flatten()
        if len(here) > len(where):
            rows.append(where)
            found.append(whole(tokens, frame))
            continue
        order = here[torch.argsort(stands[here], stable=True)]
        rows.append(_apart(stands[order], int(where[-1])))
        found.append(weights[order])
    return Reading(torch.cat(rows), torch.cat(found))


def _apart(places: Tensor, last: int) -> Tensor:
    """Rising `places` moved up, and down again from `last`, until all differ."""
    steps = torch.arange(len(places))
    up = (places - steps).cummax(0).values + steps
    return torch.minimum(up, last - steps.flip(0))


def _planes(grid: Size) -> Tensor:
    """[1, H * W, H, W]: for every place of the grid a plane that is 1 there."""
    return torch.eye(grid[0] * grid[1]).view(1, -1, *grid)
