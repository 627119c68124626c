"""What does the page cost? A daemon that watches two drawn streets, Chromium on the same machine, and 20 viewers.

    python bench/web.py [--loads 9] [--seconds 48] [--rounds 2] [--viewers 20] [--quick] [--out FILE]

`first paint`: first contentful paint of a fresh browser profile, from the begin of the navigation, median of the loads.
`page`: bytes over the wire of HTML, CSS and scripts; `with data`: also pictures, timeline and states of the first two
seconds. `viewers`: CPU of the daemon with so many open pages, as a share of one core, less that without any. A viewer
does what the page does: it holds the event stream open, fetches each new picture, and every ten seconds the timeline of
one camera, its new pictures, its diary, and the standing questions. Ends with one JSON line; `--out` writes
it to a file too.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psutil
import yaml
from playwright.async_api import Browser
from tqdm import tqdm
from where import commit, date, machine

from daemon.demo.broker import free_port
from stream.train.film import film
from stream.train.script import Style
from stream.train.world import Street
from tests.web.browsing import browsing

FILM_S = 24.0
STREETS = {"door": 10, "yard": 13}  # camera -> seed; both have a gate that opens and closes
STYLE = Style(lights=("day",), weather=False, fixtures=("gate", "light"))
START_S = 120.0
SETTLE_S = 15.0  # of watching, so that memory and timeline hold something
FOLLOW_S = 10.0  # as in app.js
LOOK_S = 2.0  # what a page fetches after it was painted
PAGE = ("Document", "Stylesheet", "Script")
PAINT_LIMIT_MS, PAGE_LIMIT_BYTES, CPU_LIMIT = 300.0, 150_000, 0.10


@contextmanager
def daemon(folder: Path, **more: Any) -> Iterator[tuple[str, psutil.Process]]:
    """A running daemon: its address and its process. No broker: that is tried again for ever and costs nothing.

    `more`: sections of its configuration.
    """
    cameras: dict[str, Any] = {}
    for name, seed in STREETS.items():
        film(Street(seed, FILM_S, STYLE), folder / f"{name}.mp4")
        cameras[name] = {"url": str(folder / f"{name}.mp4")}
    port = free_port()
    raw: dict[str, Any] = {"cameras": cameras, "archive": {"folder": str(folder / "memory")}, "http": {"port": port}}
    raw["mqtt"] = {"port": free_port()}
    raw["watch"] = {"gate_open": {"question": "is the gate open?"}, "person": {"question": "is there a person?"}}
    raw |= more
    config = folder / "longwatch.yaml"
    config.write_text(yaml.safe_dump(raw), encoding="utf-8")
    command = [sys.executable, "-m", "daemon", "run", "-c", str(config)]
    with (folder / "log").open("w") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{port}", psutil.Process(child.pid)
    finally:
        child.terminate()
        child.wait(30)


async def ready(url: str) -> None:
    """Every camera has a picture."""
    async with httpx2.AsyncClient(base_url=url, trust_env=False) as client:
        for _ in range(int(START_S)):
            with contextlib.suppress(httpx2.HTTPError):
                cameras = (await client.get("/api/v1/cameras")).json()["cameras"]
                if all(item["picture"] for item in cameras):
                    return
            await asyncio.sleep(1)
    raise SystemExit(f"the daemon at {url} shows no pictures after {START_S:g} s")


# -- first paint -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Load:
    """One load of the page by a browser that knows nothing of it."""

    paint_ms: float = 0.0
    kinds: dict[str, str] = field(default_factory=dict)  # of requests
    bytes: dict[str, int] = field(default_factory=dict)  # by kind


async def load(browser: Browser, url: str) -> Load:
    """Open the page and look at it for a moment."""
    found, context = Load(), await browser.new_context()
    page = await context.new_page()
    wire = await context.new_cdp_session(page)

    def began(event: dict[str, Any]) -> None:
        found.kinds[event["requestId"]] = event["type"]

    def ended(event: dict[str, Any]) -> None:
        kind = found.kinds.get(event["requestId"], "")
        found.bytes[kind] = found.bytes.get(kind, 0) + int(event["encodedDataLength"])

    wire.on("Network.responseReceived", began)
    wire.on("Network.loadingFinished", ended)
    await wire.send("Network.enable")
    await page.goto(url)
    await page.wait_for_function("() => performance.getEntriesByName('first-contentful-paint').length")
    found.paint_ms = await page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    await page.wait_for_timeout(1000 * LOOK_S)
    await context.close()
    return found


# -- viewers -----------------------------------------------------------------------------------------------------------


class Viewer:
    """An open page."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client
        self._pictures: dict[str, str] = {}
        self._keyframes = set[str]()
        self.requests = 0

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            group.create_task(self._listen(group))

    async def _get(self, path: str) -> Any:
        self.requests += 1
        try:
            return await self._client.get(path)
        except httpx2.RemoteProtocolError:  # a kept connection that the server just closed: a browser asks again too
            return await self._client.get(path)

    async def _listen(self, group: asyncio.TaskGroup) -> None:
        async with self._client.stream("GET", "/api/v1/events", timeout=60.0) as reply:
            kind = ""
            async for line in reply.aiter_lines():
                key, _, value = line.partition(": ")
                kind = value if key == "event" else kind
                if key == "data" and kind == "camera":
                    state = json.loads(value)
                    if state["picture"] and self._pictures.get(state["camera"]) != state["picture"]:
                        self._pictures[state["camera"]] = state["picture"]
                        group.create_task(self._get(f"/api/v1/cameras/{state['camera']}/snapshot.jpg"))

    async def _follow(self) -> None:
        while True:
            until_s = time.time()
            query = f"since={until_s - 3600:.3f}&until={until_s:.3f}&resolution=240"
            data = (await self._get(f"/api/v1/cameras/door/timeline?{query}")).json()
            await self._get(f"/api/v1/diary?camera=door&since={until_s - 3600:.3f}&until={until_s:.3f}")
            await self._get("/api/v1/watch")
            pictures = {item["picture"] for item in data["keyframes"]}
            for path in sorted(pictures - self._keyframes):  # the others are shown already
                await self._get(path)
            self._keyframes = pictures
            await asyncio.sleep(FOLLOW_S)


