"""Tokens drawn by chance: the floor that every reducer has to beat at an equal budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from stream.policy import Paper
from stream.reduce import Seen
from stream.reduce.dull import Selecting


@dataclass(frozen=True)
class Random(Selecting):
    """The same places in every frame, drawn with `seed`: nothing has to be kept from one frame to the next.

    `dull`: tokens of a frame whose gate score is below `below`; 0 is all of them.
    `keen`: tokens of every other frame; 0 is all of them.
    `below`: a frame with a lower score is dull.
    """

    seed: int = 0
    paper: ClassVar[Paper] = Paper("random tokens", "", "baseline")

    def places(self, seen: Sequence[Seen], budget: int) -> Tensor:
        """See Selecting."""
        feats = seen[-1].tokens.feats
        drawn = torch.randperm(len(feats), generator=torch.Generator().manual_seed(self.seed))
        return drawn[:budget].sort().values.to(feats.device)
