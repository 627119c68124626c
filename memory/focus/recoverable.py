"""The question recovers the tokens that stand out among all relevances (Recoverable Compression)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from memory.focus import Focus, Reading, Tokens
from memory.focus.score import token_scores
from memory.recall import Asked
from memory.recall.recoverable import Recoverable as Recalled
from memory.recall.recoverable import standing_out
from stream.policy import Paper


@dataclass(frozen=True)
class Recoverable(Focus):
    """The most relevant tokens, as many as the local outlier factor finds; all where there is room.

    `neighbours`: of a relevance, for its local density.
    `least`: tokens that are read where nothing stands out.
    """

    neighbours: int = 20
    least: int = 16

    paper: ClassVar[Paper] = Recalled.paper
    looks: ClassVar[bool] = True

    def __post_init__(self) -> None:
        Recalled(neighbours=self.neighbours, least=self.least)

    def select(self, asked: Asked, tokens: Tokens, room: int) -> Reading:
        """See Focus."""
        if len(tokens) <= room:
            return Reading(torch.arange(len(tokens)))
        return Reading(standing_out(token_scores(asked, tokens), self.neighbours, self.least, room))
