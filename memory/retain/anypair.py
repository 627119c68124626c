"""Any pair: of the two most alike carriers anywhere, one leaves or both merge (Flash-VStream's k-drop and k-merge)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, get_args

import torch
from torch import Tensor

from memory.retain import Absorb, Choice, Retain, Rows
from stream.ops import cosines
from stream.policy import Paper


@dataclass(frozen=True)
class AnyPair(Retain):
    """argmax of the whole cosine matrix: two views that take turns (A B A B) become two carriers.

    `when_full`: `drop`: a random one of the pair leaves (k-drop); `merge`: the older goes into the newer (k-merge);
    `extend`: the newer covers the older's time as well, and so all that lay between them.
    """

    when_full: Absorb = "drop"

    paper: ClassVar[Paper] = Paper(
        title="Flash-VStream: Memory-Based Real-Time Understanding for Long Video Streams",
        link="https://arxiv.org/abs/2406.08085",
        fidelity="style",
        differs="`drop`: never the newest; `merge`: the mean is weighted by frames, where the authors halve the sum",
    )

    def __post_init__(self) -> None:
        if self.when_full not in get_args(Absorb):
            raise ValueError(f"when_full is one of {', '.join(get_args(Absorb))}; got {self.when_full!r}")

    def choose(self, rows: Rows, rng: torch.Generator) -> Choice:
        """See Retain."""
        older, newer = closest(rows.digests)
        if self.when_full != "drop":
            return Choice(older, into=newer, how=self.when_full)
        both = newer < len(rows.spans) - 1 and bool(torch.randint(2, (1,), generator=rng))
        return Choice(newer if both else older)


def closest(digests: Tensor) -> tuple[int, int]:
    """The two most alike of `digests` [n, D], n >= 2, by cosine, the older first; ties go to the lower numbers."""
    n = len(digests)
    alike = cosines(digests)
    once = torch.ones_like(alike, dtype=torch.bool).triu(1)
    return divmod(int(alike.masked_fill(~once, -torch.inf).argmax()), n)
