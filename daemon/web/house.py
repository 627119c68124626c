"""What the API may know of the running daemon, and how it gets there without ever blocking the loop.

memory    engine.call, between two turns of the engine; not waited for longer than MEMORY_S
archive   a reader and a thread of its own; at most WAITING requests for it, then 503
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from daemon import pipeline
from daemon.messages import Gap
from daemon.web.errors import ApiError
from daemon.web.wire import BinWire, CameraEvent, CameraWire, KeyframeWire, SpanWire, TimelineWire
from daemon.wire import DaemonStatus, GapWire
from memory.archive import Reader
from memory.archive.timeline import Picture, bins, distance_s, first_pictures, illustrated, nearest_picture
from memory.view import Moment
from stream.policy import nearest
from stream.types import Frame

if TYPE_CHECKING:
    from daemon.app import App

T = TypeVar("T")
MEMORY_S = 2.0  # the engine may be in a long batch; the archive alone is shown then
WAITING = 32
KEYFRAMES = 24
GAPS = 500
MOST_BINS = 500


class House:
    """See the module. Every method runs on the event loop."""

    def __init__(self, app: App) -> None:
        self.app = app
        self._reader = app.keeper.reader()
        self._disk = ThreadPoolExecutor(1, "web-archive")
        self._waiting = 0

    async def close(self) -> None:
        """Before the keeper closes: nothing is read from the archive any more."""
        await asyncio.to_thread(self._disk.shutdown, cancel_futures=True)

    @property
    def archived(self) -> bool:
        """Whether there is an archive to read."""
        return self._reader is not None

    def status(self) -> DaemonStatus:
        """Of the whole daemon."""
        return pipeline.daemon_status(self.app)

    def cameras(self) -> list[str]:
        """Names of all that are watched."""
        return list(self.app.posts)

    def known(self, name: str) -> str:
        """`name`, when it is a camera. Raises ApiError 404."""
        if name not in self.app.posts:
            shown = repr(name[:80])
            raise ApiError(404, f"unknown camera {shown}; {nearest(name[:80], self.cameras())}")
        return name

    def event(self, name: str) -> CameraEvent:
        """The state of `name` as it is now."""
        state = pipeline.camera_state(self.app, name)
        return CameraEvent(**state.model_dump(), picture=self.tag(name))

    async def camera(self, name: str) -> CameraWire:
        """The state of `name`, and how far its archive reaches."""
        event = self.event(self.known(name))
        extent = await self.read(lambda reader: reader.extent(name)) if self._reader is not None else None
        from_s, to_s, count = extent or (None, None, 0)
        return CameraWire(**event.model_dump(), archive_from=from_s, archive_to=to_s, archived=count)

    def newest(self, name: str) -> Frame | None:
        """The newest kept frame that has a picture."""
        frame = self.app.posts[name].newest
        return frame if frame is not None and frame.thumbnail else None

    async def jpeg(self, frame: Frame) -> bytes:
        """The picture of `frame`."""
        return await asyncio.to_thread(frame.thumbnail.read)

    def tag(self, name: str) -> str | None:
        """ETag of the newest kept picture. Frame numbers are never given twice, pictures of one are always the same."""
        frame = self.newest(name)
        return None if frame is None else f'"{name}-{frame.index}"'

    async def timeline(self, name: str, since_s: float, until_s: float, count: int) -> TimelineWire:
        """[since_s, until_s] of `name` in `count` bins."""
        held = await self._moments(name, since_s, until_s)
        gaps = {gap.since_s: gap for gap in self.app.gaps.between(name, since_s, until_s)}
        filled: list[BinWire] = []
        keyframes = _slotted([item.span.first_s for item in held or () if item.jpeg], since_s, until_s)
        if self._reader is not None:
            filled, keyframes, stored = await self.read(lambda reader: _archived(reader, name, since_s, until_s, count))
            gaps = {gap.since_s: gap for gap in stored} | gaps
        if not self.shows(name):
            keyframes = []
        ordered = sorted(gaps.values(), key=lambda gap: gap.since_s)[-GAPS:]
        spans = [SpanWire(from_=item.span.first_s, to=item.span.last_s, count=item.span.count) for item in held or ()]
        return TimelineWire(
            camera=name,
            since=since_s,
            until=until_s,
            bin_s=(until_s - since_s) / count,
            bins=tuple(filled),
            held=None if held is None else tuple(spans),
            gaps=tuple(
                GapWire(camera=gap.camera, since=gap.since_s, until=gap.until_s, reason=gap.reason) for gap in ordered
            ),
            keyframes=tuple(
                KeyframeWire(t=at_s, picture=f"/api/v1/cameras/{name}/moments/{at_s!r}.jpg")
                for at_s in keyframes[-KEYFRAMES:]
            ),
        )

    async def moment(self, name: str, at_s: float) -> Picture | None:
        """The kept picture nearest to `at_s`: of the archive, or of the memory where that has nearer ones."""
        found: Picture | None = None
        if not self.shows(name):
            return None
        if self._reader is not None:
            found = await self.read(lambda reader: nearest_picture(reader, name, at_s))
        if found is not None and distance_s(found.span, at_s) == 0:
            return found
        held = [Picture(item.span, item.jpeg) for item in await self._moments(name, None, None) or () if item.jpeg]
        return min([*held, *([found] if found else [])], key=lambda item: distance_s(item.span, at_s), default=None)

    def shows(self, name: str) -> bool:
        """Whether pictures of `name` may be shown: an earlier configuration may have stored some."""
        post = self.app.posts.get(name)
        return post is not None and post.settings.pictures

    async def _moments(self, name: str, since_s: float | None, until_s: float | None) -> list[Moment] | None:
        """What the bank holds of a time, oldest first; None when the engine does not answer soon."""
        bank = self.app.posts[name].bank
        call = self.app.engine.call(lambda: [item for item in bank.moments if item.span.overlaps(since_s, until_s)])
        try:
            # shielded: the engine must not find its future cancelled when it comes to it
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(call)), MEMORY_S)
        except TimeoutError:
            return None

    async def read(self, what: Callable[[Reader], T]) -> T:
        """Run `what` in the archive's reading thread, where there is an archive. Raises ApiError 503."""
        reader = self._reader
        assert reader is not None
        if self._waiting >= WAITING:
            raise ApiError(503, "too many requests wait for the archive; ask again soon")

        def work() -> T:
            try:
                return what(reader)
            finally:
                reader.rest()

        self._waiting += 1
        try:
            return await asyncio.wrap_future(self._disk.submit(work))
        finally:
            self._waiting -= 1


