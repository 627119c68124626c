"""Every so-manieth token: the plain choice at an equal budget."""

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
class Uniform(Selecting):
    """Tokens that stand evenly in reading order.

    `dull`: tokens of a frame whose gate score is below `below`; 0 is all of them.
    `keen`: tokens of every other frame; 0 is all of them.
    `below`: a frame with a lower score is dull.
    """

    paper: ClassVar[Paper] = Paper("uniform tokens", "", "baseline")

    def places(self, seen: Sequence[Seen], budget: int) -> Tensor:
        """See Selecting: the middle of each of `budget` equal stretches."""
        feats = seen[-1].tokens.feats
        return (2 * torch.arange(budget, device=feats.device) + 1) * len(feats) // (2 * budget)
