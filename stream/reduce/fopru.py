"""FoPru keeps the tokens, or whole rows of the picture, that the vision tower's attention points at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from stream.ops import top
from stream.policy import Paper
from stream.reduce import Seen
from stream.reduce.dull import Attentive, last


@dataclass(frozen=True)
class FoPru(Attentive):
    """Significance of a token: how much attention its patches receive in the block that feeds the projector.

    `dull`: tokens of a frame whose gate score is below `below`; 0 is all of them.
    `keen`: tokens of every other frame; 0 is all of them.
    `below`: a frame with a lower score is dull.
    `strategy`: `rank`, the most significant tokens; `row`, the most significant rows of the grid, whole.
    """

    strategy: Literal["rank", "row"] = "rank"

    paper: ClassVar[Paper] = Paper(
        title="FoPru: Focal Pruning for Efficient Large Vision-Language Models",
        link="https://arxiv.org/abs/2411.14164",
        fidelity="style",
        differs="written from the abstract and a third party's version, there is no official code; significance is "
        "pooled as the features are; where a budget is no whole number of rows, the next row's best fill it",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.strategy not in ("rank", "row"):
            raise ValueError(f"strategy is rank or row, got {self.strategy!r}")

    def places(self, seen: Sequence[Seen], budget: int) -> Tensor:
        """See Selecting."""
        tokens = seen[-1].tokens
        tap = last(tokens)
        worth = tap.pool(significance(tap.mean()))
        return top(worth, budget) if self.strategy == "rank" else rows(worth, tokens.grid, budget)


def significance(attention: Tensor) -> Tensor:
    """[P] of a map `attention` [P, P], rows are queries: its column means or its row means, whichever vary more.

    A whole softmax has row means of 1 / P, so the attention received wins; a map cut from a larger one may differ.
    """
    received, given = attention.mean(0), attention.mean(1)
    return received if received.var() > given.var() else given


def rows(worth: Tensor, grid: tuple[int, int], count: int) -> Tensor:
    """int64 [count], rising: rows of `grid` with the highest sums of `worth` [N], whole, then a part of the next."""
    high, wide = grid
    order = torch.argsort(worth.view(high, wide).sum(1), descending=True, stable=True)
    starts = order[: -(-count // wide)] * wide
    whole = (starts[: count // wide, None] + torch.arange(wide, device=worth.device)).flatten()
    if len(whole) == count:
        return whole.sort().values
    begin = int(starts[-1])
    part = begin + top(worth[begin : begin + wide], count - len(whole))
    return torch.cat((whole, part)).sort().values
