"""A damaged stream makes libav write many lines a second. A few pass, and the number of the others."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable


class Throttle(logging.Filter):
    """Std-logging filter: at most `burst` records per `window_s` from loggers at or under `name`; others pass.

    The first record of a new window says how many of the last one were held back. Put it on a handler: a filter on a
    logger does not see its children's records. Thread-safe enough: a race miscounts by one, it loses nothing else.
    """

    def __init__(
        self, name: str, *, burst: int = 10, window_s: float = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(name)
        self._burst = burst
        self._window_s = window_s
        self._clock = clock
        self._since_s = clock()
        self._count = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether `record` is written."""
        if not super().filter(record):  # not one of ours to hold back
            return True
        now_s = self._clock()
        if now_s - self._since_s >= self._window_s:
            held = self._count - self._burst
            self._since_s, self._count = now_s, 0
            if held > 0:
                record.msg, record.args = f"{record.getMessage()} ({held} more of {self.name} not shown)", ()
        self._count += 1
        return self._count <= self._burst
