"""The question recovers what it needs: as many carriers as stand out among all relevances (Recoverable Compression)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from memory.recall import Asked, Method, Rows
from memory.recall.score import By, known, score
from stream.ops import outliers, top
from stream.policy import Paper


def standing_out(scores: Tensor, neighbours: int, least: int, room: int) -> Tensor:
    """int64, rising: the best int(n x share of outliers) of `scores` [n], at least `least` and at most `room`."""
    count = int(outliers(scores, neighbours).sum())  # = int(n x their share)
    return top(scores, min(room, max(least, count)))


@dataclass(frozen=True)
class Recoverable(Method):
    """The most relevant carriers, as many as the local outlier factor finds among the relevances.

    `by`: `keys`, `digests` or `fused`, as in `relevance`.
    `neighbours`: of a relevance, for its local density.
    `least`: carriers that are read where nothing stands out.
    """

    by: By = "keys"
    neighbours: int = 20
    least: int = 8

    paper: ClassVar[Paper] = Paper(
        title="Recoverable Compression: A Multimodal Vision Token Recovery Mechanism Guided by Text Information",
        link="https://arxiv.org/abs/2409.01179",
        fidelity="style",
        differs="the half of it that reads the question; relevance comes from the question's own queries, not from "
        "CLIP (no text tower here); at least `least` are read",
    )

    def __post_init__(self) -> None:
        known(self.by)
        if self.neighbours < 1 or self.least < 1:
            raise ValueError(f"neighbours and least must be at least 1, got {self.neighbours} and {self.least}")

    def select(self, asked: Asked, rows: Rows, room: int) -> Sequence[int]:
        """See Recall."""
        return standing_out(score(asked, rows, self.by), self.neighbours, self.least, room).tolist()
