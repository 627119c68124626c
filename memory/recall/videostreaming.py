"""The most relevant clips, whole, always as many: as much is read after a week as after a minute (VideoStreaming)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from memory.recall import Asked, Method, Rows
from memory.recall.choose import best_first, blocks, pooled
from memory.recall.score import By, known, score
from stream.policy import Paper


@dataclass(frozen=True)
class VideoStreaming(Method):
    """The best `clips` clips in time order, every one whole; less than one only where the room is smaller.

    `by`: `keys`, `digests` or `fused`, as in `relevance`; a clip's indicator is the mean over its carriers.
    `clip`: carriers a clip.
    `clips`: of them, at most.
    """

    by: By = "keys"
    clip: int = 16
    clips: int = 4

    paper: ClassVar[Paper] = Paper(
        title="Streaming Long Video Understanding with Large Language Models (VideoStreaming)",
        link="https://arxiv.org/abs/2405.16009",
        fidelity="style",
        differs="training-free: carriers stand for the summary tokens of their trained encoder, the mean carrier key "
        "for a clip's indicator token, the question's mean query for the question's",
    )

    def __post_init__(self) -> None:
        known(self.by)
        if self.clip < 1 or self.clips < 1:
            raise ValueError(f"clip and clips must be at least 1, got {self.clip} and {self.clips}")

    def select(self, asked: Asked, rows: Rows, room: int) -> Sequence[int]:
        """See Recall."""
        if not len(rows):
            return []
        parts = blocks(len(rows), self.clip)
        order = best_first(score(asked, pooled(rows, parts), self.by))
        chosen = list(reversed(parts[order[0]]))[:room]
        for number in order[1 : self.clips]:
            if len(chosen) + len(parts[number]) <= room:
                chosen += parts[number]
        return sorted(chosen)
