"""The carrier and visual tokens drawn by chance: the floor at an equal number of companions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from stream.carrier.uniform import Some
from stream.policy import Paper


@dataclass(frozen=True)
class Random(Some):
    """The mean, and as companions the same places of every frame, drawn with `seed`.

    `companions`: how many a frame.
    """

    seed: int = 0
    paper: ClassVar[Paper] = Paper("random companions", "", "baseline")

    def places(self, count: int, companions: int) -> Tensor:
        """See Some."""
        drawn = torch.randperm(count, generator=torch.Generator().manual_seed(self.seed))
        return drawn[:companions].sort().values
