"""Event forest: neighbouring events merge where the penalty is least: alike, long ago, seldom merged (StreamForest)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from memory.retain import Choice, Retain, Rows
from memory.retain.adjacent import similarities
from stream.policy import Paper


@dataclass(frozen=True)
class Forest(Retain):
    """P = `similar` (1 - cosine) + `recent` (how late the pair is) + `merged` (how often it was merged before).

    `similar`, `recent`, `merged`: weights of the three penalties.
    `spare`: so many of the newest carriers do not merge; the paper has them in a memory of their own.
    """

    similar: float = 0.4
    recent: float = 0.2
    merged: float = 0.4
    spare: int = 1

    paper: ClassVar[Paper] = Paper(
        title="StreamForest: Efficient Online Video Understanding with Persistent Event Memory",
        link="https://arxiv.org/abs/2509.24871",
        fidelity="style",
        differs="an event is one carrier, not the frames between two minima of similarity; likeness is the cosine of "
        "carriers, not the mean of the best token pairs; times are seconds since the oldest held span, not frames "
        "since the start",
    )

    def __post_init__(self) -> None:
        if min(self.similar, self.recent, self.merged) < 0 or self.spare < 1:
            raise ValueError(f"weights must be >= 0 and spare >= 1, got {self}")

    def choose(self, rows: Rows, rng: torch.Generator) -> Choice:  # noqa: ARG002
        """See Retain."""
        first_s = min(span.first_s for span in rows.spans)
        middles = [(span.first_s + span.last_s) / 2 - first_s for span in rows.spans]
        counts = [span.count for span in rows.spans]
        length_s = rows.spans[-1].last_s - first_s
        pairs = max(1, len(rows.spans) - 1 - self.spare)  # of those that are not spared
        cost = penalties(
            similarities(rows.digests)[:pairs],
            torch.tensor(middles[: pairs + 1], dtype=torch.float64) / max(length_s, 1e-9),
            torch.tensor(counts[: pairs + 1], dtype=torch.float64),
            (self.similar, self.recent, self.merged),
        )
        older = int(cost.argmin())
        return Choice(older, into=older + 1, how="merge")


def penalties(
    alike: Tensor, times: Tensor, counts: Tensor, weights: tuple[float, float, float] = (0.4, 0.2, 0.4)
) -> Tensor:
    """float64 [n - 1]: what it costs to merge each two neighbours of n events.

    `alike` [n - 1] similarity of neighbours; `times` [n] middle of each event as a share of the stream's length, so
    late pairs cost more; `counts` [n] events that went into each, taken as the pair's mean over the largest such mean.
    """
    means = (counts[:-1] + counts[1:]).double() / 2
    late = (times[:-1] + times[1:]).double() / 2
    similar, recent, merged = weights
    return similar * (1 - alike.double().cpu()) + recent * late + merged * means / means.max()
