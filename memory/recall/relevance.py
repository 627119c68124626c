"""The carriers that the question itself attends to most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, get_args

from memory.recall import Asked, Method, Rows
from memory.recall.choose import best_first, fill, kept
from memory.recall.score import By, score
from stream.policy import Paper


@dataclass(frozen=True)
class Relevance(Method):
    """The bank, and the most relevant of the archive until there is no more room.

    `by`: `keys` (raw queries against raw keys, per layer), `digests` (embeddings), or both `fused`.
    `bank`: false reads only what is relevant.
    """

    by: By = "keys"
    bank: bool = True

    paper: ClassVar[Paper] = Paper(
        title="ReKV",
        link="https://arxiv.org/abs/2503.00540",
        fidelity="style",
        differs="a checkpoint's pointer heads do the asking where it has some; the layers agree on whole frames; one "
        "carrier stands for a frame's keys",
    )

    def __post_init__(self) -> None:
        if self.by not in get_args(By):
            raise ValueError(f"by is one of {', '.join(get_args(By))}; got {self.by!r}")

    def select(self, asked: Asked, rows: Rows, room: int) -> Sequence[int]:
        """See Recall."""
        return fill(kept(rows, room, bank=self.bank), best_first(score(asked, rows, self.by)), room)
