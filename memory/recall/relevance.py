"""The carriers that the question itself attends to most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from memory.recall import Asked, Method, Rows
from memory.recall.choose import best_first, fill, kept
from memory.recall.score import By, known, score
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
        title="Streaming Video Question-Answering with In-context Video KV-Cache Retrieval (ReKV)",
        link="https://arxiv.org/abs/2503.00540",
        fidelity="idea",
        differs="a checkpoint's pointer heads do the asking where it has some; the layers agree on whole frames; the "
        "bank is read anyhow; one carrier stands for a frame's keys",
    )

    def __post_init__(self) -> None:
        known(self.by)

    def select(self, asked: Asked, rows: Rows, room: int) -> Sequence[int]:
        """See Recall."""
        return fill(kept(rows, room, bank=self.bank), best_first(score(asked, rows, self.by)), room)
