"""Patches to which little information flows leave, more of them where attention is concentrated (FlowCut)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from stream.ops import top
from stream.policy import Paper
from stream.tap import Tap
from stream.tower import Patches, Thinning, Tower
from stream.tower.cut import corners, only, portion

EPS = 1e-7  # in the logarithm of the entropy, as in the authors' code for Qwen2-VL


@dataclass(frozen=True)
class FlowCut(Tower):
    """After every second block, so many as the entropy of the attention says; after the last exactly `keep` are left.

    `keep`: share of the patches that is left at the end.
    """

    keep: float = 0.5
    share: ClassVar[float] = 1.0
    paper: ClassVar[Paper] = Paper(
        "FlowCut: Rethinking Redundancy via Information Flow for Efficient Vision-Language Models",
        "https://arxiv.org/abs/2505.19536",
        "parity",
        "The authors' form without CLS (Qwen2-VL): a mean query in its place, no semantic term. The end count is a "
        "share of the patches. The second cut, inside the language model, is left out. A patch that left is given the "
        "nearest on the grid for the pooling. Cut before the block's MLP, not after it: the same numbers for less.",
    )

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise ValueError(f"keep is a share of the patches in (0, 1], got {self.keep}")

    def start(self, embeddings: Tensor, grid: tuple[int, int], blocks: int) -> Thinning | None:
        """See Tower."""
        target = portion(len(embeddings), self.keep)
        return None if target == len(embeddings) else Flow(target, blocks, [corners(grid, embeddings.device)])


@dataclass(frozen=True)
class Flow:
    """See Thinning."""

    target: int
    blocks: int
    state: list[Tensor] = field(default_factory=list)  # places on the grid [n, 2], then the cumulative score [n]

    def thin(self, block: int, patches: Patches, tap: Tap) -> Patches:
        """See Thinning."""
        count, left = len(patches.feats), self.blocks - block - 1
        if count <= self.target:
            return patches
        relation = mean_query(tap.queries, tap.keys)
        score = relation * strength(tap.values)
        self.state[1:] = [0.5 * self.state[1] + 0.5 * score if self.state[1:] else score]
        if left % 2:
            return patches
        goes = surplus(relation, left, self.target) if left else count
        places = top(self.state[1], max(count - goes, self.target))
        patches, where = only(patches, places, self.state[0])
        self.state[:] = [where, self.state[1][places]]
        return patches


def mean_query(queries: Tensor, keys: Tensor) -> Tensor:
    """How much the mean query reads of each token [n]: softmax by head, then the mean; from [heads, n, Dh] each."""
    logits = queries.mean(1, keepdim=True) @ keys.transpose(1, 2) / math.sqrt(queries.shape[2])
    return logits.softmax(-1).mean(0)[0]


def strength(values: Tensor) -> Tensor:
    """[n]: L1 norm of the values [heads, n, Dh], mean over heads first."""
    return values.mean(0).abs().sum(1)


def surplus(relation: Tensor, left: int, target: int) -> int:
    """How many of n tokens to cut, `left` > 0 blocks before the last, when `target` are to be left at the end.

    (n - target) / sqrt(left) * (1 - h^2); h is the entropy of `relation` [n], which sums to 1, over log n.
    """
    count = len(relation)
    entropy = -(relation * (relation + EPS).log()).sum() / math.log(count)
    return int(((count - target) / left**0.5 * (1 - entropy**2)).round())


def clip_score(cls: Tensor, semantic: Tensor, values: Tensor) -> Tensor:
    """The authors' score for towers with CLS [n]: `cls` is what CLS reads of each token and `semantic` the softmax of
    its value's products with theirs, both mean over heads; `values` [n, Dh] are mean over heads. Not used here."""
    return (cls / cls.sum() + semantic / semantic.sum()) * values.abs().sum(1)


def clip_surplus(cls: Tensor, left: int, target: int) -> int:
    """`surplus` for towers with CLS: `cls` [n] need not sum to 1. A zero in it counts as no entropy, where the authors'
    code ends in NaN."""
    share = cls / cls.sum()
    entropy = -torch.xlogy(share, share).sum() / math.log(len(cls))
    return int(((len(cls) - target) / left**0.5 * (1 - entropy**2)).round())
