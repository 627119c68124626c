"""When a camera was not seen, and why: written by camera threads, read when a question is answered."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from daemon.messages import Gap
from stream.schedule import SCHEDULE
from stream.sight import BLIND
from stream.source import StateChange

KEPT = 1000  # gaps a camera; the oldest leave


class GapLog:
    """Gaps of all cameras. Every method may be called from any thread; `on_change` is called with what changed."""

    def __init__(self, on_change: Callable[[Gap], None] = lambda _gap: None) -> None:
        self.on_change = on_change
        self._lock = threading.Lock()
        self._closed: dict[str, deque[Gap]] = {}
        self._open: dict[str, Gap] = {}
        self._blind: set[str] = set()  # cameras whose open gap has pictures, which show nothing

    def follow(self, change: StateChange, last_s: float | None) -> None:
        """Take over what a camera's reader announced. `last_s`: stamp of its newest intact frame, if there was one.

        Pictures that show nothing are a gap of their own, and so are times outside a schedule, beside faults.
        """
        if change.state == "online":
            self.up(change.camera, change.wall_s)
            if change.reason in BLIND:
                self._begin(change.camera, change.wall_s, change.reason, blind=True)
        elif change.reason != "start" and (change.state == "offline" or not self.reason(change.camera)):
            # to try again is no new reason: until then the gap keeps that of the fault
            planned = SCHEDULE in (change.reason, self.reason(change.camera))
            self.down(change.camera, change.wall_s if last_s is None or planned else last_s, change.reason)

    def down(self, camera: str, since_s: float, reason: str) -> None:
        """`camera` is not seen from `since_s` on. A gap that is open already keeps its start and takes the reason;
        one whose pictures showed nothing ends here instead, and so does one by schedule, or before that."""
        self._begin(camera, since_s, reason, blind=False)

    def up(self, camera: str, at_s: float) -> None:
        """`camera` is seen again."""
        with self._lock:
            gap = self._open.pop(camera, None)
            self._blind.discard(camera)
            if gap is None:
                return
            gap = replace(gap, until_s=max(at_s, gap.since_s))
            if at_s > gap.since_s:
                self._keep(gap)
        self.on_change(gap)

    def _begin(self, camera: str, since_s: float, reason: str, *, blind: bool) -> None:
        ended = None
        with self._lock:
            known = self._open.get(camera)
            planned = known is not None and known.reason != reason and SCHEDULE in (known.reason, reason)
            if known is not None and (blind or planned or camera in self._blind):
                ended, known = replace(known, until_s=max(since_s, known.since_s)), None
                self._keep(ended)
            (self._blind.add if blind else self._blind.discard)(camera)
            gap = self._open[camera] = Gap(camera, known.since_s if known else since_s, None, reason)
        for changed in (ended, gap if gap != known else None):
            if changed is not None:
                self.on_change(changed)

    def load(self, gap: Gap) -> None:
        """A gap that is known from elsewhere: an earlier run, or an erasure. It is no change."""
        with self._lock:
            if gap.until_s is None:
                self._open[gap.camera] = gap
                if gap.reason in BLIND:
                    self._blind.add(gap.camera)
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
