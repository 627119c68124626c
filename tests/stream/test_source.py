"""A camera's thread: every fault is noticed, named, counted and survived."""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stream.capture import CaptureConfig, Picture, open_capture, probe
from stream.doze import OFF
from stream.errors import CameraError, CameraTimeout, NoVideo
from stream.gate import make
from stream.intake import FileTime, Intake, judged_file, read_file
from stream.picture import Scaler
from stream.sight import Sight
from stream.source import Backoff, Source, SourceConfig, StateChange, Surroundings
from stream.types import NO_THUMBNAIL, Frame
from tests.fakes import FakeClock, FakeOpener, make_audio, make_video, picture

SIZE = (48, 48)
SECRET = "rtsp://admin:hunter2@10.0.0.9/live"
DAMAGED = Picture(0.0, None)


class Watch:
    """What a source reported."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.changes: list[StateChange] = []

    @property
    def states(self) -> list[tuple[str, str]]:
        return [(change.state, change.reason) for change in self.changes]

    def seen(self, *wanted: tuple[str, str]) -> Callable[[], bool]:
        """Whether all of `wanted` were reported, in this order."""

        def check() -> bool:
            states = iter(self.states)
            return all(want in states for want in wanted)

        return check


def until(condition: Callable[[], bool], limit_s: float = 10.0) -> None:
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s, "did not happen in time"
        time.sleep(0.005)


@contextmanager
def running(
    url: str = SECRET, opener: FakeOpener | None = None, gate: str = "all", **options: object
) -> Iterator[tuple[Source, Watch]]:
    """A started source on its way; always stopped, and its sums always checked."""
    watch = Watch()
    config = SourceConfig("cam", url, SIZE, **options)  # type: ignore[arg-type]
    around = Surroundings(rng=random.Random(0), opener=opener or open_capture, first_backoff_s=0.02)
    source = Source(config, make([{gate: {}}]), watch.frames.append, watch.changes.append, around)
    source.start()
    try:
        yield source, watch
    finally:
        assert source.stop(10.0)
    stats = source.stats()
    assert stats.frames_in == stats.kept + sum(stats.skipped.values())
    assert stats.kept == len(watch.frames)


FAULTS = [
    pytest.param([picture(0)], "ended", id="camera closes: ends without an exception"),
    pytest.param([picture(0), CameraTimeout("no packet")], "frozen", id="frozen"),
    pytest.param([picture(0), CameraError("broke", "ended")], "ended", id="connection breaks"),
    pytest.param([DAMAGED, DAMAGED], "no_video", id="nothing decodable"),
    pytest.param([], "no_video", id="no frame at all"),
    pytest.param(CameraError("refused", "refused"), "refused", id="refused"),
    pytest.param(CameraError("password", "unauthorized"), "unauthorized", id="wrong password"),
    pytest.param(CameraError("no route"), "unreachable", id="unreachable"),
    pytest.param([picture(0), ValueError("a bug")], "crashed", id="our own bug"),
]


@pytest.mark.parametrize(("script", "reason"), FAULTS)
def test_every_fault_is_announced_and_the_camera_comes_back(script: object, reason: str) -> None:
    hold = threading.Event()
    good = [*[picture(at) for at in range(5)], lambda: hold.wait(5)]
    with running(opener=FakeOpener(script, good)) as (source, watch):  # type: ignore[arg-type]
        until(
            watch.seen(("connecting", "start"), ("offline", reason), ("connecting", "reconnect"), ("online", "frames"))
        )
        until(lambda: source.stats().last_wall_s is not None and len(watch.frames) >= 5)
        assert source.stats().reconnects == 1
        assert source.stats().crashes == (reason == "crashed")
        hold.set()
    assert watch.states[-1] == ("offline", "stopped")
    assert [frame.segment for frame in watch.frames][-1] == 1
    assert not [change for change in watch.changes if "hunter2" in change.detail]


def test_frames_are_scaled_numbered_stamped_and_carry_evidence() -> None:
    with running(opener=FakeOpener([picture(0), DAMAGED, picture(2), picture(3, size=(128, 640))])) as (source, watch):
        until(watch.seen(("offline", "ended")))
        stats = source.stats()
    first, second, third = watch.frames[:3]
    assert [frame.index for frame in (first, second, third)] == [0, 2, 3]
    assert first.image.shape == (*SIZE, 3)
    assert first.image.dtype == np.uint8
    assert first.pts_s == 0.0 < second.pts_s
    assert first.wall_s < second.wall_s < third.wall_s <= time.time()
    assert Image.open(BytesIO(first.jpeg)).size == (96, 64)
    assert Image.open(BytesIO(third.jpeg)).size == (320, 64)  # aspect kept, resolution changed in mid-stream
    assert (stats.info.width, stats.info.height, stats.corrupt) == (640, 128, 1)


@pytest.mark.parametrize("lazy", [True, False])
def test_evidence_is_encoded_once_and_only_when_it_is_read(lazy: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = []
    monkeypatch.setattr("stream.picture.jpeg", lambda image: encoded.append(image.shape) or b"jpeg")
    intake = Intake("cam", SIZE, make([]), thrift=replace(OFF, lazy_thumbnails=lazy))
    frame = intake.accept(picture(0), FileTime(0.0, 0.1).stamp)
    assert frame is not None
    assert frame.thumbnail
    assert len(encoded) == (not lazy)
    assert [frame.jpeg, frame.jpeg] == [b"jpeg"] * 2
    assert encoded == [(64, 96, 3)]
    assert not NO_THUMBNAIL
    assert NO_THUMBNAIL.read() == b""


def test_only_what_somebody_looks_at_is_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty pictures a second for two seconds: the gate wants two of them, and `sight` two a second."""
    scaled = []
    rgb = Scaler.rgb
    monkeypatch.setattr(Scaler, "rgb", lambda self, frame: scaled.append(frame.pts) or rgb(self, frame))
    shots = [picture(0, at / 20) for at in range(40)]
    for sight, thrift, expected in ((None, OFF, 2), (Sight(), OFF, 40), (Sight(), replace(OFF, look_fps=2.0), 4)):
        scaled.clear()
        intake = Intake("cam", SIZE, make([{"stride": {"fps": 1}}]), sight=sight, thrift=thrift)
        stamp = FileTime(0.0, 0.05).stamp
        assert [shot.pts_s for shot in shots if intake.accept(shot, stamp) is not None] == [0.0, 1.0]
        assert len(scaled) == expected
        assert (intake.frames_in, intake.kept, dict(intake.skipped)) == (40, 2, {"stride": 38})


