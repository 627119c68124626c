"""Uniform thinning: what stays is spread evenly over all frames seen, whatever they show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from memory.retain import Choice, Retain, Rows
from stream.policy import Paper


@dataclass(frozen=True)
class Uniform(Retain):
    """Of the inner carriers, the one whose neighbours stand closest together leaves; the first frame stays for ever."""

    paper: ClassVar[Paper] = Paper("Uniform thinning", "", "baseline")

    def choose(self, rows: Rows, rng: torch.Generator) -> Choice:  # noqa: ARG002
        """See Retain."""
        frames = torch.tensor(list(rows.frames))
        if len(frames) == 2:
            return Choice(0)
        return Choice(1 + int((frames[2:] - frames[:-2]).argmin()))
