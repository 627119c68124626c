"""Is it about now? The newest carriers alone, where the question fits them as well as it usually fits (SAVEMem)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from memory.recall import Asked, Method, Rows
from memory.recall.choose import best_first, fill
from memory.recall.route import PAST
from memory.recall.score import By, known, score, standard
from stream.policy import Paper


def running(likeness: Tensor, momentum: float) -> float:
    """Exponential mean of `likeness` [n] in time order: it starts at the first, each later one weighs 1 - momentum."""
    mean = float(likeness[0])
    for value in likeness[1:].tolist():
        mean = momentum * mean + (1 - momentum) * value
    return mean


def about_now(likeness: Tensor, recent: int, rho: float, momentum: float) -> bool:
    """Whether the best of the last `recent` of `likeness` [n] is at least `rho` times the running mean of all."""
    return float(likeness[-recent:].max()) >= rho * running(likeness, momentum)


@dataclass(frozen=True)
class SaveMem(Method):
    """A recency gate before the search: if it opens, the last `recent` carriers are read and nothing else.

    `by`: `keys`, `digests` or `fused`, as in `relevance`.
    `recent`: carriers that count as now.
    `now`, `past`: how many times the running mean the best recent one has to reach, for a question without and with a
    word that looks back.
    `momentum`: of the running mean, in [0, 1).
    """

    by: By = "keys"
    recent: int = 20
    now: float = 0.1
    past: float = 2.0
    momentum: float = 0.9

    paper: ClassVar[Paper] = Paper(
        title="SAVEMem",
        link="https://arxiv.org/abs/2605.07897",
        fidelity="style",
        differs="nothing is kept from question to question: the running mean is taken over the carriers at hand, in "
        "time order; likeness is a softmax over them, so that it is above 0; the question's words choose the factor",
    )

    def __post_init__(self) -> None:
        known(self.by)
        if self.recent < 1 or min(self.now, self.past) < 0 or not 0 <= self.momentum < 1:
            raise ValueError(
                "recent must be at least 1, now and past 0 or more and momentum in [0, 1), got "
                f"{self.recent}, {self.now}, {self.past} and {self.momentum}"
            )

    def select(self, asked: Asked, rows: Rows, room: int) -> Sequence[int]:
        """See Recall."""
        if not len(rows):
            return []
        likeness = standard(score(asked, rows, self.by)).softmax(0)
        rho = self.past if PAST.search(asked.text.lower()) else self.now
        if about_now(likeness, self.recent, rho, self.momentum):
            return range(max(0, len(rows) - min(self.recent, room)), len(rows))
        return fill((), best_first(likeness), room)
