"""Tiny videos and cameras for tests: made on the spot, a few kilobytes each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import av
import numpy as np
import pytest

from stream.capture import Capture, CaptureConfig, Picture, VideoInfo, VideoPacket
from stream.types import Frame

CLIPS = Path(__file__).resolve().parents[2] / "shared" / "videos"
needs_clips = pytest.mark.skipif(not (CLIPS / "manifest.json").exists(), reason="the real clips are not here")


def scene(index: int, size: tuple[int, int] = (64, 96)) -> np.ndarray:
    """A grey gradient with a bright block that moves two pixels a frame; uint8 [H, W, 3]."""
    height, width = size
    image = np.empty((height, width, 3), np.uint8)
    image[:] = np.linspace(60, 120, width, dtype=np.uint8)[None, :, None]
    left = (index * 2) % max(1, width - 8)
    image[height // 3 : height // 3 + 12, left : left + 8] = 230
    return image


def make_video(
    path: Path,
    frames: int = 20,
    fps: int = 10,
    size: tuple[int, int] = (64, 96),
    codec: str = "libx264",
    draw: Callable[[int, tuple[int, int]], np.ndarray] = scene,
) -> Path:
    """Write `frames` pictures to `path` with a key frame every half second; returns `path`."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=fps)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p" if codec != "ffv1" else "bgr0"
        stream.codec_context.gop_size = max(1, fps // 2)
        if codec == "libx264":
            stream.options = {"preset": "ultrafast", "tune": "zerolatency", "crf": "20"}
        for index in range(frames):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(draw(index, size), format="rgb24")))
        out.mux(stream.encode(None))
    return path


def make_audio(path: Path) -> Path:
    """A file with a second of silence and no picture."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=16000, layout="mono")
        for _ in range(16):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate = 16000
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def as_frame(image: np.ndarray, wall_s: float, index: int = 0) -> Frame:
    """`image` as a gate sees it."""
    return Frame("cam", index, 0, wall_s, wall_s, image)


def picture(index: int, pts_s: float | None = None, size: tuple[int, int] = (64, 96)) -> Picture:
    """A decoded frame out of nothing."""
    return Picture(index / 10 if pts_s is None else pts_s, av.VideoFrame.from_ndarray(scene(index, size), "rgb24"))


class FakeClock:
    """A clock that stands still until told to move; `skew_s` sets only the wall clock."""

    def __init__(self, wall_s: float = 1_700_000_000.0) -> None:
        self.now_s = 0.0
        self.skew_s = wall_s

    def wall_s(self) -> float:
        return self.now_s + self.skew_s

    def monotonic_s(self) -> float:
        return self.now_s

    def move(self, by_s: float) -> None:
        self.now_s += by_s


@dataclasses.dataclass
class FakeCapture:
    """An opened source that plays a list: pictures are given out, exceptions raised, callables called."""

    script: Sequence[Picture | Exception | Callable[[], object]]
    info: VideoInfo = dataclasses.field(default_factory=lambda: VideoInfo("fake", 96, 64, 10.0))
    closed: bool = False

    def packets(self) -> Iterator[VideoPacket]:
        for item in self.script:
            if isinstance(item, Picture):
                yield VideoPacket(item.pts_s, 1000, key=True, raw=item)
            elif isinstance(item, Exception):
                raise item
            else:
                item()

    def decode(self, packet: VideoPacket) -> list[Picture]:
        assert isinstance(packet.raw, Picture)
        return [packet.raw]

    def drain(self) -> list[Picture]:
        return []

    def close(self) -> None:
        self.closed = True


class FakeOpener:
    """Opens one script after the other; the last one again and again. An exception as a script fails to open."""

    def __init__(self, *scripts: Sequence[Picture | Exception | Callable[[], object]] | Exception) -> None:
        self.scripts = list(scripts)
        self.opened: list[FakeCapture] = []

    def __call__(self, config: CaptureConfig) -> Capture:
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        if isinstance(script, Exception):
            raise script
        self.opened.append(FakeCapture(script))
        return self.opened[-1]
