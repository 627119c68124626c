"""Tokens of the last frames are clustered; the middles that the newest frame adds stay: CenterCLIP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from stream.ops import farthest
from stream.policy import Paper
from stream.reduce import Seen
from stream.reduce.dull import Dull
from stream.types import VisualTokens

ROUNDS = 100
SHIFT = 1e-5  # medoids that move less than this in all have settled
EQUAL = 1e-3  # of the largest distance: float32 tells no closer


def distances(x: Tensor) -> Tensor:
    """float32 [n, n]: Euclidean, of the rows of `x` [n, C]; next to nothing is 0, so that equal rows are equal."""
    apart = torch.cdist(x.float(), x.float()).fill_diagonal_(0)
    return torch.where(apart < EQUAL * apart.max(), 0, apart)


def k_medoids(x: Tensor, count: int, rounds: int = ROUNDS) -> tuple[Tensor, Tensor]:
    """`count` of the rows of `x` [n, C]: (medoids int64 [count], rising; int64 [n], which of them each row joins).

    The start is KKZ's: the longest row, then again and again the one farthest from its nearest medoid. Rows join their
    nearest medoid; a cluster's medoid becomes the member with the least summed distance to the others, of equals the
    first; until the medoids shift by less than 1e-5 in all, or for `rounds`.
    """
    apart = distances(x)
    first = int(x.float().norm(dim=1).argmax())
    near = apart[first].clone()
    near[first] = -torch.inf
    medoids = torch.tensor([first, *farthest(apart, count - 1, near)], device=x.device)
    for _ in range(rounds):
        moved = _middles(apart, _joins(apart, medoids), count)
        shift = apart[medoids, moved].sum()
        medoids = moved
        if shift < SHIFT:
            break
    medoids = medoids.sort().values
    return medoids, _joins(apart, medoids)


def _joins(apart: Tensor, medoids: Tensor) -> Tensor:
    """int64 [n]: the nearest medoid; a medoid joins itself, also where another lies at distance 0."""
    joins = apart[:, medoids].argmin(1)
    joins[medoids] = torch.arange(len(medoids), device=medoids.device)
    return joins


def _middles(apart: Tensor, joins: Tensor, count: int) -> Tensor:
    """int64 [count]: of every cluster the member with the least summed distance to its members, of equals the first."""
    sums = (apart * (joins[:, None] == joins[None, :])).sum(1)
    least = torch.full((count,), torch.inf, device=apart.device).scatter_reduce(0, joins, sums, "amin")
    best = sums <= least[joins] * (1 + EQUAL / 10)
    rows = torch.where(best, torch.arange(len(sums), device=apart.device), len(sums))
    return torch.full_like(least, len(sums), dtype=torch.long).scatter_reduce(0, joins, rows, "amin")


def segment(x: Tensor, count: int) -> Tensor:
    """The published form over a whole segment `x` [T, N, C]: int64 [count], rising, of its T * N tokens in time order.

    The paper keeps 49 of a segment of 3 to 5 frames (160 with patches of 16 pixels).
    """
    return k_medoids(x.flatten(0, 1), count)[0]


@dataclass(frozen=True)
class CenterClip(Dull):
    """K-medoids over the newest frame and the three before; the newest's tokens that are medoids stay as they are.

    `dull`: most tokens of a frame whose gate score is below `below`; 0 is all of them. There are so many clusters for
    every frame of the window: fewer of them fall to a frame that shows what was there before, at least one.
    `keen`: most tokens of every other frame; 0 is all of them.
    `below`: a frame with a lower score is dull.
    """

    paper: ClassVar[Paper] = Paper(
        title="CenterCLIP: Token Clustering for Efficient Text-Video Retrieval",
        link="https://arxiv.org/abs/2205.00823",
        fidelity="style",
        differs="after the projector and not inside the tower; a window that slides with the stream, of which only "
        "the newest frame's medoids are read; nothing is fine-tuned; k-medoids only, not the spectral variant",
    )
    window: ClassVar[int] = 4

    def shrink(self, seen: Sequence[Seen], budget: int) -> VisualTokens:
        """See Dull. More medoids than the budget: those of the largest clusters; none: the token farthest from its."""
        newest = seen[-1].tokens
        x = torch.cat([one.tokens.feats for one in seen])
        before = len(x) - len(newest.feats)
        medoids, joins = k_medoids(x, min(len(x), budget * len(seen)))
        sizes = torch.bincount(joins, minlength=len(medoids))
        own = (medoids >= before).nonzero()[:, 0]
        if not len(own):
            apart = (x[before:].float() - x[medoids[joins[before:]]].float()).norm(dim=1)
            return newest.only(apart.argmax()[None])
        largest = torch.argsort(sizes[own], descending=True, stable=True)[:budget]
        return newest.only((medoids[own[largest]] - before).sort().values)