@asynccontextmanager
async def viewers(url: str, count: int) -> AsyncIterator[list[Viewer]]:
    """So many of them, begun evenly over the time between two looks at the timeline."""
    async with contextlib.AsyncExitStack() as stack:
        found, tasks = list[Viewer](), list[asyncio.Task[None]]()
        for _ in range(count):
            client = await stack.enter_async_context(httpx2.AsyncClient(base_url=url, timeout=30.0, trust_env=False))
            found.append(Viewer(client))
            tasks.append(asyncio.create_task(found[-1].run()))
            await asyncio.sleep(FOLLOW_S / count)
        try:
            yield found
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        if any(not isinstance(item, asyncio.CancelledError) for item in ended):
            raise SystemExit(f"a viewer ended early: {ended}")


def cpu_s(process: psutil.Process) -> float:
    """CPU that a process has used so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


async def share(process: psutil.Process, seconds: float) -> float:
    """Of one core, over so many seconds."""
    began_s, used_s = time.monotonic(), cpu_s(process)
    await asyncio.sleep(seconds)
    return (cpu_s(process) - used_s) / (time.monotonic() - began_s)


# -- all of it ---------------------------------------------------------------------------------------------------------


async def measure(url: str, process: psutil.Process, arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything, one after the other."""
    await ready(url)
    await asyncio.sleep(SETTLE_S)
    async with browsing() as browser:
        await load(browser, url)  # the browser's own first steps
        loads = [await load(browser, url) for _ in tqdm(range(arguments.loads), desc="loads", disable=None)]
    alone, watched, requests = list[float](), list[float](), 0
    for _ in tqdm(range(arguments.rounds), desc="rounds", disable=None):
        alone.append(await share(process, arguments.seconds))
        async with viewers(url, arguments.viewers) as open_pages:
            before = sum(item.requests for item in open_pages)
            watched.append(await share(process, arguments.seconds))
            requests += sum(item.requests for item in open_pages) - before
    page = max(sum(item.bytes.get(kind, 0) for kind in PAGE) for item in loads)
    return {
        "first_paint_ms_p50": round(statistics.median(item.paint_ms for item in loads), 1),
        "first_paint_ms": sorted(round(item.paint_ms, 1) for item in loads),
        "page_bytes": page,
        "with_data_bytes": max(sum(item.bytes.values()) for item in loads),
        "viewers": arguments.viewers,
        "cpu_alone": round(statistics.mean(alone), 4),
        "cpu_watched": round(statistics.mean(watched), 4),
        "cpu_viewers": round(statistics.mean(watched) - statistics.mean(alone), 4),
        "requests_per_s": round(requests / (arguments.seconds * arguments.rounds), 1),
    }


def show(result: dict[str, Any]) -> None:
    """As a table, against the limits."""
    viewers_name = f"{result['viewers']} viewers, of one core"
    print(f"{'':28} {'measured':>12} {'limit':>12}")
    print(f"{'first paint, median':28} {result['first_paint_ms_p50']:9.0f} ms {PAINT_LIMIT_MS:9.0f} ms")
    print(f"{'page':28} {result['page_bytes'] / 1000:9.1f} kB {PAGE_LIMIT_BYTES / 1000:9.1f} kB")
    print(f"{'with data':28} {result['with_data_bytes'] / 1000:9.1f} kB")
    print(f"{viewers_name:28} {100 * result['cpu_viewers']:9.1f}  % {100 * CPU_LIMIT:9.1f}  %")
    print(f"{'the daemon without them':28} {100 * result['cpu_alone']:9.1f}  %")
    print(f"{'requests':28} {result['requests_per_s']:9.1f} /s")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--loads", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=2 * FILM_S, help="of each measurement of the CPU")
    parser.add_argument("--rounds", type=int, default=2, help="of it without and with viewers")
    parser.add_argument("--viewers", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="3 loads, 12 s, one round")
    parser.add_argument("--out", type=Path, help="write the result there too")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.loads, arguments.seconds, arguments.rounds = 3, 12.0, 1
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder, daemon(Path(folder)) as (url, process):
        result = asyncio.run(measure(url, process, arguments))
    show(result)
    about = {"machine": machine(), "load_before": round(load_before, 2), "commit": commit(), "date": date()}
    line = json.dumps({"bench": "web", **result, **about})
    print(line)
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(line + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
