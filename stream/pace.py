"""A file played as if it were a camera: each frame when it is due by its own time."""

from __future__ import annotations

import threading

from stream.clock import Clock

_MAX_WAIT_S = 10.0  # a file's pts that ask for a longer pause are not believed
_MAX_LATE_S = 1.0  # later than this: start a new pace, do not hurry


class Pace:
    """Plays a file at the speed of its pts; waits on the stop event, so that stopping is immediate."""

    def __init__(self, clock: Clock, stop: threading.Event) -> None:
        self._clock, self._stop = clock, stop
        self._shift_s: float | None = None  # monotonic - pts of a frame that is on time

    def wait(self, pts_s: float | None) -> None:
        """Wait until the frame with `pts_s` is due; a jump in pts or a long delay starts a new pace."""
        if pts_s is None:
            return
        now_s = self._clock.monotonic_s()
        due_in_s = 0.0 if self._shift_s is None else pts_s + self._shift_s - now_s
        if self._shift_s is None or not -_MAX_LATE_S <= due_in_s <= _MAX_WAIT_S:
            self._shift_s = now_s - pts_s
        elif due_in_s > 0:
            self._stop.wait(due_in_s)
