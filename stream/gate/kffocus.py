"""KFFocus-style key frames: packets that grow against what is usual, and where the codec says nothing, the picture.

    packet of a P picture  > `ratio` x running median     the encoder had much to say: something moves
    I picture, or no packet known                          the picture's distance to the last key frame > `distance`

A camera sends an I picture every second or two whatever happens, so the type alone is never a reason. A noisy camera's
packets are full of noise: what is small in its picture does not make them grow.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from stream.gate import MAX_GAP
from stream.gate.novelty import describe
from stream.policy import Paper
from stream.types import Frame, Verdict

_KNOWN = 12  # packets before the usual size is known


@dataclass
class KfFocus:
    """Keep a key frame; and one every `max_gap_s` anyhow.

    `ratio`: a packet is large from so many times the usual size on.
    `window`: packets that make up what is usual.
    `distance`: 1 - cosine of two pictures' descriptions from which on they are different scenes, in (0, 2].
    """

    ratio: float = 2.0
    window: int = 90
    distance: float = 0.15
    max_gap_s: float = 30.0
    paper: ClassVar[Paper] = Paper(
        title="KFFocus: Highlighting Keyframes for Enhanced Video Understanding",
        link="https://arxiv.org/abs/2508.08989",
        fidelity="style",
        differs="no code or constants are published; training-free, key frames only: their smaller budgets for other "
        "frames and the trained module are not here; the usual size is the median of the larger third of packets, "
        "because B pictures, which are small, would lower that of all",
    )
    looks: ClassVar[bool] = True
    _sizes: deque[int] = field(default_factory=deque, init=False, repr=False)
    _key: np.ndarray | None = field(default=None, init=False, repr=False)  # description of the last key frame
    _kept_s: float = field(default=-math.inf, init=False, repr=False)

    def __post_init__(self) -> None:
        if not (self.ratio > 1 and self.window >= _KNOWN and 0 < self.distance <= 2 and self.max_gap_s > 0):
            raise ValueError(f"ratio must be > 1, window >= {_KNOWN}, distance in (0, 2] and max_gap_s > 0, got {self}")

    def judge(self, frame: Frame) -> Verdict:
        """Keep on evidence; the score is the evidence in units of what is just enough (1.0)."""
        vector = describe(frame.image)
        if self._key is None or self._key.shape != vector.shape:
            return self._keep(frame, vector, 1.0, "kept")
        apart = float(1 - self._key @ vector) / self.distance
        score = self._packet(frame) if frame.packet_bytes and not frame.key_frame else apart
        score = apart if score is None else score
        if score >= 1.0:
            return self._keep(frame, vector, min(score, 1e6), "kept")
        if frame.wall_s - self._kept_s >= self.max_gap_s:
            return self._keep(frame, vector, score, MAX_GAP)
        return Verdict(keep=False, score=score, reason="still")

    def _packet(self, frame: Frame) -> float | None:
        """How large the packet is against what is usual; None while nothing is usual. It counts from then on."""
        score = growth(frame.packet_bytes, self._sizes) / self.ratio if len(self._sizes) >= _KNOWN else None
        self._sizes.append(frame.packet_bytes)
        if len(self._sizes) > self.window:
            self._sizes.popleft()
        return score

    def _keep(self, frame: Frame, vector: np.ndarray, score: float, reason: str) -> Verdict:
        self._key, self._kept_s = vector, frame.wall_s
        return Verdict(keep=True, score=score, reason=reason)


def growth(size_bytes: int, before: Sequence[int]) -> float:
    """`size_bytes` over the median of the larger third of the sizes `before` it, of which there is one at least."""
    larger = np.sort(np.asarray(before))[-max(1, len(before) // 3) :]
    return size_bytes / max(1.0, float(np.median(larger)))
