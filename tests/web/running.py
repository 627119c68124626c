"""What the web tests share: a real App without sources and broker, behind the real HTTP server, and a client."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx2
import numpy as np
from PIL import Image

from daemon.app import App
from daemon.core import build
from daemon.demo.broker import free_port
from daemon.doors import HttpSettings
from daemon.guard import Key
from daemon.http import HttpServer
from daemon.metrics import Counters
from daemon.settings import Settings, parse
from daemon.web.site import Site
from memory.view import MemoryView
from stream.model.llava_onevision import LlavaOnevision
from stream.source import Source
from stream.types import Frame, Thumbnail

WAIT_S = 20.0
TOKEN = "0123456789abcdef-token"


def make_settings(folder: Path, **more: Any) -> Settings:
    """`more`: whole sections that are otherwise."""
    raw: dict[str, Any] = {
        "cameras": {"door": {"url": "door.mp4"}, "yard": {"url": "yard.mp4"}},
        "archive": {"folder": str(folder), "dtype": "float32"},
        "memory": {"carriers": 8, "detail_frames": 2},
        "answer": {"max_tokens": 6, "min_support": 0, "evidence": 2, "deadline_s": 60},
        "mqtt": {"max_payload_bytes": 2000},
        **more,
    }
    return parse(raw, "test")


def frame(camera: str, index: int, at_s: float, side: int) -> Frame:
    """Noise for the model, a JPEG of one colour for people."""
    image = np.random.default_rng([index, *camera.encode()]).integers(0, 256, (side, side, 3), dtype=np.uint8)
    target = io.BytesIO()
    Image.new("RGB", (160, 90), (index * 24 % 256, 128, 255 - index * 24 % 256)).save(target, "JPEG")
    return Frame(camera, index, 0, 0.0, at_s, image, Thumbnail(target.getvalue), 0.5)


class House:
    """A daemon at home: feed it frames, ask it over HTTP."""

    def __init__(self, app: App, site: Site, client: httpx2.AsyncClient, url: str) -> None:
        self.app, self.site, self.client, self.url = app, site, client, url

    async def feed(self, count: int, camera: str = "door", every_s: float = 5.0, end_s: float | None = None) -> None:
        """`count` frames, the last one at `end_s` (default: now), all absorbed and archived when this returns."""
        post, side = self.app.posts[camera], self.app.core.model.geometry.image_px
        end_s = time.time() if end_s is None else end_s
        first = post.next_frame
        for number in range(count):
            post.newest = frame(camera, first + number, end_s - (count - 1 - number) * every_s, side)
            post.mailbox.put(post.newest)
            self.app.engine.notify()
            await until(lambda: len(post.mailbox) == 0 and post.bank.newest_frame == post.newest.index)
        reader = self.app.keeper.reader()
        assert reader is not None
        await until(lambda: (row := reader.newest(camera)) is not None and row.frame == post.newest.index)

    async def get(self, path: str, **more: Any) -> httpx2.Response:
        return await self.client.get(f"/api/v1{path}", **more)

    async def ask(self, body: Any, **more: Any) -> httpx2.Response:
        content = body if isinstance(body, str | bytes) else json.dumps(body)
        return await self.client.post("/api/v1/ask", content=content, **more)


class Says:
    """What a random model says of standing questions is of no use here: they are all as probable as it is set to."""

    def __init__(self, house: House) -> None:
        self.probability = 0.0
        man: Any = house.app.watch.man
        man._judge = self
        man._unseen = lambda *_: False  # no source runs, so nothing would be seen

    def probabilities(self, _view: MemoryView, questions: Sequence[Sequence[int]]) -> list[float]:
        return [self.probability] * len(questions)


async def until(condition: Any) -> None:
    for _ in range(int(WAIT_S / 0.01)):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"not within {WAIT_S} s")


@asynccontextmanager
async def at_home(
    model: LlavaOnevision, folder: Path, token: str | None = None, port: int | None = None, **more: Any
) -> AsyncIterator[House]:
    settings = make_settings(folder, **more)
    app = App(settings, build(settings, model), lambda: settings, None)
    with patch.object(Source, "start", lambda _: None):  # frames come from the test
        app._set_cameras(settings, await asyncio.to_thread(app._restore, settings))
    app.engine.start()
    app.keeper.attach(app.engine, app._on_erased)
    key, port = Key(token), port or free_port()
    site = Site(app, key)
    server = HttpServer(HttpSettings(port=port), [site.part], key, Counters())
    task = asyncio.create_task(server.run())
    await server.listening.wait()
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx2.AsyncClient(base_url=url, timeout=WAIT_S, trust_env=False) as client:
            await until(lambda: all(name in app.engine.cameras for name in app.posts))
            yield House(app, site, client, url)
    finally:
        await site.close()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.to_thread(app.engine.stop)
        await asyncio.to_thread(app.recaller.close)
        await asyncio.to_thread(app.diary.close)
        await asyncio.to_thread(app.keeper.close)


def events(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Server-sent events of a whole text."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line and not line.startswith(":"))
        if fields:
            found.append((fields["event"], json.loads(fields["data"])))
    return found