def test_only_kept_frames_get_evidence_and_skips_are_counted() -> None:
    watch, clock = Watch(), FakeClock()
    script = [*[picture(0, at / 10) for at in range(10)]]
    config = SourceConfig("cam", SECRET, SIZE)
    around = Surroundings(clock=clock, rng=random.Random(0), opener=FakeOpener(script))
    source = Source(config, make([{"still": {}}]), watch.frames.append, watch.changes.append, around)
    source.start()
    until(watch.seen(("offline", "ended")))
    assert source.stop()
    assert dict(source.stats().skipped) == {"still": source.stats().frames_in - 1}
    assert len(watch.frames) == 1


def test_sender_of_undecodable_packets_is_frozen() -> None:
    script = [picture(0), *[part for _ in range(200) for part in (lambda: time.sleep(0.01), DAMAGED)]]
    with running(opener=FakeOpener(script), stale_after_s=0.2) as (_, watch):
        until(watch.seen(("online", "frames"), ("offline", "frozen"), ("online", "frames")))


def test_watchdog_covers_a_hang_inside_ffmpeg() -> None:
    hold = threading.Event()
    with running(opener=FakeOpener([picture(0), lambda: hold.wait(5), picture(1), picture(2)]), stale_after_s=0.1) as (
        source,
        watch,
    ):
        until(watch.seen(("online", "frames")))
        assert not source.watchdog()
        until(source.watchdog)
        assert (source.stats().state, source.stats().reason) == ("offline", "frozen")
        assert not source.watchdog()  # said once
        hold.set()
        until(watch.seen(("offline", "frozen"), ("online", "frames")))


