"""How much is read depends on the question: little where its attention is sharp, more where it is spread (QTSplus)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from memory.recall import Asked, Method, Rows
from memory.recall.score import by_head
from stream.ops import top
from stream.policy import Paper


def share(relevance: Tensor, least: float, most: float) -> float:
    """What part of `relevance` [n] >= 0 to keep: `least` where one number is all of it, `most` where all are equal, and
    linear in the entropy of relevance / sum between them."""
    if len(relevance) < 2:
        return most
    part = relevance.double() / relevance.double().sum().clamp_min(1e-300)
    entropy = -float((part * part.clamp_min(1e-300).log()).sum())
    return least + (most - least) * min(1.0, max(0.0, entropy / math.log(len(relevance))))


def budgeted(relevance: Tensor, least: float, most: float, room: int) -> Tensor:
    """int64, rising: the best ceil(share x n) of `relevance` [n], at least one and at most `room`."""
    count = math.ceil(share(relevance, least, most) * len(relevance) - 1e-9)
    return top(relevance, min(room, max(1, count)))


@dataclass(frozen=True)
class QTSplus(Method):
    """The best carriers by the strongest head; their number by the entropy of relevance.

    `least`, `most`: share of all carriers that is read where attention is sharp, and where it is flat.
    `depth`: of the layer whose heads are asked, as a share of all layers.
    """

    least: float = 0.05
    most: float = 0.5
    depth: float = 0.5

    paper: ClassVar[Paper] = Paper(
        title="Seeing the Forest and the Trees: Query-Aware Tokenizer for Long-Video Multimodal Language Models "
        "(QTSplus)",
        link="https://arxiv.org/abs/2511.11910",
        fidelity="style",
        differs="zero-shot: the language model's own heads score instead of a trained cross-attention, with the newest "
        "and the mean query for the question's tokens; the budget comes from the entropy alone; nothing is re-encoded",
    )

    def __post_init__(self) -> None:
        if not 0 < self.least <= self.most <= 1 or not 0 <= self.depth <= 1:
            raise ValueError(
                f"0 < least <= most <= 1 and 0 <= depth <= 1 must hold, got {self.least}, {self.most} and {self.depth}"
            )

    def select(self, asked: Asked, rows: Rows, room: int) -> Sequence[int]:
        """See Recall."""
        assert asked.look is not None, "`looks`"
        if not len(rows):
            return []
        layer = round(self.depth * (len(rows.keys) - 1))
        relevance = by_head(asked.look, rows.keys, layer).max(0).values
        return budgeted(relevance, self.least, self.most, room).tolist()
