"""When a camera was not seen, and why: written by camera threads, read when a question is answered."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from daemon.messages import Gap

KEPT = 1000  # gaps a camera; the oldest leave


class GapLog:
    """Gaps of all cameras. Every method may be called from any thread; `on_change` is called with what changed."""

    def __init__(self, on_change: Callable[[Gap], None] = lambda _gap: None) -> None:
        self.on_change = on_change
        self._lock = threading.Lock()
        self._closed: dict[str, deque[Gap]] = {}
        self._open: dict[str, Gap] = {}

    def down(self, camera: str, since_s: float, reason: str) -> None:
        """`camera` is not seen from `since_s` on. A gap that is open already keeps its start and takes the reason."""
        with self._lock:
            known = self._open.get(camera)
            gap = self._open[camera] = Gap(camera, known.since_s if known else since_s, None, reason)
        if gap != known:
            self.on_change(gap)

    def up(self, camera: str, at_s: float) -> None:
        """`camera` is seen again."""
        with self._lock:
            gap = self._open.pop(camera, None)
            if gap is None:
                return
            gap = replace(gap, until_s=max(at_s, gap.since_s))
            if at_s > gap.since_s:
                self._keep(gap)
        self.on_change(gap)

    def load(self, gap: Gap) -> None:
        """A gap that is known from elsewhere: an earlier run, or an erasure. It is no change."""
        with self._lock:
            if gap.until_s is None:
                self._open[gap.camera] = gap
            else:
                self._keep(gap)

    def reason(self, camera: str) -> str:
        """Why `camera` is not seen now; empty when it is."""
        with self._lock:
            gap = self._open.get(camera)
            return gap.reason if gap else ""

    def between(self, camera: str, since_s: float | None, until_s: float | None) -> tuple[Gap, ...]:
        """The gaps of `camera` that touch [since_s, until_s], oldest first; None is open."""
        with self._lock:
            gaps = [*self._closed.get(camera, ())]
            if camera in self._open:
                gaps.append(self._open[camera])
        gaps.sort(key=lambda gap: gap.since_s)
        return tuple(
            gap
            for gap in gaps
            if (until_s is None or gap.since_s <= until_s)
            and (since_s is None or gap.until_s is None or gap.until_s >= since_s)
        )

    def _keep(self, gap: Gap) -> None:
        self._closed.setdefault(gap.camera, deque(maxlen=KEPT)).append(gap)
