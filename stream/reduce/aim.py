"""Most alike tokens of a frame become their mean, halving by halving down to the budget: AIM before the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from stream.ops import merged, pairs
from stream.policy import Paper
from stream.reduce import Seen
from stream.reduce.dull import Dull
from stream.types import VisualTokens


def halve(x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """One round of merging over `x` [n, C]: ([m, C], int64 [m], rising: where each stood).

    Tokens with an even number find their most alike (cosine) with an odd number; the `count` best of these pairs, at
    most n // 2, become plain means that stand where the odd one stood. 0 gives `x` itself.
    """
    rows = torch.arange(len(x), device=x.device)
    count = min(count, len(x) // 2)
    if count < 1:
        return x, rows
    owner = pairs(x, rows[::2], rows[1::2], count)
    means, _ = merged(x, owner)
    return means, torch.unique(owner)


def outer(x: Tensor) -> Tensor:
    """The authors' two rounds over a frame's tokens [n, C], by n // 2 and by n // 4: 196 become 98, then 49.

    Source: LaVi-Lab/AIM. A token that is the mean of several weighs no more than another in the second round. Rows stay
    in reading order, where theirs put unmerged ones first, most alike before; with even n none is left unmerged.
    """
    once, _ = halve(x, len(x) // 2)
    return halve(once, len(x) // 4)[0]


@dataclass(frozen=True)
class Aim(Dull):
    """Rounds of merging, each taking away up to half of the tokens, until the budget is met.

    `dull`: tokens of a frame whose gate score is below `below`; 0 is all of them.
    `keen`: tokens of every other frame; 0 is all of them.
    `below`: a frame with a lower score is dull.
    """

    paper: ClassVar[Paper] = Paper(
        title="AIM: Adaptive Inference of Multi-Modal LLMs via Token Merging and Pruning",
        link="https://arxiv.org/abs/2412.03248",
        fidelity="parity",
        differs="tokens stay in reading order; any budget, where the authors have a half and a quarter; pruning inside "
        "the language model is the prefill stage's",
    )

    def shrink(self, seen: Sequence[Seen], budget: int) -> VisualTokens:
        """See Dull. A merged token's place is the one at which its mean stands."""
        newest = seen[-1].tokens
        feats, places = newest.feats, torch.arange(len(newest.feats), device=newest.feats.device)
        while len(feats) > budget:
            feats, stood = halve(feats, len(feats) - budget)
            places = places[stood]
        kept = newest.only(places)
        return VisualTokens(feats, kept.grid, kept.places)
