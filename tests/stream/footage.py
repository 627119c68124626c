"""Cameras of many kinds as files: a still scene with a sensor's noise, and something that passes."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

FPS = 10
SIZE = (192, 320)  # height, width, px


@dataclass(frozen=True)
class Encoder:
    """How a camera codes: an encoder of libav and its options."""

    codec: str
    options: dict[str, str] = field(default_factory=dict)
    suffix: str = ".mp4"


X264 = {"preset": "veryfast", "crf": "23"}
ENCODERS = {
    "h264": Encoder("libx264", {**X264, "g": "10", "bf": "0"}),
    "h264 with B-frames": Encoder("libx264", {**X264, "g": "10", "bf": "3", "b-pyramid": "normal", "b-adapt": "0"}),
    "h264 with open groups": Encoder(
        "libx264", {**X264, "g": "10", "bf": "3", "b-adapt": "0", "x264-params": "open-gop=1:scenecut=0"}
    ),
    "h264 at a constant bit rate": Encoder(
        "libx264", {"preset": "veryfast", "b:v": "300k", "maxrate": "300k", "bufsize": "60k", "g": "10", "bf": "0"}
    ),
    "h264 refreshed in columns": Encoder("libx264", {**X264, "g": "10", "bf": "0", "intra-refresh": "1"}),
    "h264 with a key frame a minute": Encoder("libx264", {**X264, "g": "600", "bf": "0"}),
    "h265": Encoder("libx265", {"preset": "ultrafast", "x265-params": "keyint=10:bframes=0:log-level=none:pools=1"}),
    "h265 with open groups": Encoder(
        "libx265", {"preset": "ultrafast", "x265-params": "keyint=10:bframes=3:open-gop=1:log-level=none:pools=1"}
    ),
    "mpeg4 with B-frames": Encoder("mpeg4", {"g": "10", "bf": "2", "q:v": "4"}),
    "mjpeg": Encoder("mjpeg", {"q:v": "4"}, ".avi"),
}


def scene(at_s: float, passes: tuple[float, float] | None, rng: np.random.Generator, noise: float) -> np.ndarray:
    """A wall with a pattern; between the times `passes` a person of a tenth of its height walks by. uint8 [H, W, 3]."""
    height, width = SIZE
    image = np.kron(np.random.default_rng(7).uniform(60, 180, (12, 20)), np.ones((height // 12, width // 20)))
    if passes is not None and passes[0] <= at_s < passes[1]:
        left = int((width - 12) * (at_s - passes[0]) / (passes[1] - passes[0]))
        image[80:104, left : left + 10] = 20
    image = image + rng.normal(0, noise, image.shape) if noise else image
    return np.repeat(np.clip(image, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def record(
    path: Path,
    how: Encoder,
    seconds: float,
    passes: tuple[float, float] | None = None,
    noise: float = 1.5,
    fps: int = FPS,
    fault: tuple[str, float] | None = None,
) -> Path:
    """The scene as a file; `path` gets the suffix that the codec needs. `fault`: from then on `black` or `frozen`."""
    path = path.with_suffix(how.suffix)
    rng = np.random.default_rng(0)
    image = np.zeros((*SIZE, 3), np.uint8)
    with av.open(str(path), "w") as out:
        stream = out.add_stream(how.codec, rate=Fraction(fps))
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuvj420p" if how.codec == "mjpeg" else "yuv420p"
        stream.options = dict(how.options)
        for number in range(round(seconds * fps)):
            kind, from_s = fault or ("", seconds)
            if number / fps < from_s:
                image = scene(number / fps, passes, rng, noise)
            elif kind == "black":
                image = np.zeros_like(image)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path
