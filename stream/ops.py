"""Arithmetic that published methods share: cosines, the best so many in order, clusters, pairs that merge.

All work on one frame (or one window) at a time: rows of `x` [n, D] are tokens. Nothing is changed in place, ties go to
the lower index, sums are in float32 whatever the input, and results are on the input's device.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def cosines(x: Tensor, y: Tensor | None = None) -> Tensor:
    """float32 [n, m]: cosine of every row of `x` [n, D] with every row of `y` [m, D], or of `x`; 0 for a zero row."""
    rows = F.normalize(x.float(), dim=-1)
    others = rows if y is None else F.normalize(y.float(), dim=-1)
    return rows @ others.T


def top(scores: Tensor, count: int) -> Tensor:
    """int64 [count], rising: where the highest `scores` [n] stand. NaN counts as the lowest."""
    clean = torch.nan_to_num(scores.float(), nan=-torch.inf)
    return torch.argsort(clean, descending=True, stable=True)[:count].sort().values


def nearest(points: Tensor, centres: Tensor) -> Tensor:
    """int64 [n]: for every row of `points` [n, D] the nearest of `centres` [m, D], by Euclidean distance."""
    return torch.cdist(points.float(), centres.float()).argmin(1)


def density_peaks(x: Tensor, count: int, neighbours: int, rng: torch.Generator | None = None) -> Tensor:
    """DPC-KNN: int64 [count], rising: the rows of `x` [n, D] that are dense and far from anything denser.

    Distances are divided by sqrt(D). The density is exp(-mean of the `neighbours` smallest squared distances), the row
    itself among them; with `rng` 1e-6 of noise breaks ties, as the authors of HoliTom and HoT have it.
    """
    n = len(x)
    apart = torch.cdist(x.float(), x.float()) / x.shape[1] ** 0.5
    near = apart.topk(min(neighbours, n), largest=False).values
    density = torch.exp(-near.square().mean(1))
    if rng is not None:
        density = density + 1e-6 * torch.rand(n, generator=rng).to(density)
    denser = density[None, :] > density[:, None]
    furthest = apart.max()
    reach = torch.where(denser, apart, furthest).min(1).values  # to the nearest denser row; the densest: the maximum
    return top(reach * density, count)


def farthest(apart: Tensor, count: int, near: Tensor | None = None) -> list[int]:
    """Max-min diversity, greedily: `count` rows in the order in which they were picked.

    `apart` [n, n] are distances. `near` [n] is how far each row is from what counts as picked before; without it the
    first pick is the row farthest from its nearest neighbour (DivPrune, arXiv 2503.02175).
    """
    n = len(apart)
    picked: list[int] = []
    least = near
    for _ in range(min(count, n)):
        if least is None:
            alone = apart.float().clone().fill_diagonal_(torch.inf)
            worth = alone.min(1).values if n > 1 else alone[:, 0]
        else:
            worth = least.clone()
            worth[picked] = -torch.inf
        best = int(worth.argmax())
        picked.append(best)
        row = apart[best].float()
        least = row if least is None else torch.minimum(least, row)
    return picked


def pairs(metric: Tensor, sources: Tensor, targets: Tensor, count: int) -> Tensor:
    """Bipartite matching (ToMe, arXiv 2210.09461): int64 [n], for every row the row that takes it in, itself for most.

    Each of `sources` [a] finds the most alike of `targets` [b] by the cosine of `metric` [n, C]; the `count` best of
    these pairs merge. Sources and targets are disjoint row numbers; other rows are left alone.
    """
    owner = torch.arange(len(metric), device=metric.device)
    if count < 1 or not len(sources) or not len(targets):
        return owner
    best = cosines(metric[sources], metric[targets]).max(1)
    merged = torch.argsort(best.values, descending=True, stable=True)[:count]
    owner[sources[merged]] = targets[best.indices[merged]]
    return owner


def merged(x: Tensor, owner: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Rows of `x` [n, D] with the same `owner` [n] become their mean, weighted by `weights` [n].

    Returns ([m, D] in the dtype of `x`, in the order of the owners' places, and int64 [n], which of them each row went
    into). A row alone stays bit for bit.
    """
    owners, where = torch.unique(owner, return_inverse=True)
    if len(owners) == len(x):
        return x, where
    share = torch.ones(len(x), device=x.device) if weights is None else weights.float()
    total = torch.zeros(len(owners), device=x.device).index_add(0, where, share)
    sums = torch.zeros(len(owners), x.shape[1], device=x.device).index_add(0, where, x.float() * share[:, None])
    alone = torch.bincount(where, minlength=len(owners)) == 1
    means = (sums / total[:, None]).to(x.dtype)
    return torch.where(alone[:, None], x[owners], means), where


def outliers(scores: Tensor, neighbours: int, limit: float = 1.5) -> Tensor:
    """bool [n]: the numbers `scores` [n] that lie alone: local outlier factor (Breunig et al. 2000) above `limit`.

    Of every number's `neighbours` nearest others; distances are float64 and the density is 1 / (mean reach + 1e-10), as
    scikit-learn has them. Its `contamination="auto"` is the limit 1.5.
    """
    n = len(scores)
    count = min(neighbours, n - 1)
    if count < 1:
        return torch.zeros(n, dtype=torch.bool, device=scores.device)
    x, order = torch.sort(scores.double(), stable=True)  # the nearest stand next to it
    ends = x.new_full((count,), torch.inf)
    apart = (torch.cat((ends, x, ends)).unfold(0, 2 * count + 1, 1) - x[:, None]).abs()
    apart[:, count] = torch.inf  # itself
    near, step = torch.sort(apart, dim=1, stable=True)
    near, who = near[:, :count], torch.arange(n, device=x.device)[:, None] + step[:, :count] - count
    reach = torch.maximum(near, near[:, -1][who])  # no nearer than the neighbour's own farthest neighbour
    density = 1 / (reach.mean(1) + 1e-10)
    found = torch.zeros(n, dtype=torch.bool, device=x.device)
    found[order] = density[who].mean(1) / density > limit
    return found


def pooled(x: Tensor, grid: tuple[int, int], count: int) -> tuple[Tensor, tuple[int, int]]:
    """Averages of the rows of `x` [N, D], which stand on `grid`: ([r * c, D], (r, c)), r * c <= `count`.

    The coarser grid has about the finer one's shape; where it does not divide it, neighbouring averages share rows.
    """
    rows, columns = grid
    if rows * columns <= count:
        return x, grid
    high = max(1, min(rows, round(rows * (count / (rows * columns)) ** 0.5), count))
    wide = min(columns, count // high)
    planes = x.float().view(rows, columns, -1).permute(2, 0, 1)
    means = F.adaptive_avg_pool2d(planes, (high, wide))
    return means.flatten(1).T.to(x.dtype).contiguous(), (high, wide)


def strongest(weights: Tensor, share: float) -> Tensor:
    """`weights` [heads, n, m] where all but the largest `share` of each head's n * m are 0; the rest as they are.

    Of those that are equal to the least of the kept none goes, as in the authors' code (GTP-ViT, arXiv 2311.03035).
    """
    flat = weights.flatten(1)
    gone = int(flat.shape[1] * (1 - share))
    if gone < 1:
        return weights
    least = flat.kthvalue(gone, keepdim=True).values[:, :, None]
    return torch.where(weights < least, torch.zeros((), dtype=weights.dtype, device=weights.device), weights)
