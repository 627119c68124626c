"""VideoScan+: the carrier, and the visual tokens that it attends to most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from stream.carrier import CarrierInput
from stream.carrier.mean import VIDEOSCAN
from stream.policy import Paper
from stream.types import VisualTokens


@dataclass(frozen=True)
class Plus(CarrierInput):
    """The mean, and as companions the visual tokens with most of the carrier's attention, over all layers and heads.

    `companions`: how many a frame.
    """

    companions: int = 8

    paper: ClassVar[Paper] = Paper(
        title=f"{VIDEOSCAN} (VideoScan+)",
        link="https://arxiv.org/abs/2503.09387",
        fidelity="style",
        differs="one choice of tokens for all layers; later frames do not read them; they leave with their carrier",
    )
    attentive: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.companions < 1:
            raise ValueError(f"companions must be at least 1, got {self.companions}; `mean` has none")

    def embed(self, tokens: VisualTokens) -> Tensor:
        """See CarrierInput."""
        return tokens.feats.mean(0, keepdim=True)
