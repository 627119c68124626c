"""Only the newest carriers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from memory.recall import Asked, Method, Rows
from stream.policy import Paper


@dataclass(frozen=True)
class Recent(Method):
    """The last `carriers` of the bank."""

    carriers: int = 16

    looks: ClassVar[bool] = False
    reaches: ClassVar[bool] = False
    paper: ClassVar[Paper] = Paper("Recent window", "", "baseline")

    def __post_init__(self) -> None:
        if self.carriers < 1:
            raise ValueError(f"carriers must be at least 1, got {self.carriers}")

    def select(self, asked: Asked, rows: Rows, room: int) -> Sequence[int]:  # noqa: ARG002
        """See Recall."""
        return range(max(0, len(rows) - min(self.carriers, room)), len(rows))
