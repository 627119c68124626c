"""What methods share that keep some patches and let the others go: when, how many, and who stands for those that left."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from stream.ops import nearest
from stream.tap import Tap
from stream.tower import Patches, Thinning, Tower


@dataclass(frozen=True)
class Cut(Tower):
    """After the blocks at `depths` (shares of the tower's depth) a share `keep` of the rows goes on, rounded up."""

    keep: float = 0.7
    depths: tuple[float, ...] = (0.25, 0.5, 0.75)
    share: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "depths", tuple(self.depths))
        if not 0 < self.keep <= 1:
            raise ValueError(f"keep is a share of the rows in (0, 1], got {self.keep}")
        if not self.depths or not all(0 <= depth < 1 for depth in self.depths):
            raise ValueError(f"depths are shares of the tower's depth in [0, 1), got {list(self.depths)}")

    def start(self, embeddings: Tensor, grid: tuple[int, int], blocks: int) -> Thinning | None:  # noqa: ARG002
        """See Tower."""
        if self.keep == 1:
            return None
        return Cutting(self, frozenset(int(depth * blocks) for depth in self.depths), grid)

    @abstractmethod
    def places(self, patches: Patches, tap: Tap, count: int) -> Tensor:
        """Which `count` of the rows go on: int64, rising."""


@dataclass(frozen=True)
class Cutting:
    """See Thinning. A patch that left is stood for by the nearest on the grid that goes on."""

    method: Cut
    blocks: frozenset[int]
    grid: tuple[int, int]
    where: list[Tensor] = field(default_factory=list)  # of the rows that are left: [n, 2] places on the grid

    def thin(self, block: int, patches: Patches, tap: Tap) -> Patches:
        """See Thinning."""
        if not self.where:
            self.where.append(corners(self.grid, patches.feats.device))
        count = -(-len(patches.feats) * round(self.method.keep * 10_000) // 10_000)
        if block not in self.blocks or count >= len(patches.feats):
            return patches
        places = self.method.places(patches, tap, count)
        owner = places[nearest(self.where[0], self.where[0][places])]
        self.where[0] = self.where[0][places]
        return patches.kept(places, owner)


def corners(grid: tuple[int, int], device: torch.device) -> Tensor:
    """float32 [P, 2]: row and column of every patch, in raster order."""
    rows, columns = (torch.arange(side, dtype=torch.float32, device=device) for side in grid)
    return torch.cartesian_prod(rows, columns)
