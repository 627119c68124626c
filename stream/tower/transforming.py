"""Any row may go into several: fewer rows are a product W X, and W says how they were made (Token Transforming)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from stream.ops import cosines, top
from stream.policy import Paper
from stream.tap import Tap
from stream.tower import Patches
from stream.tower.cut import At, Cut


@dataclass(frozen=True)
class Transforming(Cut):
    """The rows that are read most are anchors; each becomes a mean of all rows, by how alike their keys are.

    `keep`: share of the rows that goes on at each place.
    `depths`: after which blocks, in shares of the tower's depth.
    `temperature`: of the softmax over cosines; towards 0 only the anchors themselves are left.
    `weighted`: whether rows that are read more weigh more.
    """

    keep: float = 0.8
    temperature: float = 0.02  # 0.1 already blurs more than it saves
    weighted: bool = False
    paper: ClassVar[Paper] = Paper(
        "Token Transforming: A Unified and Training-Free Token Compression Framework "
        "for Vision Transformer Acceleration",
        "https://arxiv.org/abs/2506.05709",
        "style",
        "No public code: rebuilt from the idea. Anchors by attention received, W from the cosine of keys. Sizes are "
        "shared out by the columns of W, so that their sum stays the number of patches.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.temperature > 0:
            raise ValueError(f"temperature is above 0, got {self.temperature}")

    def fewer(self, patches: Patches, tap: Tap, count: int, at: At) -> tuple[Patches, Tensor]:
        """See Cut. Each row that is no anchor is stood for by the anchor most like it."""
        read = tap.received(patches.sizes.log())
        anchors, keys = top(read, count), tap.keys.transpose(0, 1).flatten(1)
        alike = cosines(keys[anchors], keys)
        owner = anchors[alike.argmax(0)]
        owner[anchors] = anchors
        mix = dense(alike, self.temperature, read if self.weighted else None)
        feats, sizes = transform(mix, patches.feats, patches.sizes)
        return Patches(feats, sizes, patches.kept(anchors, owner).back), at.where[anchors]


def dense(alike: Tensor, temperature: float, weights: Tensor | None = None) -> Tensor:
    """W [m, n] of many to many: softmax of cosines `alike` [m, n] over all rows, times `weights` [n] if given."""
    logits = alike / temperature
    return (logits if weights is None else logits + weights.clamp_min(1e-30).log()).softmax(1)


def pruning(places: Tensor, count: int) -> Tensor:
    """W [m, n] of a method that keeps rows `places` [m] of `count`."""
    return torch.eye(count, device=places.device)[places]


def merging(owner: Tensor, sizes: Tensor) -> Tensor:
    """W [m, n] of a method that takes the mean, by `sizes` [n], of rows with the same `owner` [n]."""
    owners, where = torch.unique(owner, return_inverse=True)
    same: Tensor = (where == torch.arange(len(owners), device=owner.device)[:, None]) * sizes
    return same / same.sum(1, keepdim=True)


def transform(mix: Tensor, x: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """`mix` [m, n], whose rows sum to 1, over `x` [n, C] and `sizes` [n]: a row's size is shared by those it goes into.

    What goes nowhere, as in pruning, counts for nothing any more.
    """
    total = mix.sum(0)
    share = torch.where(total > 0, mix / total.clamp_min(torch.finfo(mix.dtype).tiny), 0.0)
    return (mix @ x.float()).to(x.dtype), share @ sizes
