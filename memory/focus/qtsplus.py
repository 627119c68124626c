"""How many recent tokens are read depends on the question: few where its attention is sharp (QTSplus)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from memory.focus import Focus, Reading, Tokens
from memory.recall import Asked
from memory.recall.qtsplus import QTSplus as Recalled
from memory.recall.qtsplus import budgeted
from memory.recall.score import by_head
from stream.policy import Paper


@dataclass(frozen=True)
class QTSplus(Focus):
    """The best tokens by the strongest head; their number by the entropy of relevance; all where there is room.

    `least`, `most`: share of all tokens that is read where attention is sharp, and where it is flat.
    `depth`: of the layer whose heads are asked, as a share of all layers.
    """

    least: float = 0.05
    most: float = 0.5
    depth: float = 0.5

    paper: ClassVar[Paper] = Recalled.paper
    looks: ClassVar[bool] = True

    def __post_init__(self) -> None:
        Recalled(self.least, self.most, self.depth)

    def select(self, asked: Asked, tokens: Tokens, room: int) -> Reading:
        """See Focus."""
        assert asked.look is not None, "`looks`"
        if len(tokens) <= room:
            return Reading(torch.arange(len(tokens)))
        layer = round(self.depth * (len(tokens.keys) - 1))
        relevance = by_head(asked.look, tokens.keys, layer).max(0).values
        return Reading(budgeted(relevance, self.least, self.most, room))
