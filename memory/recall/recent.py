"""Only the newest carriers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from memory.recall import Recall
from stream.policy import Paper
from stream.types import Span


@dataclass(frozen=True)
class Recent(Recall):
    """The last `carriers` of them."""

    carriers: int = 16

    paper: ClassVar[Paper] = Paper("Recent window", "", "baseline")

    def __post_init__(self) -> None:
        if self.carriers < 1:
            raise ValueError(f"carriers must be at least 1, got {self.carriers}")

    def select(self, spans: Sequence[Span]) -> Sequence[int]:
        """See Recall."""
        return range(max(0, len(spans) - self.carriers), len(spans))
