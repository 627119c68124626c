"""Weighted k-means: n carriers become n - 1 clusters, and the two that share one merge (STAR, Flash-VStream)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from memory.retain import Choice, Retain, Rows
from stream.policy import Paper

_STILL = 1e-4  # sum of the centres' movements below which Lloyd's algorithm has settled, as the authors have it


@dataclass(frozen=True)
class Kmeans(Retain):
    """Lloyd's algorithm from all carriers but a random one; a carrier weighs as many frames as went into it.

    `iterations`: of Lloyd's algorithm, at most.
    """

    iterations: int = 10

    paper: ClassVar[Paper] = Paper(
        title="Flash-VStream: Memory-Based Real-Time Understanding for Long Video Streams",
        link="https://arxiv.org/abs/2406.08085",
        fidelity="style",
        differs="the temporal memory alone, over carriers; only two merge, the nearest that share a cluster, so a "
        "centre is always the mean of what it stands for; an empty cluster takes the row farthest from its centre",
    )

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise ValueError(f"iterations must be >= 1, got {self.iterations}")

    def choose(self, rows: Rows, rng: torch.Generator) -> Choice:
        """See Retain."""
        x = turned(rows.digests.float())
        weights = torch.tensor([float(span.count) for span in rows.spans], device=x.device)
        out = int(torch.randint(len(x), (1,), generator=rng))
        _, labels = lloyd(x, weights, torch.cat((x[:out], x[out + 1 :])), self.iterations)
        older, newer = shared(x, weights, labels)
        return Choice(older, into=newer, how="merge")


def turned(x: Tensor) -> Tensor:
    """`x` [n, D] in axes in which n numbers a row are enough, [n, min(n, D)]: a rotation, so distances stay."""
    return x if x.shape[1] <= len(x) else torch.linalg.qr(x.T, mode="r").R.T


def lloyd(x: Tensor, weights: Tensor, centres: Tensor, iterations: int = 10) -> tuple[Tensor, Tensor]:
    """Weighted k-means by Euclidean distance: `x` [n, D], `weights` [n] > 0, starting `centres` [m, D].

    Returns centres [m, D] and int64 [n], the cluster of each row. It stops where the centres move by less than 1e-4 in
    sum (that step is not taken, as in the authors' code), or after `iterations`.
    """
    labels = torch.zeros(len(x), dtype=torch.long, device=x.device)
    for _ in range(iterations):
        apart = torch.cdist(x, centres)
        labels = apart.argmin(1)
        total = torch.zeros_like(centres[:, 0]).index_add_(0, labels, weights)
        sums = torch.zeros_like(centres).index_add_(0, labels, weights[:, None] * x)
        empty = total == 0
        moved = sums / total.clamp_min(1e-12)[:, None]
        far = apart.min(1).values.argsort(descending=True, stable=True)
        moved[empty] = x[far[: int(empty.sum())]]
        if (centres - moved).norm(dim=1).sum() < _STILL:
            break
        centres = moved
    return centres, labels


def shared(x: Tensor, weights: Tensor, labels: Tensor) -> tuple[int, int]:
    """Of the pairs of rows with one label, the pair whose merging adds least to the squared error; the lower first.

    Ward's cost: w_i w_j / (w_i + w_j) |x_i - x_j|^2. With fewer labels than rows there always is such a pair.
    """
    cost = weights[:, None] * weights / (weights[:, None] + weights) * torch.cdist(x, x).square()
    same = (labels[:, None] == labels).triu(1)
    return divmod(int(cost.masked_fill(~same, torch.inf).argmin()), len(x))
