"""Facility location: the carrier leaves whose loss is felt least by all that is held (CATP's first stage)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from memory.retain import Choice, Retain, Rows
from stream.ops import cosines
from stream.policy import Paper


@dataclass(frozen=True)
class Facility(Retain):
    """sum over all x of max over those that stay y of (1 + cos(x, y)) / 2 falls least; ties: the oldest leaves.

    Where two carriers are alike the older one leaves, whatever is near them: the sum cannot tell them apart.
    """

    paper: ClassVar[Paper] = Paper(
        title="CATP: Contextually Adaptive Token Pruning for Efficient and Enhanced Multimodal In-Context Learning",
        link="https://arxiv.org/abs/2508.07871",
        fidelity="style",
        differs="stage 1 without its text term, as eviction: one carrier leaves at a time, where the paper adds tokens "
        "greedily; what left before is not among the x",
    )

    def choose(self, rows: Rows, rng: torch.Generator) -> Choice:  # noqa: ARG002
        """See Retain."""
        return Choice(int(losses(rows.digests)[:-1].argmin()))


def losses(digests: Tensor) -> Tensor:
    """float32 [n]: by how much facility location falls when that row of `digests` [n, D] leaves; n >= 2."""
    alike = (1 + cosines(digests)) / 2
    alike.fill_diagonal_(1.0)  # a row of zeros is like itself too
    best = alike.topk(2, dim=1)
    felt = best.values[:, 0] - best.values[:, 1]  # by each x, when its best leaves
    return torch.zeros_like(felt).index_add_(0, best.indices[:, 0], felt)
