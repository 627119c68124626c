"""Evenly over everything that was seen in the asked time: the baseline that any search has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from memory.recall import Asked, Method, Rows
from memory.recall.choose import evenly
from stream.policy import Paper


@dataclass(frozen=True)
class Uniform(Method):
    """Every n-th carrier of bank and archive together, the newest among them."""

    looks: ClassVar[bool] = False
    paper: ClassVar[Paper] = Paper("Uniform sampling", "", "baseline")

    def select(self, asked: Asked, rows: Rows, room: int) -> Sequence[int]:  # noqa: ARG002
        """See Recall."""
        return evenly(len(rows), room)
