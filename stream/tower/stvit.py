"""From a middle block on a few semantic tokens run in the patches' place; at the end they give them back (STViT)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from stream.ops import cosines
from stream.policy import Paper
from stream.tap import Tap
from stream.tower import Patches, Thinning, Tower


@dataclass(frozen=True)
class Stvit(Tower):
    """Centres of a soft k-means that starts from the picture, pooled.

    `keep`: share of the patches that there are semantic tokens; rounded to a grid.
    `depth`: after which block, a share of the tower's depth.
    `rounds`: of k-means.
    `temperature`: of the softmax over cosines; larger blurs.
    """

    keep: float = 0.25
    depth: float = 0.5
    rounds: int = 2
    temperature: float = 0.02
    share: ClassVar[float] = 1.0
    paper: ClassVar[Paper] = Paper(
        "Making Vision Transformers Efficient from A Token Sparsification View",
        "https://arxiv.org/abs/2303.08685",
        "style",
        "Training-free: soft k-means in the place of the two trained attention layers, average in the place of max "
        "pooling, and the weights of the clustering in the place of the trained recovery.",
    )

    def __post_init__(self) -> None:
        if not (0 < self.keep <= 1 and 0 <= self.depth < 1):
            raise ValueError(f"keep is in (0, 1] and depth in [0, 1), got {self.keep} and {self.depth}")
        if self.rounds < 0 or not self.temperature > 0:
            raise ValueError(f"rounds >= 0 and temperature > 0, got {self.rounds} and {self.temperature}")

    def start(self, embeddings: Tensor, grid: tuple[int, int], blocks: int) -> Thinning | None:
        """See Tower."""
        side = math.sqrt(self.keep)
        small = (max(1, round(grid[0] * side)), max(1, round(grid[1] * side)))
        if small[0] * small[1] >= len(embeddings):
            return None
        return Semantic(self, int(self.depth * blocks), grid, small)


@dataclass(frozen=True)
class Semantic:
    """See Thinning."""

    method: Stvit
    block: int
    grid: tuple[int, int]
    small: tuple[int, int]

    def thin(self, block: int, patches: Patches, tap: Tap) -> Patches:  # noqa: ARG002
        """See Thinning. Sizes are 1: the authors do not weigh semantic tokens."""
        if block != self.block:
            return patches
        rows = patches.feats.float()
        tokens = cluster(rows, pooled(rows, self.grid, self.small), self.method.rounds, self.method.temperature)
        back = (cosines(rows, tokens) / self.method.temperature).softmax(1)
        return Patches(tokens.to(patches.feats.dtype), torch.ones(len(tokens), device=tokens.device), back)


def pooled(x: Tensor, grid: tuple[int, int], small: tuple[int, int]) -> Tensor:
    """Rows `x` [P, C] of `grid` as means over the cells of a smaller one [k, C]."""
    return F.adaptive_avg_pool2d(x.T.reshape(1, -1, *grid), small)[0].flatten(1).T


def cluster(x: Tensor, seeds: Tensor, rounds: int, temperature: float) -> Tensor:
    """Soft k-means: tokens [k, C], means of rows `x` [n, C] by softmax of their cosine; it starts at `seeds` [k, C]."""
    for _ in range(rounds):
        seeds = (cosines(seeds, x) / temperature).softmax(1) @ x
    return seeds
