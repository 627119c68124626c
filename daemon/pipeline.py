"""One short coroutine per thing that goes on for ever. `app.py` builds what they work on and starts them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from daemon.switches import DISABLED
from daemon.wire import CameraState, DaemonStatus
from memory.archive import ArchiveState
from stream import __version__
from stream.schedule import SCHEDULE
from stream.sight import BLIND

if TYPE_CHECKING:
    from daemon.app import App

WATCH_EVERY_S = 1.0
REPORT_EVERY_S = 10.0
SAVE_EVERY_S = 60.0
CLOCK_EVERY_S = 1.0
JUMP_S = 2.0  # a clock that is slewed moves less in a second, one that is set more


async def watch_cameras(app: App) -> None:
    """Declare cameras offline whose picture does not move, and tell the log and the broker."""
    while True:
        for post in app.posts.values():
            post.source.watchdog()
        await asyncio.sleep(WATCH_EVERY_S)


async def report(app: App) -> None:
    """Publish every camera's state and the daemon's status."""
    while True:
        for name in list(app.posts):
            app.link.publish_camera(camera_state(app, name))
        app.keeper.look()
        app.link.publish_status(daemon_status(app))
        await asyncio.sleep(REPORT_EVERY_S)


async def publish_snapshots(app: App) -> None:
    """Publish each camera's newest kept picture, when there is a new one."""
    sent: dict[str, int] = {}
    while True:
        every_s = app.settings.snapshot_every_s  # a reload may change it; 0 publishes none
        for name, post in list(app.posts.items()) if every_s else ():
            frame = post.newest
            if frame is not None and frame.thumbnail and sent.get(name) != frame.index:
                before = app.erasures
                jpeg = await asyncio.to_thread(frame.thumbnail.read)
                if app.erasures != before:
                    continue  # it may just have been erased
                sent[name], post.shown_s = frame.index, frame.wall_s
                app.link.publish_camera(camera_state(app, name), jpeg)
        await asyncio.sleep(every_s or REPORT_EVERY_S)


async def save_banks(app: App) -> None:
    """Have every bank on disk, at most a minute old."""
    while True:
        await asyncio.sleep(SAVE_EVERY_S)
        await asyncio.to_thread(app.keeper.save)


async def watch_clock(app: App) -> None:
    """Say when somebody sets the clock: times in answers are what it said."""
    offset_s = time.time() - time.monotonic()
    while True:
        await asyncio.sleep(CLOCK_EVERY_S)
        now_s = time.time() - time.monotonic()
        if abs(now_s - offset_s) > JUMP_S:
            app.counters.count("clock_jumps")
            app.log.warning("the clock was set", by_s=round(now_s - offset_s, 1))
        offset_s = now_s


def camera_state(app: App, name: str) -> CameraState:
    """What is published of one camera."""
    post, now_s = app.posts[name], time.time()
    stats, mail = post.source.stats(), post.mailbox.counts()
    carriers, from_s, to_s = app.engine.snapshot().get(name, (0, None, None))
    online = stats.state == "online" and name not in app.switches.off
    blind = online and stats.reason in BLIND  # it sends, but shows nothing
    paused = paused_by(app, name)
    return CameraState(
        camera=name,
        state="paused" if paused else "degraded" if blind else "online" if online else "offline",
        reason=paused or (app.gaps.reason(name) or stats.reason if blind or not online else ""),
        at=now_s,
        newest_age_s=None if stats.alive_wall_s is None else max(0.0, now_s - stats.alive_wall_s),
        fps=round(stats.fps, 2),
        frames_in=stats.frames_in,
        frames_kept=stats.kept - mail.dropped,
        frames_skipped=sum(stats.skipped.values()),
        frames_dropped=mail.dropped,
        frames_corrupt=stats.corrupt,
        reconnects=stats.reconnects,
        carriers=carriers,
        memory_from=from_s,
        memory_to=to_s,
    )


def paused_by(app: App, name: str) -> str:
    """Why a camera is not watched on purpose: `disabled` or `schedule`; empty when it should be seen."""
    if name in app.switches.off:
        return DISABLED
    stats = app.posts[name].source.stats()
    return SCHEDULE if stats.state == "offline" and stats.reason == SCHEDULE else ""


def daemon_status(app: App) -> DaemonStatus:
    """What is published of the whole daemon."""
    states = [camera_state(app, name) for name in app.posts]
    outbox, times = app.link.outbox, app.counters.snapshot()
    archive = app.keeper.state() or ArchiveState()
    return DaemonStatus(
        version=__version__,
        model=app.core.model.geometry.name,
        at=time.time(),
        uptime_s=round(time.monotonic() - app.started_s, 1),
        cameras_online=sum(1 for state in states if state.state in ("online", "degraded")),
        cameras_paused=sum(1 for state in states if state.state == "paused"),
        cameras_total=len(states),
        queue_depth=app.engine.queued,
        answered=app.answered,
        frames_kept=sum(state.frames_kept for state in states),
        absorb_ms_p50=times.get("absorb_ms{q=0.5}"),
        first_token_ms_p50=times.get("first_token_ms{q=0.5}"),
        first_token_ms_p95=times.get("first_token_ms{q=0.95}"),
        archive_ok=archive.ok,
        archive_reason=archive.reason,
        archive_bytes=archive.bytes,
        archived=archive.written,
        archive_dropped=archive.dropped,
        mqtt_reconnects=max(0, app.link.state.connections - 1),
        mqtt_waiting=len(outbox),
        mqtt_dropped=outbox.dropped,
        mqtt_lost=outbox.lost,
    )
