"""ToDRE: from the token that the vision tower attends to most, tokens that are least like those kept so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from stream.ops import cosines, farthest
from stream.policy import Paper
from stream.reduce import Seen
from stream.reduce.dull import Attentive, last


@dataclass(frozen=True)
class ToDre(Attentive):
    """Diverse tokens, beginning with the pivot: the token whose patches get the most attention in the last block.

    `dull`: tokens of a frame whose gate score is below `below`; 0 is all of them.
    `keen`: tokens of every other frame; 0 is all of them.
    `below`: a frame with a lower score is dull.
    `mode`: `sum`, the paper's second version: least sum of cosines to what is kept; `centre`, its first: greedy
    k-centre, the farthest from its nearest kept token.
    """

    mode: Literal["sum", "centre"] = "sum"

    paper: ClassVar[Paper] = Paper(
        title="ToDRE: Effective Visual Token Pruning via Token Diversity and Task Relevance",
        link="https://arxiv.org/abs/2505.18757",
        fidelity="style",
        differs="there is no public code; every frame has its pivot and its budget; received attention stands for that "
        "of CLS; of stage 2, no visual token in the last layers, nothing is done here: that is a rule for what the "
        "memory stores of late layers, and nearly all of the gain is stage 1",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mode not in ("sum", "centre"):
            raise ValueError(f"mode is sum or centre, got {self.mode!r}")

    def places(self, seen: Sequence[Seen], budget: int) -> Tensor:
        """See Selecting."""
        tokens = seen[-1].tokens
        tap = last(tokens)
        pivot = int(torch.nan_to_num(tap.pool(tap.received())).argmax())
        alike = cosines(tokens.feats)
        picked = max_sum(alike, pivot, budget) if self.mode == "sum" else centres(1 - alike, pivot, budget)
        return torch.tensor(sorted(picked), device=tokens.feats.device)


def max_sum(alike: Tensor, pivot: int, count: int) -> list[int]:
    """`count` rows in the order picked: `pivot`, then the least sum of `alike` [N, N] to all picked so far."""
    picked, total = [pivot], alike[pivot].clone()
    for _ in range(count - 1):
        total[picked[-1]] = torch.inf
        picked.append(int(total.argmin()))
        total += alike[picked[-1]]
    return picked


def centres(apart: Tensor, pivot: int, count: int) -> list[int]:
    """`count` rows in the order picked: `pivot`, then the farthest from its nearest picked by `apart` [N, N]."""
    near = apart[pivot].clone()
    near[pivot] = -torch.inf  # it is picked, and stays so
    return [pivot, *farthest(apart, count - 1, near)]
