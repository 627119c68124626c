"""Three paths: the frames the question looks for, cropped; some in between; all at a glance (Free Video-LLM)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from memory.focus import Focus, Reading, Tokens
from memory.focus.pool import Size, averages, own, reading, sides, spread
from memory.focus.score import frame_means, token_scores
from memory.recall import Asked
from memory.recall.choose import best_first, evenly
from stream.policy import Paper

FAST = 0.3  # of the room: the fast path's part of the tokens of the published three paths


def roi_box(places: Tensor, grid: Size, ratio: float) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) of the box with sides round(side x sqrt(ratio)) around the mean of `places` [k], whole
    numbers on `grid`; moved inside."""
    ends = list[int]()
    for where, side in ((places // grid[1], grid[0]), (places % grid[1], grid[1])):
        size = round(side * math.sqrt(ratio))
        first = int(where.float().mean()) - size // 2
        first = min(max(0, first), side - size)
        ends += [first, first + size]
    return ends[0], ends[1], ends[2], ends[3]


def middle_frames(count: int, wanted: int) -> list[int]:
    """`wanted` of `count` frames, evenly from the first on, rounded down."""
    return sorted({int(place) for place in torch.linspace(0, count, wanted + 1)[:-1]})


@dataclass(frozen=True)
class FreeVideo(Focus):
    """The `slow` best frames and `middle` ones spread in time, cropped to where the question looks and at half their
    columns; and all frames on a coarse grid. Crops and grid are as much coarser as the room demands.

    `slow`, `middle`: frames of the first two paths.
    `roi`: share of a frame that is left by the crop, in (0, 1].
    `fast`: rows and columns of the coarse grid.
    """

    slow: int = 3
    middle: int = 5
    roi: float = 0.8
    fast: int = 4

    paper: ClassVar[Paper] = Paper(
        title="Free Video-LLM: Prompt-guided Visual Perception for Efficient Training-free Video LLMs",
        link="https://arxiv.org/abs/2410.10441",
        fidelity="style",
        differs="the box and the choice of middle frames are theirs number by number; relevance comes from the "
        "question's own queries (no text tower here); means instead of maxima, halved after the crop; a frame of both "
        "paths is read once; the room is hard",
    )
    looks: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if min(self.slow, self.middle) < 0 or self.fast < 1 or not 0 < self.roi <= 1:
            raise ValueError(
                "slow and middle must be 0 or more, fast at least 1 and roi in (0, 1], got "
                f"{self.slow}, {self.middle}, {self.fast} and {self.roi}"
            )

    def select(self, asked: Asked, tokens: Tokens, room: int) -> Reading:
        """See Focus."""
        if len(tokens) <= room:
            return Reading(torch.arange(len(tokens)))
        count = int(tokens.frames[-1]) + 1
        scores = token_scores(asked, tokens)
        fast = self._fast(count, tokens.grid, room)
        glance = averages(tokens.grid, fast)
        parts = [spread(glance, tokens, frame) for frame in evenly(count, max(1, room // len(glance)))]
        left = room - sum(map(len, parts))
        best = best_first(frame_means(scores, tokens.frames))[: self.slow]
        chosen = list(dict.fromkeys([*best, *middle_frames(count, self.middle)]))[:left]
        parts += [self._crop(scores, tokens, frame, left // len(chosen)) for frame in chosen]
        return reading(parts, tokens)

    def _fast(self, count: int, grid: Size, room: int) -> Size:
        side = self.fast
        while side > 1 and count * min(side, grid[0]) * min(side, grid[1]) > FAST * room:
            side -= 1
        return min(side, grid[0]), min(side, grid[1])

    def _crop(self, scores: Tensor, tokens: Tokens, frame: int, room: int) -> Tensor:
        """Weights [at most `room`, n] of one frame's box."""
        box = roi_box(self._best(scores, tokens, frame), tokens.grid, self.roi)
        high, wide = max(1, box[1] - box[0]), max(1, box[3] - box[2])
        size = (high, max(1, wide // 2))
        if size[0] * size[1] > room:
            size = sides(room, (high, wide))
        return spread(averages(tokens.grid, size, box), tokens, frame)

    def _best(self, scores: Tensor, tokens: Tokens, frame: int) -> Tensor:
        """Places of the frame's most relevant tokens, a share of `roi` of them."""
        where = own(tokens, frame)
        best: Sequence[int] = best_first(scores[where])[: max(1, int(len(where) * self.roi))]
        return tokens.places[where[list(best)]]
