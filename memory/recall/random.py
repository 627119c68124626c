"""Drawn by chance: the other baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from memory.recall import Asked, Method, Rows
from stream.policy import Paper


@dataclass(frozen=True)
class Random(Method):
    """Any carriers of bank and archive together; the same `seed` draws the same from the same rows."""

    seed: int = 0

    looks: ClassVar[bool] = False
    paper: ClassVar[Paper] = Paper("Random sampling", "", "baseline")

    def select(self, asked: Asked, rows: Rows, room: int) -> Sequence[int]:  # noqa: ARG002
        """See Recall."""
        drawn = torch.randperm(len(rows), generator=torch.Generator().manual_seed(self.seed))
        return sorted(drawn[:room].tolist())
