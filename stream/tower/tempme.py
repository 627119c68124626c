"""Patches of a frame that are alike become one, a few after each block (the in-frame half of TempMe)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from stream.ops import merged, pairs
from stream.policy import Paper
from stream.tap import Tap
from stream.tower import Patches, Thinning, Tower


@dataclass(frozen=True)
class TempMe(Tower):
    """Even rows find the most alike of the odd ones, and the best pairs become means.

    `early`: share of the patches that is merged away over the first two thirds of the tower, the same count a block.
    `late`: share of the rows that is merged away over the last third, the same share a block; at most half in one.
    """

    early: float = 0.33  # 2 of 49 in each of 8 blocks
    late: float = 0.34  # a tenth in each of 4 blocks
    share: ClassVar[float] = 1.0
    paper: ClassVar[Paper] = Paper(
        "TempMe: Video Temporal Token Merging for Efficient Text-Video Retrieval",
        "https://arxiv.org/abs/2409.01156",
        "parity",
        "The merge step is the authors'; rows keep their order. Frames are not joined: that needs their trained clip "
        "positions, and a window. Their counts for 12 blocks are spread over the tower's depth.",
    )

    def __post_init__(self) -> None:
        if not (0 <= self.early < 1 and 0 <= self.late < 1):
            raise ValueError(f"early and late are shares in [0, 1), got {self.early} and {self.late}")

    def start(self, embeddings: Tensor, grid: tuple[int, int], blocks: int) -> Thinning | None:  # noqa: ARG002
        """See Tower."""
        total, early = len(embeddings), -(-blocks * 2 // 3)
        first = torch.linspace(total, total * (1 - self.early), early + 1).round().int().tolist()
        step = (1 - self.late) ** (1 / max(1, blocks - early))
        last = [round(first[-1] * step**turn) for turn in range(1, blocks - early + 1)]
        counts = tuple(max(1, count) for count in (*first[1:], *last))
        return None if counts[-1] == total else Merging(counts)


@dataclass(frozen=True)
class Merging:
    """See Thinning."""

    counts: tuple[int, ...]  # rows that are left after each block, where half a block's rows or fewer are to go

    def thin(self, block: int, patches: Patches, tap: Tap) -> Patches:
        """See Thinning."""
        feats, sizes, where = merge(patches.feats, tap.keys.mean(0), patches.sizes, self.counts[block])
        return patches if len(feats) == len(patches.feats) else Patches(feats, sizes, patches.send(where))


def merge(x: Tensor, metric: Tensor, sizes: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows `x` [n, C] as `count` <= n, at least half of them; how many patches each of these stands for; and into which
    of them each row went, int64 [n].

    One bipartite step: even rows by the cosine of `metric` [n, E] with odd ones. Means are weighted by `sizes` [n].
    """
    rows = torch.arange(len(x), device=x.device)
    owner = pairs(metric, rows[::2], rows[1::2], len(x) - count)
    feats, where = merged(x, owner, sizes)
    total = torch.zeros(len(feats), device=x.device).index_add(0, where, sizes)
    return feats, total, where