def test_stop_is_bounded_when_the_camera_hangs() -> None:
    hold = threading.Event()
    watch = Watch()
    around = Surroundings(opener=FakeOpener([picture(0), lambda: hold.wait(5)]))
    source = Source(SourceConfig("cam", SECRET, SIZE), make([]), watch.frames.append, None, around)
    assert source.stop()  # never started
    source = Source(SourceConfig("cam", SECRET, SIZE), make([]), watch.frames.append, watch.changes.append, around)
    source.start()
    until(watch.seen(("online", "frames")))
    begin_s = time.monotonic()
    assert not source.stop(0.1)
    assert time.monotonic() - begin_s < 1
    hold.set()
    assert source.stop(5)


def test_callback_that_raises_costs_a_reconnect_only() -> None:
    calls = []

    def sink(frame: Frame) -> None:
        calls.append(frame)
        if len(calls) == 1:
            raise RuntimeError(f"cannot take {SECRET}")

    around = Surroundings(opener=FakeOpener([picture(0), picture(1)]), first_backoff_s=0.01)
    with structlog.testing.capture_logs() as logs:
        source = Source(SourceConfig("cam", SECRET, SIZE), make([]), sink, None, around)
        source.start()
        until(lambda: len(calls) > 3)
        assert source.stop()
    assert source.stats().crashes == 1
    crash = next(line for line in logs if line["log_level"] == "error")
    assert "cannot take" in crash["traceback"]
    assert "hunter2" not in str(logs)


def test_backoff_grows_jittered_and_resets_after_a_healthy_minute() -> None:
    backoff = Backoff(random.Random(1))
    pauses_s = [backoff.next_s(59.0) for _ in range(12)]
    for at, pause_s in enumerate(pauses_s):
        base_s = min(30.0, 0.5 * 2**at)
        assert base_s / 2 <= pause_s <= base_s
    assert len(set(pauses_s[-4:])) == 4
    assert backoff.next_s(60.0) <= 0.5


def test_fps_is_measured_and_decays() -> None:
    clock = FakeClock()
    script = [part for at in range(50) for part in (lambda: clock.move(0.1), picture(at))]
    hold = threading.Event()
    around = Surroundings(clock=clock, opener=FakeOpener([*script, lambda: hold.wait(5)]))
    frames: list[Frame] = []
    source = Source(SourceConfig("cam", SECRET, SIZE), make([]), frames.append, None, around)
    source.start()
    until(lambda: len(frames) == 50)
    assert source.stats().fps == pytest.approx(10, abs=0.5)
    clock.move(60)
    assert source.stats().fps == 0
    assert source.stats().stale(clock.monotonic_s(), 9.0)
    hold.set()
    assert source.stop()


# --- files -----------------------------------------------------------------------------------------------------------


def test_file_once_finishes(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=12)
    with running(str(path), loop=False, realtime=False) as (source, watch):
        until(lambda: not source.alive)
        assert watch.states == [("connecting", "start"), ("online", "frames"), ("offline", "finished")]
        assert len(watch.frames) == 12
        assert source.stats().info.codec == "h264"


def test_file_loops_with_a_new_segment_and_without_a_disconnect(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=5)
    with running(str(path), realtime=False) as (source, watch):
        until(lambda: len(watch.frames) > 12)
        assert source.stats().reconnects == 0
    assert watch.states == [("connecting", "start"), ("online", "frames"), ("offline", "stopped")]
    assert [(frame.segment, round(frame.pts_s, 3)) for frame in watch.frames[4:7]] == [(0, 0.4), (1, 0.0), (1, 0.1)]
    walls_s = [frame.wall_s for frame in watch.frames]
    assert walls_s == sorted(set(walls_s))


def test_file_plays_at_the_pace_of_its_pts(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=12, fps=20)
    with running(str(path), loop=False) as (source, watch):
        begin_s = time.monotonic()
        until(lambda: not source.alive)
        assert 0.5 < time.monotonic() - begin_s < 3
    assert watch.frames[-1].wall_s - watch.frames[0].wall_s == pytest.approx(0.55, abs=0.2)


