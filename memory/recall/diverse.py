"""Relevant, and unlike what was taken already: ten frames of one stopped car say no more than one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn import functional as F

from memory.recall import Asked, Rows
from memory.recall.choose import kept
from memory.recall.relevance import Relevance
from memory.recall.score import score
from stream.policy import Paper


@dataclass(frozen=True)
class Diverse(Relevance):
    """Maximal marginal relevance: relevance minus likeness to what is read already, both scaled to 0..1.

    `by`: `keys`, `digests` or `fused`, as in `relevance`.
    `bank`: false reads only what is chosen here.
    `weight`: of unlikeness against relevance, 0 to 1; 0 is `relevance`.
    """

    weight: float = 0.3

    paper: ClassVar[Paper] = Paper(
        title="Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998)",
        link="https://doi.org/10.1145/290941.291025",
        fidelity="style",
        differs="likeness is the cosine of digests",
    )

    def __post_init__(self) -> None:
        Relevance.__post_init__(self)
        if not 0 <= self.weight <= 1:
            raise ValueError(f"weight must lie in [0, 1], got {self.weight}")

    def select(self, asked: Asked, rows: Rows, room: int) -> Sequence[int]:
        """See Recall."""
        chosen = kept(rows, room, bank=self.bank)
        if not len(rows):
            return chosen
        worth = score(asked, rows, self.by)
        worth = (worth - worth.min()) / (worth.max() - worth.min()).clamp_min(1e-12)
        digests = F.normalize(rows.digests.float().cpu(), dim=-1)
        nearest = torch.zeros(len(rows))  # cosine to the most alike that is read already
        for index in chosen:
            nearest = torch.maximum(nearest, digests @ digests[index])
        taken = set(chosen)
        while len(taken) < min(room, len(rows)):
            gain = (1 - self.weight) * worth - self.weight * nearest
            gain[sorted(taken)] = -torch.inf
            best = int(gain.argmax())
            taken.add(best)
            nearest = torch.maximum(nearest, digests @ digests[best])
        return sorted(taken)
