"""What waits for the writer: bounded, never blocks who puts, and the newest stays when it is full.

entries   in order; a growing span is written into its entry while that still waits
extends   of frames that were taken already: at most one a frame, applied before the entries
outages   one per (camera, start); among them the times of entries that had to be dropped
lines     of the diary, in order
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, replace

from memory.archive.store import Extend
from memory.archive.types import NOT_ARCHIVED, Entry, Line, Outage

MAX_NOTES = 1_000


@dataclass(frozen=True, slots=True)
class Taken:
    """One batch. `ticket` is handed back to `Inbox.done` when it is on disk."""

    extends: tuple[Extend, ...]
    outages: tuple[Outage, ...]
    entries: tuple[Entry, ...]
    ticket: int
    lines: tuple[Line, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.extends or self.outages or self.entries or self.lines)


@dataclass(slots=True)
class _Cell:
    entry: Entry


class Inbox:
    """Any thread puts, one takes."""

    def __init__(self, limit: int, batch: int, commit_every_s: float) -> None:
        self._limit, self._batch, self._every_s = limit, batch, commit_every_s
        self._changed = threading.Condition()
        self._cells: deque[_Cell] = deque()
        self._latest: dict[str, _Cell] = {}
        self._extends: dict[tuple[str, int], Extend] = {}
        self._outages: dict[tuple[str, float], Outage] = {}
        self._lines: list[Line] = []
        self._lost: dict[str, tuple[float, float]] = {}
        self._first_s: float | None = None  # when what waits longest came
        self._accepted = self._finished = self._asked = self._served = 0
        self._woken = self.stopped = False
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._cells)

    def put(self, entry: Entry) -> None:
        """Append; when full the oldest waiting entry leaves, and its time becomes an outage."""
        with self._changed:
            if len(self._cells) >= self._limit:
                self._drop()
            cell = _Cell(entry)
            self._cells.append(cell)
            self._latest[entry.camera] = cell
            self._accepted += 1
            self._mark()

    def extend(self, camera: str, frame: int, last_s: float) -> None:
        """The span of `frame` grows, if it is the camera's newest."""
        with self._changed:
            cell = self._latest.get(camera)
            if cell is None:
                known = self._extends.pop((camera, frame), None)
                if len(self._extends) < MAX_NOTES:
                    latest_s = last_s if known is None else max(known.last_s, last_s)
                    self._extends[camera, frame] = Extend(camera, frame, latest_s)
                self._mark()
            elif cell.entry.frame == frame:
                span = cell.entry.span
                cell.entry = replace(cell.entry, span=replace(span, last_s=max(span.last_s, last_s)))

    def note(self, outage: Outage) -> None:
        """The same camera and start again replaces what waits."""
        with self._changed:
            if len(self._outages) >= MAX_NOTES:
                del self._outages[next(iter(self._outages))]
            self._outages[outage.camera, outage.since_s] = outage
            self._mark()

    def tell(self, line: Line) -> bool:
        """A line for the diary; False: too many wait."""
        with self._changed:
            if len(self._lines) >= MAX_NOTES:
                return False
            self._lines.append(line)
            self._mark()
            return True

    def take(self, wait_s: float) -> Taken:
        """A batch, as soon as it is full, old enough or asked for; an empty one after `wait_s`, or when woken."""
        deadline_s = time.monotonic() + wait_s
        with self._changed:
            while not self._ready() and not self._woken:
                until_s = deadline_s
                if self._first_s is not None:
                    until_s = min(until_s, self._first_s + self._every_s)
                left_s = until_s - time.monotonic()
                if left_s <= 0:
                    break
                self._changed.wait(left_s)
            self._woken = False
            return self._collect() if self._ready() else Taken((), (), (), self._served)

    def take_now(self) -> Taken:
        """What waits now, at most a batch."""
        with self._changed:
            return self._collect()

    def done(self, taken: Taken) -> None:
        """`taken` is on disk, or given up."""
        with self._changed:
            self._finished += len(taken.entries)
            self._served = max(self._served, taken.ticket)
            self._changed.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Whether all that was put before is done within `timeout_s`."""
        with self._changed:
            self._asked += 1
            mine, target = self._asked, self._accepted
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._finished >= target and self._served >= mine, timeout_s)

    def wake(self) -> None:
        """End a waiting `take` early."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def stop(self) -> None:
        """No more waiting; whoever takes ends when it is empty."""
        with self._changed:
            self.stopped = True
            self._changed.notify_all()

    def pause(self, wait_s: float) -> None:
        """Wait after a fault; a stop ends it."""
        with self._changed:
            self._changed.wait_for(lambda: self.stopped, wait_s)

    def _mark(self) -> None:
        if self._first_s is None:
            self._first_s = time.monotonic()
            self._changed.notify_all()
        elif len(self._cells) == self._batch:
            self._changed.notify_all()

    def _ready(self) -> bool:
        if self.stopped or self._asked > self._served or len(self._cells) >= self._batch:
            return True
        return self._first_s is not None and time.monotonic() - self._first_s >= self._every_s

    def _collect(self) -> Taken:
        entries = [self._cells.popleft() for _ in range(min(self._batch, len(self._cells)))]
        for cell in entries:
            if self._latest.get(cell.entry.camera) is cell:
                del self._latest[cell.entry.camera]
        lost = [Outage(camera, since_s, until_s, NOT_ARCHIVED) for camera, (since_s, until_s) in self._lost.items()]
        extends, outages = tuple(self._extends.values()), (*self._outages.values(), *lost)
        lines, self._lines = tuple(self._lines), []
        self._extends, self._outages, self._lost = {}, {}, {}
        self._first_s = time.monotonic() if self._cells else None
        return Taken(extends, outages, tuple(cell.entry for cell in entries), self._asked, lines)

    def _drop(self) -> None:
        cell = self._cells.popleft()
        entry = cell.entry
        if self._latest.get(entry.camera) is cell:
            del self._latest[entry.camera]
        since_s, until_s = self._lost.get(entry.camera, (entry.span.first_s, entry.span.last_s))
        self._lost[entry.camera] = (min(since_s, entry.span.first_s), max(until_s, entry.span.last_s))
        self.dropped += 1
        self._finished += 1
