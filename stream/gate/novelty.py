"""Novelty: a frame is kept when it is far from everything in a bounded memory of kept frames (after DivPrune).

A view that comes back is not new: A B A B keeps one A and one B. When the memory is full, one of the two that are most
alike leaves it, so that what is remembered is as diverse as it can be.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from stream.gate import MAX_GAP
from stream.policy import Paper
from stream.types import Frame, Verdict

SIDE = 16  # cells a side of the picture's description
_CALM = 16.0  # grey levels: a picture with less structure than this is told from others by little


@dataclass
class Novelty:
    """Keep a frame that is new; and one every `max_gap_s` anyhow.

    `least`: cosine distance to the nearest remembered frame from which on a frame is new, in [0, 2].
    `memory`: frames that are remembered.
    """

    least: float = 0.01
    memory: int = 32
    max_gap_s: float = 30.0
    paper: ClassVar[Paper] = Paper(
        title="DivPrune: Diversity-based Visual Token Pruning for Large Multimodal Models",
        link="https://arxiv.org/abs/2503.02175",
        fidelity="idea",
        differs="the paper picks tokens of one prompt; here its distance to what was picked before says whether a "
        "frame is new, over a coarse description of the picture, before any model has seen it",
    )
    looks: ClassVar[bool] = True
    _known: np.ndarray | None = field(default=None, init=False, repr=False)  # [m, D] unit rows, oldest first
    _kept_s: float = field(default=-math.inf, init=False, repr=False)

    def __post_init__(self) -> None:
        if not (0 < self.least <= 2 and self.memory >= 1 and self.max_gap_s > 0):
            raise ValueError(f"least must lie in (0, 2], memory be >= 1 and max_gap_s > 0, got {self}")

    def judge(self, frame: Frame) -> Verdict:
        """Keep what is new; the score is the cosine distance to the nearest remembered frame, 2 for the first."""
        vector = describe(frame.image)
        if self._known is None or self._known.shape[1] != len(vector):
            self._known = vector[None]
            return self._keep(frame, 2.0, "kept")
        score = float(1 - (self._known @ vector).max())
        if score >= self.least:
            self._known = remember(self._known, vector, self.memory)
            return self._keep(frame, score, "kept")
        if frame.wall_s - self._kept_s >= self.max_gap_s:
            return self._keep(frame, score, MAX_GAP)  # nothing new to remember
        return Verdict(keep=False, score=score, reason="known")

    def _keep(self, frame: Frame, score: float, reason: str) -> Verdict:
        self._kept_s = frame.wall_s
        return Verdict(keep=True, score=score, reason=reason)


def describe(image: np.ndarray) -> np.ndarray:
    """Unit float32 vector of a uint8 [H, W, 3] picture: mean colour of SIDE x SIDE cells, its own mean undone.

    Brighter or darker is the same picture. One more component of _CALM grey levels keeps noise on a plain wall from
    being a direction of its own. A picture smaller than SIDE has a shorter vector.
    """
    cells = colours(image, SIDE).reshape(-1)
    vector = np.append(cells - cells.mean(), np.float32(_CALM * math.sqrt(cells.size)))
    unit: np.ndarray = (vector / np.linalg.norm(vector)).astype(np.float32)
    return unit


def colours(image: np.ndarray, side: int) -> np.ndarray:
    """float32 [rows, columns, 3]: mean colour of side x side equal cells of a uint8 [H, W, 3] picture, its middle.

    A picture of fewer pixels has fewer cells.
    """
    height, width = image.shape[:2]
    rows, columns = min(side, height), min(side, width)
    high, wide = height // rows, width // columns
    top, left = (height - rows * high) // 2, (width - columns * wide) // 2
    part = image[top : top + rows * high, left : left + columns * wide]
    lines = part.reshape(rows, high, columns * wide * 3).sum(axis=1, dtype=np.uint32)
    sums = lines.reshape(rows, columns, wide, 3).sum(axis=2)
    means: np.ndarray = (sums / (high * wide)).astype(np.float32)
    return means


def remember(known: np.ndarray, vector: np.ndarray, size: int) -> np.ndarray:
    """`known` [m, D] unit rows with `vector` [D] after them; where that is more than `size`, without one of the others.

    Of the closest pair the member leaves whose next neighbour is nearer, never the new one; ties: the older.
    """
    every = np.concatenate([known, vector[None]])
    n = len(every)
    if n <= size:
        return every
    if n == 2:
        return every[1:]
    apart = 1 - every @ every.T
    np.fill_diagonal(apart, np.inf)
    first, second = sorted(divmod(int(apart.argmin()), n))
    apart[first, second] = apart[second, first] = np.inf
    leaves = second if second < n - 1 and apart[second].min() < apart[first].min() else first
    return np.delete(every, leaves, axis=0)
