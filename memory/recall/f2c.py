"""Short clips around the peaks of relevance, each as long as it stays relevant and does not repeat itself (F2C)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import ClassVar

import torch
from torch import Tensor

from memory.recall import Asked, Method, Rows
from memory.recall.choose import evenly
from memory.recall.score import By, known, score
from stream.ops import cosines
from stream.policy import Paper

ROUNDS = 50  # of k-means, at most


def peaks(scores: Sequence[float]) -> list[int]:
    """Watershed of `scores` [n]: local minima and both ends are the borders, the best place between two is a peak."""
    n = len(scores)
    inner = [place for place in range(1, n - 1) if scores[place] <= min(scores[place - 1], scores[place + 1])]
    borders = [0, *inner, n - 1]
    basins = [range(first, last + 1) for first, last in pairwise(borders)]
    return sorted({max(basin, key=lambda place: (scores[place], -place)) for basin in basins})


def anchors(scores: Sequence[float], times: Sequence[float], count: int) -> list[int]:
    """The `peaks` of `scores` [n]; of more than `count` the best of each of `count` clusters of their `times` (1-D
    k-means that starts evenly)."""
    found = peaks(scores)
    if len(found) <= count:
        return found
    when = torch.tensor([times[place] for place in found], dtype=torch.float64)
    centres = when[evenly(len(found), count)]
    for _ in range(ROUNDS):
        own = (when[:, None] - centres[None, :]).abs().argmin(1)
        fresh = torch.stack([when[own == k].mean() if (own == k).any() else centres[k] for k in range(count)])
        if torch.equal(fresh, centres):
            break
        centres = fresh
    groups = [[place for place, k in zip(found, own.tolist(), strict=True) if k == cluster] for cluster in range(count)]
    return sorted(max(group, key=lambda place: (scores[place], -place)) for group in groups if group)


def clip(anchor: int, length: int, count: int) -> range:
    """`length` of `count` places around `anchor`, moved inside."""
    first = min(max(0, anchor - (length - 1) // 2), count - length)
    return range(first, first + length)


def best_length(scores: Tensor, alike: Tensor, anchor: int, longest: int, weights: tuple[float, float]) -> int:
    """The length l in 1 .. `longest` with the highest mean of `scores` [n] in the clip - weights[0] x mean of `alike`
    [n, n] between its places (0 for l = 1) + weights[1] x l / `longest`; the shortest of equals."""
    worth = list[float]()
    for length in range(1, min(longest, len(scores)) + 1):
        places = clip(anchor, length, len(scores))
        own = slice(places.start, places.stop)
        block = alike[own, own]
        repeats = float(block.sum() - block.diagonal().sum()) / max(1, length * (length - 1))
        worth.append(float(scores[own].mean()) - weights[0] * repeats + weights[1] * length / longest)
    return 1 + worth.index(max(worth))


def shrunk(clips: Sequence[tuple[range, int]], room: int) -> list[list[int]]:
    """Groups of places: every clip (places, step) is read `step` to one, a place of two clips by the smaller step, and
    clips that touch as one; more to one where that is more than `room`."""
    finest = dict[int, int]()
    for places, step in clips:
        finest.update({place: min(step, finest.get(place, step)) for place in places})
    for more in range(max(finest, default=0) + 2):
        groups = list(_cut({place: step + more for place, step in finest.items()}))
        if len(groups) <= room:
            return groups
    alike, step = dict.fromkeys(finest, 1), 1  # single places between clips: let them be read with these
    while len(groups := list(_cut(alike))) > room:
        step += 1
        alike = dict.fromkeys(finest, step)
    return groups


def _cut(steps: dict[int, int]) -> Iterator[list[int]]:
    """Neighbouring places with the same step, that many to a group."""
    for _, run in groupby(enumerate(sorted(steps)), key=lambda item: (item[1] - item[0], steps[item[1]])):
        own = [place for _, place in run]
        size = steps[own[0]]
        yield from (own[first : first + size] for first in range(0, len(own), size))


@dataclass(frozen=True)
class F2C(Method):
    """Anchors at the peaks of relevance, and around each the length that is worth most; everything where there is room.

    `by`: `keys`, `digests` or `fused`, as in `relevance`; scaled to 0..1.
    `anchors`: at most, as a share of the room; the fewer there are, the longer a clip may be.
    `shrink`: longer clips are read at down to 1 / shrink^2 of their carriers.
    `repeats`, `length`: weights of how alike a clip's carriers are, and of its length.
    """

    by: By = "keys"
    anchors: float = 1.0
    shrink: float = 2.0
    repeats: float = 0.5
    length: float = 0.05

    paper: ClassVar[Paper] = Paper(
        title="From Frames to Clips: Efficient Key Clip Selection for Long-Form Video Understanding (F2C)",
        link="https://arxiv.org/abs/2510.02262",
        fidelity="style",
        differs="relevance comes from the question's own queries (no text tower here); a carrier is one token and has "
        "no resolution, so the shrink of step 4 pools carriers in time; likeness is the cosine of digests less the "
        "mean of all that may be read, at least 0",
    )

    def __post_init__(self) -> None:
        known(self.by)
        if not 0 < self.anchors <= 1 or self.shrink < 1:
            raise ValueError(
                f"anchors must lie in (0, 1] and shrink be at least 1, got {self.anchors} and {self.shrink}"
            )

    def select(self, asked: Asked, rows: Rows, room: int) -> Sequence[int]:
        """See Recall: the newest of every group."""
        return [group[-1] for group in self.groups(asked, rows, room)]

    def groups(self, asked: Asked, rows: Rows, room: int) -> Sequence[Sequence[int]]:
        """See Recall."""
        if len(rows) <= room:
            return [(index,) for index in range(len(rows))]
        scores = score(asked, rows, self.by)
        scores = (scores - scores.min()) / (scores.max() - scores.min()).clamp_min(1e-12)
        digests = rows.digests.float().cpu()
        alike = cosines(digests - digests.mean(0)).clamp_min(0)
        most = max(1, int(self.anchors * room))
        longest = max(1, int(self.shrink**2 * room / most))
        clips = list[tuple[range, int]]()
        for anchor in anchors(scores.tolist(), [span.last_s for span in rows.spans], most):
            length = best_length(scores, alike, anchor, longest, (self.repeats, self.length))
            area = min(max(most * length / room, 1.0), self.shrink**2)  # sigma^2 of step 4
            clips.append((clip(anchor, length, len(rows)), math.ceil(area - 1e-9)))
        return shrunk(clips, room)
