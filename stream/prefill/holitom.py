"""Tokens that the carrier looks at go on, and take in those most like them: HoliTom's inner merging."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from stream.ops import cosines
from stream.policy import Paper
from stream.prefill import Way
from stream.prefill.cut import Cutting, Schedule
from stream.prefill.ranked import Ranked, Ranking, last_row


def fold(hidden: Tensor, kept: Tensor) -> Tensor:
    """Rows `kept` [m] of `hidden` [n, D] after every other row went into the kept one most like it: [m, D], same dtype.

    A row is taken in by halves, h = (h + dropped) / 2, one after another in their order, so that the last counts most
    (cokeshao/HoliTom, Apache-2.0). Rows that take in nothing stay bit for bit.
    """
    dropped = torch.ones(len(hidden), dtype=torch.bool, device=hidden.device)
    dropped[kept] = False
    if not dropped.any():
        return hidden[kept]
    into = F.one_hot(cosines(hidden[dropped], hidden[kept]).argmax(1), len(kept))  # [n - m, m]
    halvings = into.flip(0).cumsum(0).flip(0)  # of a dropped row: itself and those after it that go the same way
    parts = into * 0.5 ** halvings.float()
    folded = hidden[kept].float() * 0.5 ** into.sum(0)[:, None] + parts.T @ hidden[dropped].float()
    return folded.to(hidden.dtype)


@dataclass(frozen=True)
class HoliTom(Ranked):
    """The attention is that of the carrier, in the layer before the cut.

    `keep`: share of the frame's tokens that stays, at each depth, rounded.
    `depths`: on entering which layers, in shares of all layers.
    """

    keep: tuple[float, ...] = (0.5,)
    depths: tuple[float, ...] = (18 / 28,)  # the authors' layer 18 of 28

    paper: ClassVar[Paper] = Paper(
        title="HoliTom: Holistic Token Merging for Fast Video Large Language Models (inside the language model)",
        link="https://arxiv.org/abs/2505.21334",
        fidelity="parity",
        differs="a frame at a time, with its carrier in the place of the question's last token; attention among the "
        "frame's own rows",
    )

    def count(self, share: float, visual: int) -> int:
        """See Ranked."""
        return max(1, round(share * visual))

    def passing(self, schedule: Schedule) -> Cutting:
        """See Cut."""
        return _Folding(schedule)


@dataclass
class _Folding(Ranking):
    def attention(self, layer: int, query: Tensor, key: Tensor) -> None:
        """See Passing."""
        if self.cuts_next(layer):
            self.scores = last_row(query, key)[: self.schedule.visual]

    def enter(self, layer: int, hidden: Tensor) -> Way | None:
        """See Passing."""
        visual = self.schedule.visual
        way = super().enter(layer, hidden)
        return None if way is None else Way(way.rows, hidden=fold(hidden[:visual], way.rows))
