"""Adjacent pair, by a coin: of the two most alike neighbours a random one leaves (Flash-VStream's drop_feature)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from memory.retain import Choice, Retain, Rows
from memory.retain.adjacent import similarities
from stream.policy import Paper


@dataclass(frozen=True)
class Coin(Retain):
    """t* = argmax cos(C_t, C_t+1), then C_t or C_t+1 with equal chance; ties go to the oldest pair."""

    paper: ClassVar[Paper] = Paper(
        title="Flash-VStream: Memory-Based Real-Time Understanding for Long Video Streams",
        link="https://arxiv.org/abs/2406.08085",
        fidelity="style",
        differs="never the newest: where it is one of the pair, the other leaves",
    )

    def choose(self, rows: Rows, rng: torch.Generator) -> Choice:
        """See Retain."""
        older = int(similarities(rows.digests).argmax())
        newer = bool(torch.randint(2, (1,), generator=rng)) and older + 1 < len(rows.spans) - 1
        return Choice(older + newer)
