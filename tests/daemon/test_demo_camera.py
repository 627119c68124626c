"""Real faults over real RTSP: the demo camera breaks in every way it knows, and a source notices and comes back."""

from __future__ import annotations

import asyncio
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from daemon.demo import camera as demo
from daemon.demo.camera import DemoCamera, obey
from daemon.demo.rtp import load_clip
from stream.capture import probe
from stream.errors import CameraError, NoVideo
from stream.gate import make
from stream.source import Source, SourceConfig, StateChange, Surroundings
from stream.types import Frame
from tests.fakes import make_audio, make_video

NOTICED_S = 12.0  # the promise; with `timeout_s` of 1 it is far less
SIZE = (32, 32)


class Watch:
    """A source with everything it reported."""

    def __init__(self, url: str, **options: object) -> None:
        self.frames: list[Frame] = []
        self.changes: list[StateChange] = []
        config = SourceConfig("cam", url, SIZE, timeout_s=1.0, **options)  # type: ignore[arg-type]
        around = Surroundings(rng=random.Random(0), first_backoff_s=0.05)
        self.source = Source(config, make([]), self.frames.append, self.changes.append, around)

    def until(self, condition: Callable[[], bool], limit_s: float = NOTICED_S) -> float:
        """Wait for `condition`; how long it took, s."""
        begin_s = time.monotonic()
        while not condition():
            assert time.monotonic() - begin_s < limit_s, [(change.state, change.reason) for change in self.changes]
            time.sleep(0.01)
        return time.monotonic() - begin_s

    def is_now(self, state: str, *reasons: str) -> Callable[[], bool]:
        """Whether the newest announced change is `state` for one of `reasons` (none given: for any)."""
        return lambda: (
            bool(self.changes)
            and self.changes[-1].state == state
            and (not reasons or self.changes[-1].reason in reasons)
        )

    def was(self, reason: str) -> Callable[[], bool]:
        """Whether `reason` was announced at all."""
        return lambda: any(change.reason == reason for change in self.changes)

    def more(self, frames: int) -> Callable[[], bool]:
        """Whether `frames` more frames came since this call."""
        wanted = len(self.frames) + frames
        return lambda: len(self.frames) >= wanted


@contextmanager
def watching(url: str, **options: object) -> Iterator[Watch]:
    """A running source, stopped at the end."""
    watch = Watch(url, **options)
    watch.source.start()
    try:
        yield watch
    finally:
        assert watch.source.stop(8.0)
    stats = watch.source.stats()
    assert stats.crashes == 0
    assert stats.frames_in == stats.kept + sum(stats.skipped.values())


