"""Sliding window with sinks: the first carriers stay for ever, of the others the oldest leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from memory.retain import Choice, Retain, Rows
from stream.policy import Paper


@dataclass(frozen=True)
class Sinks(Retain):
    """First in, first out behind pinned carriers.

    `sinks`: so many carriers at the start of what is held never leave; a bank too small for that pins fewer.
    """

    sinks: int = 4

    paper: ClassVar[Paper] = Paper(
        title="StreamingVLM: Real-Time Understanding for Infinite Video Streams",
        link="https://arxiv.org/abs/2510.09608",
        fidelity="style",
        differs="sinks and window are whole frames' carriers, not tokens, and there is no second window for text; the "
        "system prompt, which the paper pins, is never in the bank; sinks as in StreamingLLM (arXiv 2309.17453)",
    )

    def __post_init__(self) -> None:
        if self.sinks < 0:
            raise ValueError(f"sinks must be >= 0, got {self.sinks}")

    def choose(self, rows: Rows, rng: torch.Generator) -> Choice:  # noqa: ARG002
        """See Retain."""
        return Choice(min(self.sinks, len(rows.spans) - 2))
