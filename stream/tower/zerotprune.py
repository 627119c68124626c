"""First patches leave whose twin stays, then those that the attention graph ranks lowest (Zero-TPrune)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from stream.ops import cosines, nearest, top
from stream.policy import Paper
from stream.tap import Tap
from stream.tower import Patches
from stream.tower.cut import At, Cut

VARIANCE = (0.01, 0.7)  # of a head's scores, whose mean is 1: heads outside say nothing, or look at one place only
VOTES = (40, 8, 1)  # rounds of voting in shallow, middle and deep blocks


@dataclass(frozen=True)
class ZeroTPrune(Cut):
    """Patches that are read by what is read much rank high: PageRank on the attention of a block.

    `keep`: share of the rows that goes on at each place.
    `depths`: after which blocks, in shares of the tower's depth.
    `similar`: share of those that leave for having a twin, not for a low rank.
    """

    keep: float = 0.8
    similar: float = 0.5
    paper: ClassVar[Paper] = Paper(
        "Zero-TPrune: Zero-Shot Token Pruning through Leveraging of the Attention Graph in Pre-Trained Transformers",
        "https://arxiv.org/abs/2305.17328",
        "style",
        "No public code. Uniform start, the paper's variant without CLS. Scores have mean 1 for the limits on a head's "
        "variance. Which blocks and how many patches are ours. A patch with a twin is given the twin for the pooling, "
        "others the nearest on the grid.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.similar <= 1:
            raise ValueError(f"similar is a share of those that leave in [0, 1], got {self.similar}")

    def fewer(self, patches: Patches, tap: Tap, count: int, at: At) -> tuple[Patches, Tensor]:
        """See Cut."""
        gone = len(patches.feats) - count
        ranks = page_rank(tap.maps(), 1)
        twins = twin(tap.keys.transpose(0, 1).flatten(1), ranks, round(self.similar * gone))
        rest = torch.nonzero(twins == torch.arange(len(twins), device=twins.device)).flatten()
        among = tap.only(rest).maps()
        places = rest[top(page_rank(among, VOTES[min(2, int(at.depth * 3))]), count)]
        owner = places[nearest(at.where, at.where[places])]
        stays = torch.isin(twins, places)  # a twin that left later stands for nothing
        return patches.kept(places, torch.where(stays, twins, owner)), at.where[places]


def page_rank(maps: Iterable[Tensor], rounds: int) -> Tensor:
    """Importance [n] on attention weights, [n, n] for each head: every token starts with 1 vote, and in each of
    `rounds` gives what it has to those it reads. Heads whose scores vary too little or too much are left out, unless
    all do; the others join by the root of their mean square."""
    scores = torch.stack([_votes(own, rounds) for own in maps])
    spread = scores.var(1, correction=0)
    told = (spread >= VARIANCE[0]) & (spread <= VARIANCE[1])
    return (scores[told] if bool(told.any()) else scores).square().mean(0).sqrt()


def _votes(weights: Tensor, rounds: int) -> Tensor:
    votes = torch.ones(len(weights), device=weights.device)
    for _ in range(rounds):
        votes = votes @ weights
    return votes


def twin(keys: Tensor, ranks: Tensor, count: int) -> Tensor:
    """int64 [n]: for each token the one that stands for it, itself for all but `count`.

    Of the less important half those leave that are most alike, by the cosine of `keys` [n, C], to one of the other.
    """
    owner = torch.arange(len(ranks), device=ranks.device)
    upper = top(ranks, len(ranks) - len(ranks) // 2)
    lower = owner[~torch.isin(owner, upper)]
    if count < 1 or not len(lower):
        return owner
    best = cosines(keys[lower], keys[upper]).max(1)
    leave = top(best.values, count)
    owner[lower[leave]] = upper[best.indices[leave]]
    return owner
