"""Who watches the page: camera states, counts and events to all of them, each through a bounded queue of its own.

While anybody watches, every second what changed is encoded once, for all; what standing questions tell, at once. A
viewer who is too slow loses the oldest events and is told how many.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator

from daemon.metrics import Counters
from daemon.web.errors import ApiError
from daemon.web.house import House
from daemon.web.wire import CameraEvent, ChangedWire, LostWire
from daemon.wire import EventWire

LOOK_EVERY_S = 1.0
TELL_EVERY_S = 5.0  # also what did not change but for its age
ALIVE_EVERY_S = 15.0  # a comment, so that neither end takes the silence for a dead connection
MOST = 64  # viewers
QUEUED = 64  # events a viewer


def event(kind: str, data: bytes | str) -> bytes:
    """One server-sent event; `data` is one line."""
    text = data if isinstance(data, str) else data.decode()
    return f"event: {kind}\ndata: {text}\n\n".encode()


class Viewer:
    """One open event stream."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._queue: deque[bytes] = deque(maxlen=QUEUED)
        self._news = asyncio.Event()
        self._lost = 0
        self.ended = False

    def put(self, item: bytes) -> None:
        """For this viewer; when the queue is full its oldest event is dropped."""
        if len(self._queue) == QUEUED:
            self._lost += 1
            self._counters.count("viewer_events_dropped")
        self._queue.append(item)
        self._news.set()

    def end(self) -> None:
        """No more comes."""
        self.ended = True
        self._news.set()

    async def events(self) -> AsyncIterator[bytes]:
        """What comes, until the end."""
        while not self.ended:
            try:
                await asyncio.wait_for(self._news.wait(), ALIVE_EVERY_S)
            except TimeoutError:
                yield b": alive\n\n"
            self._news.clear()
            while self._queue and not self.ended:
                if self._lost:
                    lost, self._lost = self._lost, 0
                    yield event("lost", LostWire(lost=lost).model_dump_json())
                yield self._queue.popleft()


class Viewers:
    """See the module. Use it on the event loop."""

    def __init__(self, house: House) -> None:
        self._house = house
        house.app.watch.on_event.append(self._on_event)
        house.app.watch.on_change.append(self._on_change)
        self._viewers: set[Viewer] = set()
        self._task: asyncio.Task[None] | None = None
        self._told: dict[str, tuple[CameraEvent, float]] = {}
        self._closed = False

    def __len__(self) -> int:
        return len(self._viewers)

    def watch(self) -> AsyncIterator[bytes]:
        """The stream of one viewer: first everything as it is. Raises ApiError 503 when there are too many."""
        if len(self._viewers) >= MOST:
            raise ApiError(503, f"{MOST} viewers already; close a page")
        return self._stream()

    async def _stream(self) -> AsyncIterator[bytes]:
        viewer = Viewer(self._house.app.counters)
        self._viewers.add(viewer)
        if self._closed:
            viewer.end()
        elif self._task is None:
            self._task = asyncio.create_task(self._tell(), name="viewers")
        try:
            viewer.put(event("status", self._house.status().model_dump_json()))
            for name in self._house.cameras():
                viewer.put(event("camera", self._house.event(name).model_dump_json()))
            async for item in viewer.events():
                yield item
        finally:
            self._viewers.discard(viewer)

    async def close(self) -> None:
        """End every stream."""
        self._closed = True
        self._house.app.watch.on_event.remove(self._on_event)
        self._house.app.watch.on_change.remove(self._on_change)
        for viewer in self._viewers:
            viewer.end()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _on_event(self, wire: EventWire) -> None:
        """A standing question tells something."""
        if self._viewers:
            self._put(event("watch", wire.model_dump_json()))

    def _on_change(self, names: tuple[str, ...]) -> None:
        """Standing questions were set, changed or removed."""
        if self._viewers:
            self._put(event("watches", ChangedWire(names=names).model_dump_json()))

    async def _tell(self) -> None:
        """While anybody watches."""
        told_s = time.monotonic()
        while self._viewers:
            await asyncio.sleep(LOOK_EVERY_S)
            for name in self._house.cameras():
                found = self._house.event(name)
                if self._is_news(found):
                    self._told[name] = found, time.monotonic()
                    self._put(event("camera", found.model_dump_json()))
            if time.monotonic() - told_s >= TELL_EVERY_S:
                told_s = time.monotonic()
                self._put(event("status", self._house.status().model_dump_json()))
        self._task = None

    def _is_news(self, found: CameraEvent) -> bool:
        known = self._told.get(found.camera)
        if known is None or time.monotonic() - known[1] >= TELL_EVERY_S:
            return True
        return any(getattr(found, key) != getattr(known[0], key) for key in ("state", "reason", "picture", "carriers"))

    def _put(self, item: bytes) -> None:
        for viewer in self._viewers:
            viewer.put(item)
