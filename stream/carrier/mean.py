"""The mean of the frame's visual tokens: VideoScan's carrier. No parameters, no query."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from stream.carrier import CarrierInput
from stream.policy import Paper
from stream.types import VisualTokens

VIDEOSCAN = "VideoScan: Enabling Efficient Streaming Video Understanding via Frame-level Semantic Carriers"


@dataclass(frozen=True)
class Mean(CarrierInput):
    """C = (1/N) sum of E_i."""

    paper: ClassVar[Paper] = Paper(
        title=VIDEOSCAN,
        link="https://arxiv.org/abs/2503.09387",
        fidelity="style",
        differs="no newline tokens in the mean; keys are stored before rotation",
    )
    companions: int = field(default=0, init=False)
    attentive: ClassVar[bool] = False

    def embed(self, tokens: VisualTokens) -> Tensor:
        """See CarrierInput."""
        return tokens.feats.mean(0, keepdim=True)
