"""At most N frames a second, evenly: what nearly every video model does before anything else."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from stream.policy import Paper
from stream.types import Frame, Verdict

_EARLY = 0.25  # of a period, at most: a frame a little early is taken, so that jitter does not halve the rate


@dataclass
class Stride:
    """Keep frames on a grid of `1 / fps` seconds of wall time.

    The grid does not move with late frames, so there is no drift: over any time T at most `fps * T + 2.25` are
    kept (one late at the start, one early at the end). A gap longer than a period starts a new grid.
    """

    fps: float = 1.0
    paper: ClassVar[Paper] = Paper("uniform sampling in time", "", "baseline")
    looks: ClassVar[bool] = False
    _due_s: float = field(default=-math.inf, init=False, repr=False)
    _before_s: float = field(default=math.nan, init=False, repr=False)
    _step_s: float = field(default=math.nan, init=False, repr=False)  # usual distance of the camera's frames

    def __post_init__(self) -> None:
        if not 0 < self.fps <= 1000:
            raise ValueError(f"fps must lie in (0, 1000], got {self.fps}")

    def judge(self, frame: Frame) -> Verdict:
        """Keep the frame nearest to each grid point; the score is 1.0 there and grows by one per period."""
        period_s = 1.0 / self.fps
        step_s = frame.wall_s - self._before_s
        self._step_s = step_s if math.isnan(self._step_s) else self._step_s + 0.1 * (step_s - self._step_s)
        self._before_s = frame.wall_s
        early_s = self._due_s - frame.wall_s
        if early_s > 0 and not early_s <= min(_EARLY * period_s, self._step_s / 2):
            return Verdict(keep=False, score=1.0 - early_s * self.fps, reason="stride")
        late_s = -early_s
        self._due_s = frame.wall_s + period_s if late_s >= period_s else self._due_s + period_s
        return Verdict(keep=True, score=min(1e6, 1.0 + late_s * self.fps), reason="kept")
