"""Forgetting curve: a carrier is kept with weight exp(-age / tau), as Ebbinghaus found of memories."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from memory.retain import Choice, Retain, Rows
from stream.policy import Paper

Leaves = Literal["sample", "least"]


@dataclass(frozen=True)
class Decay(Retain):
    """Old carriers leave more easily than young ones.

    `tau_s`: age at which a carrier's weight has fallen to 1/e, seconds.
    `leaves`: `sample` draws the one that leaves by its weight; `least` takes the least weight, which is the oldest.
    """

    tau_s: float = 600.0
    leaves: Leaves = "sample"

    paper: ClassVar[Paper] = Paper(
        title="Streaming Video Understanding and Multi-round Interaction with Memory-enhanced Knowledge",
        link="https://arxiv.org/abs/2501.13468",
        fidelity="style",
        differs="only StreamChat's short-term forgetting curve, over carriers; no repetition strengthens a memory, and "
        "exactly one leaves at a time: the law of independent keeping, given that",
    )

    def __post_init__(self) -> None:
        if self.tau_s <= 0:
            raise ValueError(f"tau_s must be > 0, got {self.tau_s:g}")
        if self.leaves not in get_args(Leaves):
            raise ValueError(f"leaves is one of {', '.join(get_args(Leaves))}; got {self.leaves!r}")

    def choose(self, rows: Rows, rng: torch.Generator) -> Choice:
        """See Retain."""
        now_s = rows.spans[-1].last_s
        ages = torch.tensor([now_s - span.last_s for span in rows.spans[:-1]], dtype=torch.float64) / self.tau_s
        if self.leaves == "least":
            return Choice(int(ages.argmax()))
        return Choice(int(torch.multinomial(leaving(ages), 1, generator=rng)))


def leaving(ages: Tensor) -> Tensor:
    """float64 [n]: the chance of each to be the one that leaves; `ages` [n] in units of tau.

    Were each kept with chance w = exp(-age), apart from the others, and it turned out that exactly one left, it would
    be number i with a chance in proportion to (1 - w_i) / w_i.
    """
    ages = ages.double().clamp_min(1e-9)  # all of one age: all alike
    return (ages + (-torch.expm1(-ages)).log()).softmax(0)
