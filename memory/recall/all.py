"""Everything that the bank holds, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from memory.recall import Asked, Method, Rows
from stream.policy import Paper


@dataclass(frozen=True)
class All(Method):
    """The identity: the archive is not read."""

    looks: ClassVar[bool] = False
    reaches: ClassVar[bool] = False
    paper: ClassVar[Paper] = Paper("Whole bank", "https://arxiv.org/abs/2503.09387", "baseline")

    def wants(self, asked: Asked) -> bool:  # noqa: ARG002
        """See Recall."""
        return False

    def select(self, asked: Asked, rows: Rows, room: int) -> Sequence[int]:  # noqa: ARG002
        """See Recall."""
        return range(max(0, len(rows) - room), len(rows))
