"""Reservoir: at any time every frame that ever came is held with the same chance (Vitter's algorithm R)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from memory.retain import Choice, Retain, Rows
from stream.policy import Paper


@dataclass(frozen=True)
class Reservoir(Retain):
    """The n-th item replaces a random one of M with chance M / n, else it leaves itself.

    The newest carrier always stays here. So the one before it takes the part of the item that arrives, one frame late,
    and the reservoir is the M - 1 carriers before that.
    """

    paper: ClassVar[Paper] = Paper(
        title="EventMemAgent: Hierarchical Event-Centric Memory for Online Video Understanding with Adaptive Tool Use",
        link="https://arxiv.org/abs/2602.15329",
        fidelity="style",
        differs="one reservoir over the whole stream, where the paper draws within events; the newest is always held, "
        "so a frame is drawn when the next comes",
    )

    def choose(self, rows: Rows, rng: torch.Generator) -> Choice:
        """See Retain."""
        arriving = len(rows.spans) - 2  # its place; all before it are the reservoir
        came = max(rows.absorbed, len(rows.spans)) - 1  # carriers up to the arriving one
        return Choice(min(int(torch.randint(came, (1,), generator=rng)), arriving))
