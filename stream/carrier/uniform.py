"""The carrier and visual tokens that stand evenly: the plain choice at an equal number of companions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from stream.carrier import CarrierInput
from stream.policy import Paper
from stream.types import VisualTokens


@dataclass(frozen=True)
class Some(CarrierInput):
    """The mean, and some visual tokens once more, as they are."""

    companions: int = 8

    attentive: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.companions < 1:
            raise ValueError(f"companions must be at least 1, got {self.companions}; `mean` has none")

    def embed(self, tokens: VisualTokens) -> Tensor:
        """See CarrierInput."""
        feats = tokens.feats
        places = self.places(len(feats), min(self.companions, len(feats))).to(feats.device)
        return torch.cat((feats[places], feats.mean(0, keepdim=True)))

    def places(self, count: int, companions: int) -> Tensor:
        """Which of `count` tokens: int64 [companions], rising."""
        return (2 * torch.arange(companions) + 1) * count // (2 * companions)


@dataclass(frozen=True)
class Uniform(Some):
    """The mean, and as companions the middle token of each of so many equal stretches of the frame.

    `companions`: how many a frame.
    """

    paper: ClassVar[Paper] = Paper("uniform companions", "", "baseline")
