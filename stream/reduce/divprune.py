"""DivPrune: the tokens that are farthest from each other, so that what is alike is kept once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from stream.ops import cosines, farthest
from stream.policy import Paper
from stream.reduce import Seen
from stream.reduce.dull import Selecting


@dataclass(frozen=True)
class DivPrune(Selecting):
    """Greedy max-min diversity: the next token is the one whose nearest kept token is farthest by cosine.

    `dull`: tokens of a frame whose gate score is below `below`; 0 is all of them.
    `keen`: tokens of every other frame; 0 is all of them.
    `below`: a frame with a lower score is dull.
    `against`: frames before this one whose tokens count as kept already, so that what is new in this one comes first.
    """

    against: int = 0

    paper: ClassVar[Paper] = Paper(
        title="DivPrune: Diversity-based Visual Token Pruning for Large Multimodal Models",
        link="https://arxiv.org/abs/2503.02175",
        fidelity="style",
        differs="written from the published rule alone, the code is non-commercial; every frame has its budget, not "
        "all together; `against` is ours: the minima start from the tokens of the frames before",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.against <= 31:
            raise ValueError(f"against is a number of frames from 0 to 31, got {self.against}")
        object.__setattr__(self, "window", 1 + self.against)

    def places(self, seen: Sequence[Seen], budget: int) -> Tensor:
        """See Selecting."""
        known = [own.tokens.feats for own in seen[:-1]]
        return diverse(seen[-1].tokens.feats, budget, torch.cat(known) if known else None)


def diverse(feats: Tensor, count: int, known: Tensor | None = None) -> Tensor:
    """int64 [count], rising: rows of `feats` [N, D], greedily max-min by 1 - cosine.

    The first is the row farthest from its nearest other; with `known` [m, D] the row farthest from those.
    """
    near = None if known is None else (1 - cosines(feats, known)).amin(1)
    picked = farthest(1 - cosines(feats), count, near)
    return torch.tensor(sorted(picked), device=feats.device)
