"""Tokens with the smallest keys go on: QuickVideo's key norms. Needs no attention, and knows no positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from stream.policy import Paper
from stream.prefill.cut import Cutting, Schedule
from stream.prefill.ranked import Ranked, Ranking


def key_norms(key: Tensor) -> Tensor:
    """L2 norm [T] of every token's `key` [Hkv, T, Dh], all heads in one vector.

    The authors' `key_norms_small` (TIGER-AI-Lab/QuickVideo, MIT). A rotation changes no norm.
    """
    norms: Tensor = key.float().transpose(0, 1).flatten(1).norm(dim=-1)
    return norms


@dataclass(frozen=True)
class QuickVideo(Ranked):
    """The layer before a cut gives the keys.

    `keep`: share of the frame's tokens that stays, at each depth, rounded down; where that is none, all stay.
    `depths`: on entering which layers, in shares of all layers.
    """

    paper: ClassVar[Paper] = Paper(
        title="QuickVideo: Real-Time Long Video Understanding with System Algorithm Co-Design",
        link="https://arxiv.org/abs/2505.16175",
        fidelity="parity",
        differs="which tokens stay is the authors'; they prune each layer's cache by itself, for later groups, and all "
        "tokens go through all layers: here later frames read carriers anyway, so tokens leave the frame for good, at "
        "one layer for all layers after it",
    )

    def count(self, share: float, visual: int) -> int:
        """See Ranked."""
        return int(share * visual) or visual

    def passing(self, schedule: Schedule) -> Cutting:
        """See Cut."""
        return _ByKeys(schedule)


@dataclass
class _ByKeys(Ranking):
    def attention(self, layer: int, query: Tensor, key: Tensor) -> None:  # noqa: ARG002
        """See Passing."""
        if self.cuts_next(layer):
            self.scores = -key_norms(key)[: self.schedule.visual]
