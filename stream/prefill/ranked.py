"""What methods share that rank tokens by what layers showed before a cut: where they cut, and by which attention."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor
from typing import ClassVar

import torch
from torch import Tensor

from stream.ops import top
from stream.prefill import Passing
from stream.prefill.cut import Cut, Cutting, Schedule


def nearest_layer(depth: float, layers: int, least: int = 1) -> int:
    """The layer nearest to a share `depth` of all `layers`, where a cut is of use.

    It is none of the first `least`, for a score needs layers before it. And it is not the last, if there is another:
    what the carrier stores of the last layer does not depend on what else goes through it.
    """
    return max(least, min(layers - 2, floor(depth * layers + 0.5)))


def logits(query: Tensor, key: Tensor) -> Tensor:
    """Scaled scores float32 [heads, T, T] of `query` [heads, T, Dh] and `key` [Hkv, T, Dh]; -inf for later keys."""
    heads, count, width = query.shape
    groups = query.float().view(len(key), -1, count, width)
    scores: Tensor = (groups @ key.float().transpose(1, 2)[:, None]).view(heads, count, count) * width**-0.5
    later = torch.ones(count, count, dtype=torch.bool, device=query.device).triu(1)
    return scores.masked_fill(later, -torch.inf)


def last_row(query: Tensor, key: Tensor) -> Tensor:
    """Attention float32 [T] of the last row, the carrier, to all rows of its frame: mean over heads. Sums to 1.

    Arguments as in Passing.attention: what was remembered before this frame is not among them.
    """
    groups = query[:, -1].float().view(len(key), -1, query.shape[2])  # [Hkv, heads a group, Dh]
    scores: Tensor = groups @ key.float().transpose(1, 2) * query.shape[2] ** -0.5
    return scores.softmax(-1).flatten(0, 1).mean(0)


@dataclass(frozen=True)
class Ranked(Cut):
    """See Cut; depths name the nearest layer where a cut is of use."""

    least: ClassVar[int] = 1  # layers before a cut, which give the score

    def start(self, visual: int, tail: int, layers: int) -> Passing | None:
        """See Prefill."""
        if layers <= self.least:
            return None
        plan = {
            nearest_layer(depth, layers, self.least): self.count(share, visual)
            for depth, share in zip(self.depths, self.keep, strict=True)
        }
        if min(plan.values()) >= visual:
            return None
        return self.passing(Schedule(plan, visual, tail))

    def count(self, share: float, visual: int) -> int:
        """How many of `visual` tokens are a share: whole ones, at least one."""
        return max(1, int(share * visual))


@dataclass
class Ranking(Cutting):
    """Cuts to those that `scores` are highest of."""

    scores: Tensor | None = None  # float32 [visual], of the tokens that are there

    def places(self, layer: int, hidden: Tensor, count: int) -> Tensor:  # noqa: ARG002
        """See Cutting."""
        assert self.scores is not None, "a layer before the first cut gives scores"
        kept = top(self.scores, count)
        self.scores = self.scores[kept]
        return kept

    def cuts_next(self, layer: int) -> bool:
        """Whether tokens leave on entering the layer after `layer`."""
        return layer + 1 in self.schedule.plan
