"""Code change: every place of the picture has a code of a small codebook; enough codes change: keep.

    picture -> cells -> 2x2 colours each -> nearest code; a patch that is far from all of them is a new code
    score: share of places that are no longer near the code they had in the last KEPT frame

The codebook learns online, from this camera alone. Light and noise move a patch a little around its code: no change.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from stream.gate import MAX_GAP
from stream.gate.novelty import colours
from stream.policy import Paper
from stream.types import Frame, Verdict

PLACES = 24  # a side


@dataclass
class Codes:
    """Keep a frame when enough places changed their code; and one every `max_gap_s` anyhow.

    `share`: least share of places whose code changed.
    `codes`: size of the codebook.
    `reach`: how far a patch may be from its code, and may then move away from it, before it has another; grey levels
    (root of the mean square over the patch).
    """

    share: float = 0.004
    codes: int = 64
    reach: float = 12.0
    max_gap_s: float = 30.0
    paper: ClassVar[Paper] = Paper(
        title="VIOLET: End-to-End Video-Language Transformers with Masked Visual-token Modeling",
        link="https://arxiv.org/abs/2111.12681",
        fidelity="idea",
        differs="the paper predicts the codes of a trained dVAE; here their change from frame to frame is surprise, "
        "and the codebook is learned online from patches' colours, as VQToken (arXiv 2503.16980) clusters its tokens",
    )
    looks: ClassVar[bool] = True
    _book: np.ndarray | None = field(default=None, init=False, repr=False)  # [K, C] codes
    _kept: np.ndarray | None = field(default=None, init=False, repr=False)  # [P] the last kept frame's
    _limits: np.ndarray = field(default_factory=lambda: np.zeros(0), init=False, repr=False)  # [P] to its code
    _kept_s: float = field(default=-math.inf, init=False, repr=False)

    def __post_init__(self) -> None:
        if not (0 < self.share <= 1 and self.codes >= 1 and self.reach > 0 and self.max_gap_s > 0):
            raise ValueError(f"share must lie in (0, 1], codes be >= 1, reach and max_gap_s > 0, got {self}")

    def judge(self, frame: Frame) -> Verdict:
        """Keep on change; the score is the share of places that their code explains no more."""
        now = describe(frame.image)
        if self._book is None or self._kept is None or len(self._kept) != len(now):
            self._book, self._kept = now[:1], np.zeros(len(now), np.int64)
            return self._keep(frame, now, 1.0, "kept")
        score = float((residuals(now, self._book, self._kept) > self._limits).mean())
        if score >= self.share:
            return self._keep(frame, now, score, "kept")
        if frame.wall_s - self._kept_s >= self.max_gap_s:
            return self._keep(frame, now, score, MAX_GAP)
        return Verdict(keep=False, score=score, reason="still")

    def _keep(self, frame: Frame, now: np.ndarray, score: float, reason: str) -> Verdict:
        """Code the picture anew: where its old code is near, a place keeps it."""
        assert self._book is not None
        assert self._kept is not None
        near = residuals(now, self._book, self._kept) <= self.reach
        self._book = grow(self._book, now, self.reach, self.codes, np.unique(self._kept[near]))
        self._kept = np.where(near, self._kept, distances(now, self._book).argmin(1))
        self._limits = residuals(now, self._book, self._kept) + self.reach
        self._kept_s = frame.wall_s
        return Verdict(keep=True, score=score, reason=reason)


def describe(image: np.ndarray) -> np.ndarray:
    """float32 [P, 12]: 2x2 mean colours of each of PLACES x PLACES places of a uint8 [H, W, 3] picture, grey levels.

    A picture of less than 2 * PLACES pixels has fewer places.
    """
    side = 2 * min(PLACES, max(1, image.shape[0] // 2), max(1, image.shape[1] // 2))
    cells = colours(image, side)
    rows, columns = cells.shape[0] // 2, cells.shape[1] // 2
    if not rows or not columns:  # one pixel high or wide
        return np.resize(cells.reshape(1, -1), (1, 12))
    return cells.reshape(rows, 2, columns, 2, 3).swapaxes(1, 2).reshape(rows * columns, 12)


def distances(x: np.ndarray, book: np.ndarray) -> np.ndarray:
    """float32 [P, K]: root of the mean square of the difference of each row of `x` [P, C] to each of `book` [K, C]."""
    squares = (x**2).sum(1)[:, None] - 2 * x @ book.T + (book**2).sum(1)
    apart: np.ndarray = np.sqrt(squares.clip(0) / x.shape[1])
    return apart


def residuals(x: np.ndarray, book: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """float32 [P]: how far each row of `x` [P, C] is from its own code, as in `distances`."""
    off = x - book[labels]
    apart: np.ndarray = np.sqrt((off**2).mean(1))
    return apart


def grow(book: np.ndarray, x: np.ndarray, reach: float, size: int, used: np.ndarray) -> np.ndarray:
    """`book` [K, C] and new codes until each row of `x` [P, C] is within `reach` of one: farthest first.

    It has `size` codes at most. Where it is full, a new code takes the place of the first that is neither in `used` nor
    new; where there is none such, the rest of the rows must do with what there is.
    """
    made, taken = list(book), set(used.tolist())
    nearest = distances(x, book).min(1)
    for _ in range(size):
        far = int(nearest.argmax())
        places = [len(made)] if len(made) < size else [place for place in range(size) if place not in taken]
        if nearest[far] <= reach or not places:
            break
        free = places[0]
        made[free : free + 1] = [x[far]]
        taken.add(free)
        nearest = np.minimum(nearest, distances(x, x[far : far + 1])[:, 0])
    return np.array(made, np.float32)
