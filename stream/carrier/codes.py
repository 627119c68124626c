"""The carrier, and a few codes that the frame's tokens cluster into: VQToken's code means as companions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from stream.carrier import CarrierInput
from stream.policy import Paper
from stream.reduce.vqtoken import VQTOKEN, lengthened
from stream.types import VisualTokens


@dataclass(frozen=True)
class Codes(CarrierInput):
    """The mean, and as companions the codes of the frame's tokens: k-means by cosine, k-means++ for a start.

    `companions`: codes a frame, at most 256; fewer where the frame has fewer tokens that differ.
    `seed`: of the first centres.
    """

    companions: int = 8
    seed: int = 0

    paper: ClassVar[Paper] = Paper(
        title=VQTOKEN,
        link="https://arxiv.org/abs/2503.16980",
        fidelity="style",
        differs="codes of one frame, not of a clip, and 8 of them for 32; they get their members' length back and no "
        "trained VQ-Attn reads them; the carrier stays the mean",
    )
    attentive: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 1 <= self.companions <= 256:
            raise ValueError(f"companions must be 1 to 256, got {self.companions}; `mean` has none")

    def embed(self, tokens: VisualTokens) -> Tensor:
        """See CarrierInput. Codes stand in the order of their first members."""
        codes, _ = lengthened(tokens.feats, self.companions, self.seed)
        return torch.cat((codes, tokens.feats.mean(0, keepdim=True)))
