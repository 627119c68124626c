"""Max-min diversity: of the two most alike carriers, the one closer to the rest leaves (after DivPrune)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from memory.retain import Choice, Retain, Rows
from stream.ops import cosines
from stream.policy import Paper


@dataclass(frozen=True)
class MaxMin(Retain):
    """What stays is as far apart as one eviction can make it: distances are 1 - cosine."""

    paper: ClassVar[Paper] = Paper(
        title="DivPrune: Diversity-based Visual Token Pruning for Large Multimodal Models",
        link="https://arxiv.org/abs/2503.02175",
        fidelity="idea",
        differs="the paper picks tokens of one prompt greedily; here its measure says which carrier of a bank leaves",
    )

    def choose(self, rows: Rows, rng: torch.Generator) -> Choice:  # noqa: ARG002
        """See Retain."""
        return Choice(crowded(1 - cosines(rows.digests)))


def crowded(apart: Tensor) -> int:
    """The row without which the least distance among the others is largest; never the last. `apart` [n, n].

    Of the closest pair, the member whose next neighbour is nearer; ties, and the last row's partner: the lower number.
    """
    n = len(apart)
    away = apart.clone().fill_diagonal_(torch.inf)
    first, second = sorted(divmod(int(away.argmin()), n))  # the two directions may differ in their last bit
    if second == n - 1 or n == 2:
        return first
    away[first, second] = away[second, first] = torch.inf
    return second if away[second].min() < away[first].min() else first
