"""When did it happen? Our own clock says; the camera's pts only tells how frames are spaced.

    arrival      |   |  | |        |||     jitter of the network: late, never early
    pts          |   |   |   |   |   |     even, but starts anywhere, jumps, wraps, may be missing
    wall_s       |   |   |   |   |   |     what `ClockMap` gives: pts shifted by the smallest delay seen lately

A camera's wall clock is never read: people get to know "the porch is two hours off" the hard way.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """Time as it is passed in everywhere."""

    def wall_s(self) -> float:
        """Seconds since the Unix epoch; may be set back or forth by NTP or a person."""
        ...

    def monotonic_s(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        ...


class SystemClock:
    """The machine's clock."""

    def wall_s(self) -> float:
        """Seconds since the Unix epoch."""
        return time.time()

    def monotonic_s(self) -> float:
        """Seconds since boot or so."""
        return time.monotonic()


@dataclass(frozen=True, slots=True)
class Stamp:
    """When a frame was taken: see `Frame` for the three fields."""

    segment: int
    pts_s: float
    wall_s: float


class ClockMap:
    """Stamps one camera's frames. Not thread-safe: it belongs to the camera's thread.

    Promises, whatever the pts do (None, NaN, jumps, 32-bit wrap):
    `wall_s` strictly increases; it lies in [arrival - max_lag_s, arrival]; `pts_s` starts each segment at 0.0 and
    never decreases within it. When the wall clock itself is set back the first promise wins: stamps go on at half
    speed until the clock has caught up, so order and spacing stay usable meanwhile.
    """

    def __init__(self, clock: Clock, max_lag_s: float = 1.0, leak: float = 1e-3) -> None:
        if not (max_lag_s > 0 and 0 <= leak < 1):
            raise ValueError(f"clock map needs max_lag_s > 0 and 0 <= leak < 1, got {max_lag_s} and {leak}")
        self._clock = clock
        self._max_lag_s = max_lag_s
        self._leak = leak  # lets the delay grow again, faster than any camera's crystal drifts (~1e-4)
        self._segment = -1
        self._last_wall_s = -math.inf
        self._last_mono_s = clock.monotonic_s()
        self._begin()

    def restart(self) -> int:
        """A new connection: pts of before mean nothing any more. Returns the new segment number, from 0."""
        self._segment += 1
        self._begin()
        return self._segment

    def stamp(self, pts_s: float | None, arrived_s: float | None = None) -> Stamp:
        """The stamp of a frame with the camera's own `pts_s`, which arrives now or came at `arrived_s` (monotonic)."""
        mono_s, wall_s = self._clock.monotonic_s(), self._clock.wall_s()
        if arrived_s is not None:
            mono_s, wall_s = arrived_s, wall_s - (mono_s - arrived_s)
        if self._segment < 0:
            self.restart()
        if pts_s is not None and not math.isfinite(pts_s):
            pts_s = None
        step_s = max(0.0, mono_s - self._last_mono_s)
        lag_s = self._lag(mono_s, step_s, pts_s)
        self._advance(step_s, pts_s)
        taken_s = wall_s - lag_s
        if taken_s <= self._last_wall_s:
            taken_s = max(self._last_wall_s + step_s / 2, math.nextafter(self._last_wall_s, math.inf))
        self._last_wall_s, self._last_mono_s = taken_s, mono_s
        return Stamp(self._segment, self._pts_s, taken_s)

    def _begin(self) -> None:
        self._pts_s = 0.0
        self._first = True
        self._raw_s: float | None = None  # the camera's own pts of the frame before
        self._offset_s: float | None = None  # arrival - pts of the least delayed frame of late

    def _lag(self, mono_s: float, step_s: float, pts_s: float | None) -> float:
        """How long before its arrival the frame was taken, as far as pts can tell: a leaky lower envelope."""
        if pts_s is None:
            return 0.0
        delay_s = mono_s - pts_s
        if self._offset_s is None:
            self._offset_s = delay_s
        self._offset_s = min(self._offset_s + self._leak * step_s, delay_s)
        if delay_s - self._offset_s > self._max_lag_s:  # pts jumped back, or the network stood still: start over
            self._offset_s = delay_s
        return delay_s - self._offset_s

    def _advance(self, step_s: float, pts_s: float | None) -> None:
        """Move `_pts_s` by the pts step, or by the arrival step where the pts step cannot be true."""
        if not self._first:
            pts_step_s = math.nan if pts_s is None or self._raw_s is None else pts_s - self._raw_s
            plausible = pts_step_s >= 0 and abs(pts_step_s - step_s) <= self._max_lag_s
            self._pts_s += pts_step_s if plausible else step_s
        self._first = False
        self._raw_s = pts_s