def _archived(
    reader: Reader, name: str, since_s: float, until_s: float, count: int
) -> tuple[list[BinWire], list[float], list[Gap]]:
    """Bins with something in them, when the pictures of this time begin, gaps. In the reading thread."""
    filled, ids = [], dict[int, float]()
    for item in bins(reader, name, since_s, until_s, count):
        if item.newest_id is not None and item.newest_s is not None:
            filled.append(BinWire(from_=item.since_s, to=item.until_s, carriers=item.carriers, moment=item.newest_s))
            ids[item.newest_id] = item.newest_s
    keyframes = first_pictures(reader, name, since_s, until_s, _slot_s(since_s, until_s))
    if not keyframes:  # nothing began in this time; something may reach into it
        shown = illustrated(reader, list(ids))
        keyframes = [at_s for row_id, at_s in ids.items() if row_id in shown][-1:]
    gaps = [
        Gap(item.camera, item.since_s, item.until_s, item.reason) for item in reader.outages(name, since_s, until_s)
    ]
    return filled, keyframes, gaps


def _slot_s(since_s: float, until_s: float) -> float:
    """How much time one picture stands for. Rounded, so that a millisecond more of a time does not move every slot."""
    return float(f"{(until_s - since_s) / (KEYFRAMES - 1):.3g}")


def _slotted(items: list[float], since_s: float, until_s: float) -> list[float]:
    """The first of each slot, as `first_pictures` has it; the newest of all where none begins in this time."""
    slot_s, first = _slot_s(since_s, until_s), dict[int, float]()
    for at_s in sorted(items):
        first.setdefault(math.floor(at_s / slot_s), at_s)
    return [at_s for at_s in first.values() if since_s <= at_s <= until_s] or sorted(items)[-1:]
