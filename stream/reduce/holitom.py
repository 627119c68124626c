"""Stretches in which places do not change are kept once, the rest by attention: HoliTom."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from stream.ops import density_peaks, nearest, top
from stream.policy import Paper
from stream.reduce import ATTENTION, GRID, Seen
from stream.reduce.dull import Dull
from stream.types import VisualTokens

BETA = 0.6  # what a centre weighs against the mean of those merged into it
NEIGHBOURS = 7  # of the density, the token itself among them
LONGEST = 1024  # frames of a segment


class Merged(NamedTuple):
    """What is left of a window of T frames with N tokens each."""

    tokens: Tensor  # [K, C]
    frames: Tensor  # int64 [K]: the frame that holds it; of a static token the first of its segment
    places: Tensor  # int64 [K]: where it stood in its frame


def static(x: Tensor, tau: float) -> Tensor:
    """bool [T - 1, N]: whether a place of `x` [T, N, C] is more alike than `tau` (cosine) in the next frame."""
    return F.cosine_similarity(x[:-1].float(), x[1:].float(), dim=-1) > tau


def segments(still: Tensor, longest: int = LONGEST) -> tuple[list[tuple[int, int]], int]:
    """Stretches (first, last) of frames that save most tokens, and how many they save; `still` is bool [T - 1, N].

    A stretch of L frames saves L - 1 tokens for every place that is static all through it. By dynamic programming; of
    equals the last frame stands alone, then the shorter stretch wins, as in the authors' code.
    """
    frames = len(still) + 1
    kept = [[0] * (first + 1) + still[first:].int().cumprod(0).sum(1).tolist() for first in range(frames - 1)]
    best, start = [0], [0]
    for last in range(1, frames):
        most, begin = best[last - 1], last
        for first in range(last - 1, max(-1, last - longest), -1):
            saved = (best[first - 1] if first else 0) + (last - first) * kept[first][last]
            if saved > most:
                most, begin = saved, first
        best.append(most)
        start.append(begin)
    found, last = [], frames - 1
    while last >= 0:
        found.append((start[last], last))
        last = start[last] - 1
    return found[::-1], best[-1]


def clustered(x: Tensor, count: int, beta: float = BETA, rng: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """`count` of the rows of `x` [n, C] that stand for all: ([count, C], int64 [count], rising: the centres' rows).

    Centres by DPC-KNN; every other row goes to its nearest; a centre becomes beta * itself + (1 - beta) * the mean of
    those that went to it. `rng` draws the authors' noise, None the same every time: without it two rows nearest to each
    other tie, and both are centres.
    """
    if not count:
        return x[:0], torch.arange(0, device=x.device)
    noise = torch.Generator().manual_seed(0) if rng is None else rng
    centres = density_peaks(x, count, min(NEIGHBOURS, count), noise)
    rest = torch.ones(len(x), dtype=torch.bool, device=x.device)
    rest[centres] = False
    if not rest.any():
        return x[centres], centres
    others, own = x[rest].float(), x[centres].float()
    goes = nearest(others, own)
    members = torch.bincount(goes, minlength=count)[:, None]
    means = torch.zeros_like(own).index_add(0, goes, others) / members.clamp(min=1)
    return torch.where(members > 0, (beta * own + (1 - beta) * means).to(x.dtype), x[centres]), centres


def merge(
    x: Tensor,
    attention: Tensor,
    rate: float,
    tau: float = 0.8,
    beta: float = BETA,
    rng: torch.Generator | None = None,
) -> Merged:
    """The authors' outer merge of a whole window: `x` [T, N, C], `attention` that its tokens received [T, N].

    Source: cokeshao/HoliTom, order of LLaVA-OneVision: of every segment its static tokens, then the dynamic ones frame
    by frame, each in order of place. `rate` is the share to keep; the published pairs are 0.10 with tau 0.65 and 0.15,
    0.20, 0.25 with tau 0.80. About rate * T * N stay: every frame's dynamic tokens round up, a segment's static ones
    round to the nearest. All dynamic tokens go by attention (the release's D = 0; another D fails in it).
    """
    frames, count, _ = x.shape
    still = static(x, tau)
    cuts, saved = segments(still)
    share = min(rate / ((frames * count - saved) / (frames * count)), 1)
    parts = []
    for first, last in cuts:
        fixed = still[first:last].all(0) & (last > first)
        where, moving = fixed.nonzero()[:, 0], (~fixed).nonzero()[:, 0]
        tokens, centres = clustered(x[first : last + 1, where].mean(0), round(len(where) * share), beta, rng)
        parts.append(Merged(tokens, torch.full_like(centres, first), where[centres]))
        for frame in range(first, last + 1):
            chosen = moving[top(attention[frame, moving], math.ceil(len(moving) * share))]
            parts.append(Merged(x[frame, chosen], torch.full_like(chosen, frame), chosen))
    tokens, holders, places = (torch.cat(column) for column in zip(*parts, strict=True))
    return Merged(tokens, holders, places)


@dataclass(frozen=True)
class HoliTom(Dull):
    """What did not change since the newest frame's segment began is left out, the rest goes by attention.

    `dull`: most tokens of a frame whose gate score is below `below`; 0 is all of them. Fewer stay where less changed.
    `keen`: most tokens of every other frame; 0 is all of them.
    `below`: a frame with a lower score is dull.
    `tau`: cosine above which a place is static from one frame to the next.
    `beta`: what a centre weighs against the mean of the tokens that are merged into it, 0 to 1.
    """

    tau: float = 0.8
    beta: float = BETA

    paper: ClassVar[Paper] = Paper(
        title="HoliTom: Holistic Token Merging for Fast Video Large Language Models",
        link="https://arxiv.org/abs/2505.21334",
        fidelity="parity",
        differs="parity holds for `merge`, a whole window at once. In a stream nothing looks ahead: segments are cut "
        "anew over the last 16 frames, what is static since the segment's first frame is left out and not averaged, "
        "the budget is a frame's and exact; where a segment begins, places like the frame before count as static; "
        "merging inside the language model is the prefill stage's",
    )
    window: ClassVar[int] = 16
    needs: ClassVar[frozenset[str]] = frozenset({GRID, ATTENTION})

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (-1 <= self.tau <= 1 and 0 <= self.beta <= 1):
            raise ValueError(f"tau is a cosine and beta a share of 0 to 1; got tau {self.tau}, beta {self.beta}")

    def blocks(self, depth: int) -> tuple[int, ...]:
        """See Reduce: the last block that is used."""
        return (depth - 1,)

    def shrink(self, seen: Sequence[Seen], budget: int) -> VisualTokens:
        """See Dull."""
        newest = seen[-1].tokens
        tap = newest.taps[max(newest.taps)]
        attention = tap.pool(tap.received())
        before = list(takewhile(lambda one: one.tokens.grid == newest.grid, reversed(seen)))[::-1]
        still = static(torch.stack([one.tokens.feats for one in before]), self.tau)
        first, last = segments(still)[0][-1]
        if first < last:
            moving = (~still[first:].all(0)).nonzero()[:, 0]
            pool = moving if len(moving) else torch.arange(len(attention), device=attention.device)
            return newest.only(pool[top(attention[pool], min(budget, max(1, len(moving))))])
        fixed = still[-1] if len(still) else torch.zeros_like(attention, dtype=torch.bool)
        return self._begin(newest, attention, fixed, budget)

    def _begin(self, newest: VisualTokens, attention: Tensor, fixed: Tensor, budget: int) -> VisualTokens:
        """A segment's first frame: both kinds of places [N] have their share of the budget, static ones in clusters."""
        where, moving = fixed.nonzero()[:, 0], (~fixed).nonzero()[:, 0]
        chosen = moving[top(attention[moving], -(-len(moving) * budget // len(fixed)))]
        tokens, centres = clustered(newest.feats[where], min(budget - len(chosen), len(where)), self.beta)
        places, order = torch.cat((where[centres], chosen)).sort()
        kept = newest.only(places)
        return VisualTokens(torch.cat((tokens, newest.feats[chosen]))[order], kept.grid, kept.places)
