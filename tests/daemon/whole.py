"""A whole App at a real broker, whose cameras send what a test feeds: everything of the daemon but sources and HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from daemon import pipeline
from daemon.app import App
from daemon.core import build
from daemon.settings import Settings, parse
from stream.model.llava_onevision import LlavaOnevision
from stream.source import Source
from tests.daemon.link import WAIT_S, until
from tests.web.running import frame


def settings_at(port: int, folder: Path, **more: Any) -> Settings:
    """Two cameras; all that listens to topics is switched on."""
    raw: dict[str, Any] = {
        "cameras": {"door": {"url": "door.mp4"}, "yard": {"url": "yard.mp4"}},
        "archive": {"folder": str(folder), "dtype": "float32"},
        "memory": {"carriers": 8, "detail_frames": 2},
        "answer": {"max_tokens": 4, "min_support": 0, "evidence": 2, "deadline_s": 60},
        "mqtt": {"port": port, "max_payload_bytes": 4000, "forget": True, **more.pop("mqtt", {})},
        "home_assistant": {"enabled": True},
        "frigate": {"enabled": True},
        "http": {"enabled": False},
    }
    return parse({**raw, **more}, "test")


class Whole:
    """The running App, and frames for it."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def feed(self, stamps_s: list[float], camera: str = "door") -> None:
        """A frame at each of these times, absorbed and archived when this returns."""
        post, side = self.app.posts[camera], self.app.core.model.geometry.image_px
        for at_s in stamps_s:
            post.newest = fed = frame(camera, post.next_frame, at_s, side)
            post.mailbox.put(fed)
            self.app.engine.notify()
            await until(lambda fed=fed: post.bank.newest_frame == fed.index)  # type: ignore[misc]
        if (reader := self.app.keeper.reader()) is not None:
            await until(lambda: (row := reader.newest(camera)) is not None and row.frame == post.bank.newest_frame)


@asynccontextmanager
async def at_work(model: LlavaOnevision, settings: Settings) -> AsyncIterator[Whole]:
    with patch.object(Source, "start", lambda _: None):  # frames come from the test
        app = App(settings, build(settings, model), lambda: settings, None)
        app._set_cameras(settings, await asyncio.to_thread(app._restore, settings))
        app.engine.start()
        app.keeper.attach(app.engine, app._on_erased)
        loops = (app.link.run(), app.hass.run(), app.forgetting.run(), pipeline.publish_snapshots(app))
        tasks = [asyncio.create_task(coroutine) for coroutine in loops]
        try:
            await asyncio.wait_for(app.link.wait_connected(), WAIT_S)
            await until(lambda: all(name in app.engine.cameras for name in app.posts))
            yield Whole(app)
        finally:
            await app.link.close(2.0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.to_thread(app.engine.stop)
            await asyncio.to_thread(app.recaller.close)
            await asyncio.to_thread(app.diary.close)
            await asyncio.to_thread(app.diary.close)
            await asyncio.to_thread(app.keeper.close)
