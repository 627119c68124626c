"""Every so-manieth patch goes on: the plain choice at an equal budget."""

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
class Uniform(Cut):
    """Rows that stand evenly in raster order.

    `keep`: share of the rows that goes on at each place.
    `depths`: after which blocks, in shares of the tower's depth.
    """

    paper: ClassVar[Paper] = Paper("uniform patches", "", "baseline")

    def fewer(self, patches: Patches, tap: Tap, count: int, at: At) -> tuple[Patches, Tensor]:  # noqa: ARG002
        """See Cut: the middle of each of `count` equal stretches."""
        places = (2 * torch.arange(count, device=patches.feats.device) + 1) * len(patches.feats) // (2 * count)
        return only(patches, places, at.where)
