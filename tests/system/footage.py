"""A full-HD clip, as a camera would send it."""

from __future__ import annotations

from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
from av.video.frame import VideoFrame

from tests.fakes import scene

SIZE = (1920, 1080)  # width, height, px
FPS = 25


def make_full_hd(path: Path, original: Path | None, seconds: float = 6.0) -> Path:
    """1920x1080 at 25 frames/s, H.264 without B-frames: `original` scaled up, or a drawn scene without one."""
    count = round(seconds * FPS)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=Fraction(FPS))
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.options = {"preset": "ultrafast", "crf": "24", "bf": "0", "g": "25"}
        for number, picture in enumerate(_pictures(original, count)):
            full = picture.reformat(*SIZE, format="yuv420p")
            full.pts, full.time_base = number, Fraction(1, FPS)
            out.mux(stream.encode(full))
        out.mux(stream.encode(None))
    return path


def _pictures(original: Path | None, count: int) -> list[VideoFrame]:
    if original is None:
        return [VideoFrame.from_ndarray(scene(index, (360, 640)), format="rgb24") for index in range(count)]
    with av.open(str(original)) as container:
        return list(islice(container.decode(video=0), count))
