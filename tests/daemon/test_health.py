"""Pings stop when a part freezes, and come back with it; over real datagram sockets."""

from __future__ import annotations

import asyncio
import io
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon import logs
from daemon.health import Heartbeats, Notifier, Watchdog, ping_interval_s


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Systemd:
    """The receiving end of sd_notify."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address[0] == "@" else address)
        self._socket.settimeout(0.0)

    def received(self) -> list[str]:
        messages = []
        while True:
            try:
                messages.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return messages

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@longwatch-test-{os.getpid()}"
    server = Systemd(address)
    yield server
    server.close()


def test_messages(systemd: Systemd) -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": systemd.address})
    assert notifier.ready("2 cameras,\nrtsp://u:p@h/x is down")
    assert notifier.reloading(123)
    assert notifier.reloading()
    assert notifier.ping()
    assert notifier.stopping()
    got = systemd.received()
    now_us = time.monotonic_ns() // 1000
    assert got[0] == "READY=1\nSTATUS=2 cameras, rtsp://***@h/x is down"
    assert got[1] == "RELOADING=1\nMONOTONIC_USEC=123"
    assert now_us - 10_000_000 < int(got[2].rpartition("=")[2]) <= now_us
    assert got[3:] == ["WATCHDOG=1", "STOPPING=1"]


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}])
def test_without_systemd_nothing_happens(environ: dict[str, str]) -> None:
    assert not Notifier.from_environment(environ).ready("up")


def test_a_lost_socket_is_no_fault_of_ours(tmp_path: Path) -> None:
    out = io.StringIO()
    control = logs.setup("info", stream=out, style="logfmt", libav=False)
    try:
        assert not Notifier(str(tmp_path / "gone")).ping()
        assert not Notifier("@" + "x" * 200).ping()
    finally:
        control.close()
    assert out.getvalue().count("cannot notify systemd") == 2


@pytest.mark.parametrize(
    ("environ", "interval_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
    ],
)
def test_ping_interval(environ: dict[str, str], interval_s: float | None) -> None:
    assert ping_interval_s(environ) == interval_s


def test_a_frozen_part_stops_the_pings_and_is_named(systemd: Systemd) -> None:
    clock, out = Clock(), io.StringIO()
    control = logs.setup("info", stream=out, style="logfmt", libav=False)
    beats = Heartbeats(clock)
    watchdog = Watchdog(beats, Notifier(systemd.address), interval_s=15.0, status=lambda: "2 cameras", clock=clock)
    beats.register("engine", 60.0)
    beats.register("reader.door", 5.0)

    def pass_time(seconds: float, *movers: str) -> None:
        clock.now_s += seconds
        for name in movers:
            beats.beat(name)

    try:
        pass_time(15, "engine", "reader.door")
        assert watchdog.tick() == []
        pass_time(5, "reader.door")  # moved since the last ping, though longer ago than its allowance
        pass_time(10)
        assert watchdog.tick() == []  # and the engine computes: within its own allowance
        assert systemd.received() == ["WATCHDOG=1\nSTATUS=2 cameras"] * 2
        pass_time(15, "engine")
        stuck = watchdog.tick()
        assert [(part.name, part.silent_s, part.allowed_s) for part in stuck] == [("reader.door", 25.0, 5.0)]
        pass_time(15)
        watchdog.tick()  # still the same: told to systemd again, not logged again
        assert systemd.received() == [f"STATUS=stuck: reader.door silent for {s}.0 s (allowed 5 s)" for s in (25, 40)]
        assert out.getvalue().count("level=error") == 1
        assert "reader.door silent for 25.0 s" in out.getvalue()
        pass_time(15, "reader.door", "engine")
        assert watchdog.tick() == []
        assert systemd.received() == ["WATCHDOG=1\nSTATUS=2 cameras"]
        assert "all parts move again" in out.getvalue()
        pass_time(100, "reader.door")
        assert [part.name for part in watchdog.tick()] == ["engine"]
        beats.remove("engine")
        beats.beat("engine")  # its thread may finish a round
        assert watchdog.tick() == []
        assert list(beats.ages()) == ["reader.door"]
    finally:
        control.close()


def test_a_stuck_part_is_logged_again_after_a_minute(tmp_path: Path) -> None:
    clock, out = Clock(), io.StringIO()
    control = logs.setup("info", stream=out, style="logfmt", libav=False)
    beats = Heartbeats(clock)
    watchdog = Watchdog(beats, Notifier(None), interval_s=None, clock=clock)
    beats.register("engine", 1.0)
    try:
        for _ in range(13):
            clock.now_s += 10.0
            watchdog.tick()
    finally:
        control.close()
    assert out.getvalue().count("engine silent for") == 3


async def heard(systemd: Systemd, start: str) -> None:
    """Wait for a message that begins with `start`."""
    async with asyncio.timeout(20.0):
        while not any(message.startswith(start) for message in systemd.received()):  # noqa: ASYNC110  a socket
            await asyncio.sleep(0.01)


async def test_a_frozen_thread_and_a_frozen_loop(systemd: Systemd) -> None:
    """Real time, real threads: WATCHDOG_USEC of 0.1 s."""
    beats = Heartbeats()
    go, stop = threading.Event(), threading.Event()

    def engine() -> None:
        while not stop.wait(0.01):
            go.wait()
            beats.beat("engine")

    interval_s = ping_interval_s({"WATCHDOG_USEC": "100000"})
    beats.register("engine", 0.5)
    go.set()
    thread = threading.Thread(target=engine)
    thread.start()
    task = asyncio.create_task(Watchdog(beats, Notifier(systemd.address), interval_s=interval_s).run())
    try:
        await heard(systemd, "WATCHDOG=1")
        go.clear()
        await heard(systemd, "STATUS=stuck: engine silent for")
        await asyncio.sleep(0.3)
        assert "WATCHDOG=1" not in systemd.received()
        go.set()
        await heard(systemd, "WATCHDOG=1")
        time.sleep(0.3)  # noqa: ASYNC251  a blocked loop cannot ping: that is the point
        assert systemd.received() == []
    finally:
        stop.set()
        go.set()
        task.cancel()
        thread.join(5.0)
        await asyncio.gather(task, return_exceptions=True)
    assert "loop" not in beats.ages()
