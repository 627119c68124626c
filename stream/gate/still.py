"""Skip frames in which nothing changed since the last KEPT frame. Our own method, for fixed cameras.

    picture -> 48x48 cells of mean brightness -> undo changes of light against the reference -> |difference| per cell
    changed cell:  difference > max(floor, noise_factor * the camera's own noise)
    habit:         cells that keep changing from frame to frame (burnt-in clock, flag, fan) count only when the
                   change reaches beyond them

A far person is one or two cells of strong change, so ONE clear cell is enough; noise is kept out by the threshold
and not by averaging over the picture. The reference is the last kept frame, so slow movement adds up until seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from stream.gate import MAX_GAP
from stream.policy import Paper
from stream.types import Frame, Verdict

CELLS = 48  # per side: a person 1/30 of the picture high still fills one
LOCAL = 9  # cells: light changes are smoother than this, objects are not (a larger one still has edges)
_MAX_NOISE = 3.0  # grey levels; beyond it the camera itself moves, and that is change
_NOISE_STEP = 0.05  # how fast the noise estimate follows upwards; down at once
_HABIT_SHARE = 0.01  # of all cells: a change larger than this is never a habit


@dataclass
class Still:
    """Keep a frame when some cell changed; and one every `max_gap_s` anyhow.

    `threshold`: least change of a cell's brightness that counts, grey levels of 255.
    `noise_factor`: how many times the measured noise of a cell it must be as well.
    `habit_s`: over how long "this place always moves" is learned; 0 switches it off.
    `habit`: share of frames in which a cell must change to be such a place.
    """

    threshold: float = 18.0
    noise_factor: float = 6.0
    max_gap_s: float = 30.0
    habit_s: float = 60.0
    habit: float = 0.1
    paper: ClassVar[Paper] = Paper("change against the last kept frame, per cell", "", "baseline")
    looks: ClassVar[bool] = True
    _kept: np.ndarray | None = field(default=None, init=False, repr=False)  # [CELLS, CELLS] reference
    _before: np.ndarray | None = field(default=None, init=False, repr=False)  # the frame before
    _habits: np.ndarray | None = field(default=None, init=False, repr=False)  # share of frames with change, per cell
    _noise: float = field(default=0.0, init=False, repr=False)
    _kept_s: float = field(default=-math.inf, init=False, repr=False)
    _before_s: float = field(default=-math.inf, init=False, repr=False)

    def __post_init__(self) -> None:
        if not (self.threshold > 0 and self.noise_factor >= 0 and self.max_gap_s > 0 and self.habit_s >= 0):
            raise ValueError(f"threshold and max_gap_s must be > 0, noise_factor and habit_s >= 0, got {self}")
        if not 0 < self.habit <= 1:
            raise ValueError(f"habit must lie in (0, 1], got {self.habit}")

    def judge(self, frame: Frame) -> Verdict:
        """Keep on change; the score is the strongest change in units of the threshold (1.0 is just enough)."""
        cells = grid(frame.image)
        if self._kept is None or self._before is None or self._kept.shape != cells.shape:
            return self._keep(frame, cells, math.inf, "kept")
        limit = max(self.threshold, self.noise_factor * self._noise)
        step = difference(cells, self._before)
        self._learn(step, limit, frame.wall_s)
        change = difference(cells, self._kept)
        score = self._score(change, limit)
        self._before, self._before_s = cells, frame.wall_s
        if score >= 1.0:
            return self._keep(frame, cells, score, "kept")
        if frame.wall_s - self._kept_s >= self.max_gap_s:
            return self._keep(frame, cells, score, MAX_GAP)
        return Verdict(keep=False, score=score, reason="still")

    def _keep(self, frame: Frame, cells: np.ndarray, score: float, reason: str) -> Verdict:
        if self._kept is None or self._kept.shape != cells.shape:
            self._habits = np.zeros_like(cells)
        self._kept = self._before = cells
        self._kept_s = self._before_s = frame.wall_s
        return Verdict(keep=True, score=min(score, 1e6), reason=reason)

    def _score(self, change: np.ndarray, limit: float) -> float:
        changed = change >= limit
        if self.habit_s and self._habits is not None and changed.sum() <= _HABIT_SHARE * changed.size:
            change = np.where(_spread(self._habits >= self.habit), 0.0, change)
        return float(change.max()) / limit

    def _learn(self, step: np.ndarray, limit: float, wall_s: float) -> None:
        """Follow the camera's noise (most cells show nothing else) and the places that always move."""
        noise = min(_MAX_NOISE, 1.4826 * float(np.median(step)))
        self._noise += (noise - self._noise) * (1.0 if noise < self._noise else _NOISE_STEP)
        if self.habit_s and self._habits is not None:
            share = 1.0 - math.exp(-max(0.0, wall_s - self._before_s) / self.habit_s)
            self._habits += share * ((step >= limit) - self._habits)


def grid(image: np.ndarray) -> np.ndarray:
    """Mean brightness of CELLS x CELLS cells (fewer for a smaller picture), float32; image is uint8 [H, W, 3]."""
    height, width = image.shape[:2]
    rows, columns = min(CELLS, height), min(CELLS, width)
    high, wide = height // rows, width // columns
    top, left = (height - rows * high) // 2, (width - columns * wide) // 2
    part = image[top : top + rows * high, left : left + columns * wide]
    lines = part.reshape(rows, high, columns * wide * 3).sum(axis=1, dtype=np.uint32)
    cells = lines.reshape(rows, columns, wide * 3).sum(axis=2)
    means: np.ndarray = (cells / (3.0 * high * wide)).astype(np.float32)
    return means


def difference(cells: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """|cells - reference| per cell, light undone: the gain and offset that fit most cells, then the local mean.

    Auto-exposure and lamps change the whole picture, a cloud changes parts of it, but smoothly.
    """
    shift = float(np.median(cells - reference))
    middle = float(np.median(reference))
    spread = float(np.median(np.abs(reference - middle)))
    gain = 1.0
    if spread > 4.0:  # a flat picture tells nothing about gain
        own = float(np.median(cells))
        gain = float(np.clip(np.median(np.abs(cells - own)) / spread, 0.67, 1.5))
        shift = float(np.median(cells - gain * reference))
    change = cells - gain * reference - shift
    least: np.ndarray = np.minimum(np.abs(change), np.abs(change - _around(change)))
    return least


def _around(cells: np.ndarray) -> np.ndarray:
    """Mean over the LOCAL x LOCAL cells around each cell, fewer at the border."""
    for axis in (0, 1):
        size = cells.shape[axis]
        sums = np.cumsum(cells, axis=axis, dtype=np.float64)
        sums = np.concatenate([np.zeros_like(sums.take([0], axis)), sums], axis)
        first = np.maximum(0, np.arange(size) - LOCAL // 2)
        last = np.minimum(size, np.arange(size) + LOCAL // 2 + 1)
        counts = (last - first).reshape((-1, 1) if axis == 0 else (1, -1))
        cells = (sums.take(last, axis) - sums.take(first, axis)) / counts
    return cells


def _spread(mask: np.ndarray) -> np.ndarray:
    """`mask` grown by two cells sideways and one up and down: a clock's slow digits stand beside its fast ones."""
    wide = mask.copy()
    for by in (1, 2):
        wide[:, by:] |= mask[:, :-by]
        wide[:, :-by] |= mask[:, by:]
    tall = wide.copy()
    tall[1:] |= wide[:-1]
    tall[:-1] |= wide[1:]
    return tall