class Process:
    """The demo camera in its own process, to be stopped, killed and told things."""

    def __init__(self, *arguments: str, port: int = 0) -> None:
        command = [sys.executable, "-m", "daemon.demo.camera", *arguments, "--port", str(port)]
        root = Path(__file__).resolve().parents[2]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root)
        line = self.read()
        assert line.startswith("ready rtsp://"), line
        self.url = line.split()[1]
        self.port = int(re.findall(r":(\d+)/", self.url)[0])

    def read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def tell(self, line: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.read()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(5)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two seconds in two sizes."""
    folder = tmp_path_factory.mktemp("clips")
    return {
        "small": make_video(folder / "small.mp4", frames=40, fps=20, size=(64, 96)),
        "large": make_video(folder / "large.mp4", frames=40, fps=20, size=(120, 160)),
    }


class Served:
    """The demo camera on a loop of its own, so that tests may block."""

    def __init__(self, files: dict[str, Path], login: tuple[str, str] | None = None) -> None:
        self.loop = asyncio.new_event_loop()
        self.camera = DemoCamera(files, login=login)
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def __enter__(self) -> Served:
        self.thread.start()
        self.do(self.camera.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self.do(self.camera.__aexit__())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        self.loop.close()

    def do(self, coroutine: object) -> object:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)  # type: ignore[arg-type]

    def tell(self, line: str) -> None:
        assert self.do(obey(self.camera, line)) == f"ok {line}"

    def url(self, login: tuple[str, str] | None = None) -> str:
        return self.camera.url("cam", login)


@pytest.mark.system
def test_killed_camera_ends_and_comes_back(clips: dict[str, Path]) -> None:
    with Process(f"cam={clips['small']}") as process, watching(process.url) as watch:
        watch.until(watch.is_now("online"))
        process.process.kill()
        watch.until(watch.was("ended"))
        watch.until(watch.was("refused"))
        with Process(f"cam={clips['small']}", port=process.port):
            watch.until(watch.is_now("online"))
            watch.until(watch.more(5))
            assert watch.source.stats().reconnects >= 1


@pytest.mark.system
def test_frozen_camera_is_noticed_and_comes_back(clips: dict[str, Path]) -> None:
    with Process(f"cam={clips['small']}") as process, watching(process.url) as watch:
        watch.until(watch.is_now("online"))
        process.process.send_signal(signal.SIGSTOP)
        assert watch.until(watch.was("frozen")) < 2.5
        watch.until(watch.is_now("offline", "unreachable"))  # opening a frozen camera is bounded too
        process.process.send_signal(signal.SIGCONT)
        watch.until(watch.is_now("online"))
        watch.until(watch.more(5))


@pytest.mark.system
def test_process_obeys_lines_and_serves_two_files(clips: dict[str, Path]) -> None:
    with Process(f"cam={clips['small']}", str(clips["large"])) as process:
        assert process.read() == f"ready rtsp://127.0.0.1:{process.port}/large"
        assert process.tell("drop 0") == "ok drop 0"
        assert "known:" in process.tell("explode")
        assert process.tell("switch nothing x.mp4").startswith("failed")
        found = probe(f"rtsp://127.0.0.1:{process.port}/large", 0.5)
        assert (found.info.width, found.info.height) == (160, 120)
        assert process.process.stdin is not None
        process.process.stdin.write("quit\n")
        process.process.stdin.flush()
        assert process.process.wait(5) == 0


def test_damage_is_counted_and_skipped(clips: dict[str, Path]) -> None:
    with Served({"cam": clips["large"]}) as served, watching(served.url()) as watch:
        watch.until(watch.is_now("online"))
        served.tell("garble 3")
        watch.until(lambda: watch.source.stats().corrupt > 2)
        served.tell("garble 0")
        served.tell("drop 3")
        damaged = watch.source.stats().corrupt
        watch.until(lambda: watch.source.stats().corrupt > damaged)
        served.tell("drop 0")
        watch.until(watch.more(20))
        watch.until(watch.is_now("online"))


def test_resolution_change_in_mid_stream(clips: dict[str, Path]) -> None:
    with Served({"cam": clips["small"]}) as served, watching(served.url()) as watch:
        watch.until(lambda: watch.source.stats().info.width == 96)
        served.tell(f"switch cam {clips['large']}")
        watch.until(lambda: watch.source.stats().info.width == 160)
        watch.until(watch.more(10))
        assert watch.source.stats().reconnects == 0
    assert {frame.image.shape for frame in watch.frames} == {(*SIZE, 3)}


def test_wrong_password_is_said_without_saying_it(clips: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    with Served({"cam": clips["small"]}, login=("admin", "geheim")) as served:
        with watching(served.url(("admin", "hunter2"))) as watch:
            watch.until(watch.was("unauthorized"))
        with watching(served.url(("admin", "geheim"))) as right:
            right.until(right.is_now("online"))
            served.do(served.camera.down())
            right.until(right.was("ended"))
    said = "".join([*(change.detail for change in watch.changes + right.changes), *capfd.readouterr()])
    assert "refuses user or password" in said
    assert "hunter2" not in said
    assert "geheim" not in said


def test_pts_jumps_do_not_move_time(clips: dict[str, Path]) -> None:
    with Served({"cam": clips["small"]}) as served, watching(served.url()) as watch:
        watch.until(watch.is_now("online"))
        for jump_s in (3600.0, -7200.0, 2**32 / 90_000):
            served.tell(f"jump {jump_s}")
            watch.until(watch.more(10))
        assert watch.source.stats().reconnects == 0
    walls_s = np.array([frame.wall_s for frame in watch.frames])
    assert (np.diff(walls_s) > 0).all()
    assert np.diff(walls_s).max() < 3
    assert walls_s[-1] <= time.time()
    pts_s = np.array([frame.pts_s for frame in watch.frames])
    assert 0 <= np.diff(pts_s).min() <= np.diff(pts_s).max() < 3


def test_second_client_is_refused_until_the_first_is_gone(clips: dict[str, Path]) -> None:
    with Served({"cam": clips["small"]}) as served:
        served.tell("clients 1")
        with watching(served.url()) as first:
            first.until(first.is_now("online"))
            with watching(served.url()) as second:
                second.until(second.is_now("offline", "unreachable"))
                assert first.source.stop(5)
                second.until(second.is_now("online"))


def test_slow_camera_is_given_up_in_time(clips: dict[str, Path]) -> None:
    with Served({"cam": clips["small"]}) as served:
        served.tell("slow 20")
        with watching(served.url()) as watch:
            assert watch.until(watch.is_now("offline", "unreachable")) < 5
            served.tell("slow 0")
            watch.until(watch.is_now("online"))


def test_freeze_kill_and_power_loss(clips: dict[str, Path]) -> None:
    with Served({"cam": clips["small"]}) as served, watching(served.url()) as watch:
        watch.until(watch.is_now("online"))
        served.tell("freeze")
        watch.until(watch.was("frozen"))
        served.tell("thaw")
        watch.until(watch.is_now("online"))
        served.tell("kill")
        watch.until(watch.was("ended"))
        served.tell("down")
        watch.until(watch.was("refused"))
        served.tell("up")
        watch.until(watch.is_now("online"))


def test_clients_join_at_any_time_and_see_the_same(clips: dict[str, Path]) -> None:
    with Served({"cam": clips["small"]}) as served, watching(served.url()) as first:
        first.until(first.is_now("online"))
        time.sleep(0.13)
        with watching(served.url()) as second:
            second.until(second.more(10))
        assert second.source.stats().corrupt == 0
        first.until(first.more(3))
        assert probe(served.url(), 0.5).fps == pytest.approx(20, abs=4)


def test_unknown_path_is_not_found(clips: dict[str, Path]) -> None:
    with Served({"cam": clips["small"]}) as served, pytest.raises(CameraError) as caught:
        probe(served.camera.url("nothing"), timeout_s=1.0)
    assert caught.value.reason == "not_found"


async def test_slow_client_costs_bounded_memory(
    tmp_path: Path, clips: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    noise = make_video(
        tmp_path / "noise.mp4", 20, 100, (480, 640), draw=lambda _, size: rng.integers(0, 255, (*size, 3), np.uint8)
    )
    monkeypatch.setattr(demo, "MAX_BEHIND_BYTES", 100_000)
    async with DemoCamera({"cam": noise}) as camera:
        reader, writer = await asyncio.open_connection(camera.host, camera.port, limit=1000)
        for line in (
            f"SETUP {camera.url('cam')}/track0 RTSP/1.0\r\nCSeq: 1\r\nTransport: RTP/AVP/TCP;interleaved=0-1",
        ):
            writer.write(f"{line}\r\n\r\nPLAY {camera.url('cam')} RTSP/1.0\r\nCSeq: 2\r\n\r\n".encode())
        await asyncio.sleep(1.5)
        viewer = next(iter(camera._viewers("cam")))
        assert viewer.behind
        biggest = max(sum(map(len, unit.nals)) for unit in load_clip(noise).units)
        assert viewer.writer.transport.get_write_buffer_size() < 100_000 + 20 * biggest  # the first group, and one more
        del reader
        writer.close()


async def test_garbage_does_not_hurt_the_server(clips: dict[str, Path]) -> None:
    rng = random.Random(0)
    async with DemoCamera({"cam": clips["small"]}) as camera:
        for head in (
            b"",
            b"$\x00\x00\x04abcd",
            b"GET / HTTP/1.0\r\n\r\n",
            b"PLAY x RTSP/1.0\r\nCSeq: 1\r\n\r\n",
            b"A" * 70_000,
        ):
            reader, writer = await asyncio.open_connection(camera.host, camera.port)
            writer.write(head + rng.randbytes(100) + b"\r\n\r\n")
            writer.write_eof()
            await asyncio.wait_for(reader.read(), 5)
            writer.close()
        found = await asyncio.to_thread(probe, camera.url("cam"), 0.3)
        assert found.frames > 3


def test_only_h264_can_be_served(tmp_path: Path) -> None:
    with pytest.raises(NoVideo, match=r"H\.264 only"):
        load_clip(make_video(tmp_path / "a.avi", codec="mpeg4"))
    with pytest.raises(NoVideo, match=r"H\.264 only"):
        load_clip(make_audio(tmp_path / "a.m4a"))
    with pytest.raises(CameraError, match="cannot be read"):
        load_clip(tmp_path / "missing.mp4")
    raw = load_clip(make_video(tmp_path / "a.ts"))  # start codes instead of lengths
    assert len(raw.parameter_sets) >= 2
    assert raw.duration_s == pytest.approx(2.0, abs=0.11)
