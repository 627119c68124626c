"""First in, first out: a plain window over kept frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from memory.retain import Choice, Retain, Rows
from stream.policy import Paper


@dataclass(frozen=True)
class Fifo(Retain):
    """The oldest leaves."""

    paper: ClassVar[Paper] = Paper("First in, first out", "", "baseline")

    def choose(self, rows: Rows, rng: torch.Generator) -> Choice:  # noqa: ARG002
        """See Retain."""
        return Choice(0)
