"""The carrier, and semantic tokens: averages of the frame's regions that gather what is like them. STViT, untrained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from stream.carrier import CarrierInput
from stream.ops import cosines, pooled
from stream.policy import Paper
from stream.types import VisualTokens

ROUNDS = 2


def semantic(x: Tensor, grid: tuple[int, int], count: int, temperature: float) -> Tensor:
    """float32 [s, D], s <= `count`: semantic tokens of `x` [N, D], which stand on `grid`.

    They start as averages of s equal regions (4 x 4 for 16) and gather twice: each becomes the mean of all tokens,
    weighted by softmax(cosine / temperature). Always in the convex hull of `x`; soft k-means by direction.
    """
    found, _ = pooled(x.float(), grid, count)
    for _ in range(ROUNDS):
        found = (cosines(found, x) / temperature).softmax(1) @ x.float()
    return found


def spread(x: Tensor, found: Tensor, temperature: float) -> Tensor:
    """float32 [N, D]: `x` [N, D] as the semantic tokens `found` [s, D] give it back, to see what they lost."""
    return (cosines(x, found) / temperature).softmax(1) @ found.float()


@dataclass(frozen=True)
class SemTok(CarrierInput):
    """The mean, and semantic tokens as companions.

    `companions`: semantic tokens a frame; fewer where the frame has fewer tokens, or its grid does not divide so.
    `temperature`: of the softmax over cosines; 0.05 lets a token gather what is much like it, a large one everything.
    """

    companions: int = 16
    temperature: float = 0.05

    paper: ClassVar[Paper] = Paper(
        title="Making Vision Transformers Efficient from A Token Sparsification View",
        link="https://arxiv.org/abs/2303.08685",
        fidelity="style",
        differs="after the projector and not inside the tower; averages for a start, where the authors take maxima of "
        "windows; cosines for the trained attention, no learned cluster seeds; the carrier stays the mean",
    )
    attentive: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.companions < 1 or not self.temperature > 0:
            raise ValueError(
                f"companions must be at least 1 and temperature above 0, got {self.companions} and {self.temperature}"
            )

    def embed(self, tokens: VisualTokens) -> Tensor:
        """See CarrierInput."""
        found = semantic(tokens.feats, tokens.grid, self.companions, self.temperature)
        return torch.cat((found.to(tokens.feats.dtype), tokens.feats.mean(0, keepdim=True)))
