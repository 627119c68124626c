"""Relevant carriers with their neighbours: what came just before and after belongs to what is asked about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from memory.recall import Asked, Rows
from memory.recall.choose import best_first, fill, kept
from memory.recall.relevance import Relevance
from memory.recall.score import score
from stream.policy import Paper


@dataclass(frozen=True)
class Clips(Relevance):
    """As `relevance`, but every carrier that is taken brings those next to it along.

    `by`: `keys`, `digests` or `fused`, as in `relevance`.
    `bank`: false reads only the clips.
    `reach`: neighbours on either side.
    """

    reach: int = 1

    paper: ClassVar[Paper] = Paper(
        title="F2C: from frames to clips",
        link="https://arxiv.org/abs/2510.02262",
        fidelity="idea",
        differs="clips have one length, and are made of carriers",
    )

    def __post_init__(self) -> None:
        Relevance.__post_init__(self)
        if self.reach < 0:
            raise ValueError(f"reach must be 0 or more, got {self.reach}")

    def select(self, asked: Asked, rows: Rows, room: int) -> Sequence[int]:
        """See Recall."""
        order = [
            index + step
            for index in best_first(score(asked, rows, self.by))
            for step in sorted(range(-self.reach, self.reach + 1), key=abs)
            if 0 <= index + step < len(rows)
        ]
        return fill(kept(rows, room, bank=self.bank), order, room)