def broken(tmp_path: Path) -> dict[str, tuple[Path, str]]:
    whole = make_video(tmp_path / "whole.mp4").read_bytes()
    files = {
        "cut": whole[: len(whole) // 2],
        "empty": b"",
        "text": b"hello, world\n" * 100,
        "noise": bytes(range(256)) * 40,
    }
    paths = {name: tmp_path / f"{name}.mp4" for name in files}
    for name, path in paths.items():
        path.write_bytes(files[name])
    return {
        "cut": (paths["cut"], "unreadable"),
        "empty": (paths["empty"], "no_video"),
        "text": (paths["text"], "unreadable"),
        "noise": (paths["noise"], "unreadable"),
        "audio": (make_audio(tmp_path / "audio.mp4"), "no_video"),
        "missing": (tmp_path / "missing.mp4", "not_found"),
        "folder": (tmp_path, "unreadable"),
    }


def test_wrong_files_are_named(tmp_path: Path) -> None:
    for name, (path, reason) in broken(tmp_path).items():
        with pytest.raises(CameraError, match=str(path)) as caught:
            list(read_file(path, Intake("cam", SIZE, make([]))))
        assert caught.value.reason == reason, name
        assert caught.value.__cause__ is None


def test_wrong_file_does_not_end_the_thread(tmp_path: Path) -> None:
    path = tmp_path / "late.mp4"
    with running(str(path)) as (source, watch):
        until(watch.seen(("offline", "not_found"), ("connecting", "reconnect"), ("offline", "not_found")))
        make_video(path)
        until(watch.seen(("offline", "not_found"), ("online", "frames")), 20)
        assert source.alive


@pytest.mark.parametrize(
    ("size", "codec"), [((2, 2), "ffv1"), ((1, 1), "ffv1"), ((2, 4000), "mpeg4"), ((4320, 7680), "mjpeg")]
)
def test_odd_sizes(tmp_path: Path, size: tuple[int, int], codec: str) -> None:
    def grey(index: int, size: tuple[int, int]) -> np.ndarray:
        return np.full((*size, 3), 120 + index, np.uint8)

    path = tmp_path / "odd.mkv"
    if codec == "mjpeg":
        grey_image = Image.fromarray(grey(0, size))
        grey_image.save(path := tmp_path / "odd.jpg")
    else:
        make_video(path, 3, size=size, codec=codec, draw=grey)
    frames = list(read_file(path, Intake("cam", SIZE, make([]))))
    assert frames[0].image.shape == (*SIZE, 3)
    assert abs(int(frames[0].image.mean()) - 120) < 12
    assert Image.open(BytesIO(frames[0].jpeg)).width == min(320, size[1])


def test_gigantic_picture_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.capture.MAX_PICTURE_PX", 1000)
    with pytest.raises(CameraError, match="96x64"):
        open_capture(CaptureConfig(str(make_video(tmp_path / "a.mp4"))))


def test_read_file_is_deterministic_and_takes_time_from_the_file(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=30)
    runs = [list(read_file(path, Intake("cam", SIZE, make([{"stride": {"fps": 2}}])), 1000.0)) for _ in range(2)]
    assert [frame.wall_s for frame in runs[0]] == pytest.approx([1000.0 + at / 2 for at in range(6)])
    assert all(np.array_equal(a.image, b.image) and a.jpeg == b.jpeg for a, b in zip(*runs, strict=True))
    verdicts = [verdict.reason for _, verdict in judged_file(path, Intake("cam", SIZE, make([{"stride": {"fps": 2}}])))]
    assert (verdicts.count("kept"), verdicts.count("stride")) == (6, 24)


@given(st.lists(st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True, width=32)), max_size=50))
def test_file_time_strictly_increases(pts: list[float | None]) -> None:
    clock = FileTime(100.0, 0.04)
    walls_s = [clock.stamp(pts_s).wall_s for pts_s in pts]
    assert all(a < b for a, b in itertools.pairwise(walls_s) if b < 1e9)


def test_probe_tells_what_the_source_sends(tmp_path: Path) -> None:
    found = probe(str(make_video(tmp_path / "a.mp4", frames=30)), 2.0)
    assert (found.info.codec, found.info.width, found.info.height) == ("h264", 96, 64)
    assert found.fps == pytest.approx(10)
    assert found.keyframe_s == pytest.approx(0.5)
    assert found.corrupt == 0
    with pytest.raises(NoVideo):
        probe(str(make_audio(tmp_path / "a.m4a")))


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(CameraError, match="is a pipe"):
        open_capture(CaptureConfig(str(tmp_path / "pipe.mp4")))
