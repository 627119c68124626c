"""Tokens that the carrier begins to look at, and that are like it, go on: the second stage of CATP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from stream.ops import cosines
from stream.policy import Paper
from stream.prefill.cut import Cutting, Schedule
from stream.prefill.ranked import Ranked, Ranking, last_row


def growing(before: Tensor, now: Tensor, hidden: Tensor, query: Tensor, weight: float) -> Tensor:
    """max(0, now - before) + weight * cosine to `query` [D]: float32 [n].

    `before` and `now` [n] are what one row attends to in a layer and in the next; `hidden` [n, D] are the tokens.
    """
    return (now - before).clamp(min=0) + weight * cosines(hidden, query[None])[:, 0]


@dataclass(frozen=True)
class Catp(Ranked):
    """The two layers before a cut are compared.

    `keep`: share of the frame's tokens that stays, at each depth, rounded down.
    `depths`: on entering which layers, in shares of all layers.
    `alike`: weight of the cosine between a token and the carrier.
    """

    keep: tuple[float, ...] = (0.222,)  # the authors remove 77.8 %
    depths: tuple[float, ...] = (7 / 32,)  # after their layer 6 of 32
    alike: float = 0.6

    paper: ClassVar[Paper] = Paper(
        title="CATP: Contextually Adaptive Token Pruning for Efficient and Enhanced Multimodal In-Context Learning "
        "(second stage)",
        link="https://arxiv.org/abs/2508.07871",
        fidelity="style",
        differs="no code; the frame's carrier is the query sample, so tokens compete within a frame, not over "
        "examples, and there is no query image to prune after them; attention among the frame's own rows",
    )

    least: ClassVar[int] = 2

    def passing(self, schedule: Schedule) -> Cutting:
        """See Cut."""
        return _Growing(schedule, alike=self.alike)


@dataclass
class _Growing(Ranking):
    alike: float = 0.6
    rows: tuple[Tensor, ...] = ()  # the carrier's attention in the newest one or two layers

    def attention(self, layer: int, query: Tensor, key: Tensor) -> None:
        """See Passing."""
        if self.cuts_next(layer) or self.cuts_next(layer + 1):
            self.rows = (*self.rows[-1:], last_row(query, key)[: self.schedule.visual])

    def places(self, layer: int, hidden: Tensor, count: int) -> Tensor:
        """See Cutting."""
        now = self.rows[-1]
        before = self.rows[0] if len(self.rows) == 2 else torch.zeros_like(now)
        self.scores = growing(before, now, hidden[: self.schedule.visual], hidden[-1], self.alike)
        kept = super().places(layer, hidden, count)
        self.rows = tuple(row[kept] for row in self.rows)
        return kept
