"""What methods share that make rows fewer at some blocks: when, how many, and who stands for those that left."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from stream.ops import nearest
from stream.tap import Tap
from stream.tower import Patches, Thinning, Tower


@dataclass(frozen=True, slots=True)
class At:
    """Where in the tower, and where on the grid."""

    depth: float  # of the block, a share of the tower's
    where: Tensor  # float32 [n, 2]: row and column of every row that is left


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

    def start(self, embeddings: Tensor, grid: tuple[int, int], blocks: int) -> Thinning | None:
        """See Tower."""
        if self.keep == 1:
            return None
        return Cutting(self, blocks, [corners(grid, embeddings.device)])

    @abstractmethod
    def fewer(self, patches: Patches, tap: Tap, count: int, at: At) -> tuple[Patches, Tensor]:
        """`count` rows in the place of the n > `count` that there are, and where those stand on the grid [count, 2]."""


@dataclass(frozen=True)
class Cutting:
    """See Thinning."""

    method: Cut
    blocks: int
    where: list[Tensor] = field(default_factory=list)  # one: of the rows that are left

    def thin(self, block: int, patches: Patches, tap: Tap) -> Patches:
        """See Thinning."""
        count = portion(len(patches.feats), self.method.keep)
        if count == len(patches.feats) or block not in {int(own * self.blocks) for own in self.method.depths}:
            return patches
        at = At(block / self.blocks, self.where[0])
        patches, self.where[0] = self.method.fewer(patches, tap, count, at)
        return patches


def portion(count: int, share: float) -> int:
    """A share of `count`, rounded up: 0.7 of 10 is 7, whatever floats say."""
    return -(-count * round(share * 10_000) // 10_000)


def only(patches: Patches, places: Tensor, where: Tensor) -> tuple[Patches, Tensor]:
    """Rows `places` go on, rising; the nearest of them on the grid stands for each that left."""
    owner = places[nearest(where, where[places])]
    return patches.kept(places, owner), where[places]


def corners(grid: tuple[int, int], device: torch.device) -> Tensor:
    """float32 [P, 2]: row and column of every patch, in raster order."""
    rows, columns = (torch.arange(side, dtype=torch.float32, device=device) for side in grid)
    return torch.cartesian_prod(rows, columns)
