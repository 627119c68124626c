"""Patches drawn by chance: the floor that every tower method has to beat at an equal budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from stream.policy import Paper
from stream.tap import Tap
from stream.tower import Patches
from stream.tower.cut import At, Cut, only


@dataclass(frozen=True)
class Random(Cut):
    """The same places in every frame, drawn with `seed`.

    `keep`: share of the rows that goes on at each place.
    `depths`: after which blocks, in shares of the tower's depth.
    """

    seed: int = 0
    paper: ClassVar[Paper] = Paper("random patches", "", "baseline")

    def fewer(self, patches: Patches, tap: Tap, count: int, at: At) -> tuple[Patches, Tensor]:  # noqa: ARG002
        """See Cut."""
        drawn = torch.randperm(len(patches.feats), generator=torch.Generator().manual_seed(self.seed))
        return only(patches, drawn[:count].sort().values.to(patches.feats.device), at.where)
