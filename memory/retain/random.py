"""The floor every method must beat: a random carrier leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from memory.retain import Choice, Retain, Rows
from stream.policy import Paper


@dataclass(frozen=True)
class Random(Retain):
    """Any carrier but the newest, with equal chance."""

    paper: ClassVar[Paper] = Paper("Random eviction", "", "baseline")

    def choose(self, rows: Rows, rng: torch.Generator) -> Choice:
        """See Retain."""
        return Choice(int(torch.randint(len(rows.spans) - 1, (1,), generator=rng)))
