"""HiPrune: anchors that a middle block of the vision tower attends to, their neighbours, and what the last one does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from stream.ops import top
from stream.policy import Paper
from stream.reduce import Seen
from stream.reduce.dull import Attentive, last


@dataclass(frozen=True)
class HiPrune(Attentive):
    """A few anchors hold an object together with the tokens around them; registers of the last block hold the rest.

    `dull`: tokens of a frame whose gate score is below `below`; 0 is all of them.
    `keen`: tokens of every other frame; 0 is all of them.
    `below`: a frame with a lower score is dull.
    `alpha`: share of the tokens that go to anchors and the four around each; below 2.5 / alpha tokens there is none.
    `depth`: where in the tower the middle block stands, as a share of its blocks.
    """

    alpha: float = 0.1
    depth: float = 0.4

    paper: ClassVar[Paper] = Paper(
        title="HiPrune: Training-Free Visual Token Pruning via Hierarchical Attention in Vision-Language Models",
        link="https://arxiv.org/abs/2508.00553",
        fidelity="parity",
        differs="as the authors' file for LLaVA; both maps are pooled as the features are, so neighbours are those of "
        "the token grid; no CLS among the query rows; where anchors and neighbours are more than the budget, the "
        "weakest anchors are left out, where the authors' code fails",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("alpha", "depth"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share in [0, 1], got {getattr(self, name)}")

    def blocks(self, depth: int) -> tuple[int, ...]:
        """See Reduce: the middle block and the last."""
        return tuple(sorted({self._middle(depth), depth - 1}))

    def places(self, seen: Sequence[Seen], budget: int) -> Tensor:
        """See Selecting."""
        tokens = seen[-1].tokens
        taps = tokens.taps[self._middle(max(tokens.taps) + 1)], last(tokens)
        middle, deep = (tap.pool(tap.received()) for tap in taps)
        return hierarchy(middle, deep, budget, tokens.grid[1], self.alpha)

    def _middle(self, depth: int) -> int:
        return min(int(self.depth * depth), depth - 1)


def hierarchy(middle: Tensor, deep: Tensor, count: int, wide: int, alpha: float = 0.1) -> Tensor:
    """int64 [count], rising: anchors and buffers by `middle` [N], then registers by `deep` [N].

    round(count * alpha / 5) anchors, each with the token before, after, above and below it on a grid `wide` columns
    across: clamped to 0 .. N-1, but a neighbour may stand at the other end of the row before or after. Source:
    encode_images of LLaVA/llava/model/llava_arch.py in Danielement321/HiPrune.
    """
    order = torch.argsort(middle.float(), descending=True, stable=True)
    steps = torch.tensor([0, -1, 1, -wide, wide], device=middle.device)
    anchors = round(count * alpha / 5)
    while True:
        near = (order[:anchors, None] + steps).clamp(0, len(middle) - 1)
        near = torch.unique(near)
        if len(near) <= count:
            break
        anchors -= 1
    rest = deep.float().index_fill(0, near, -torch.inf)
    return torch.cat((near, top(rest, count - len(near)))).sort().values
