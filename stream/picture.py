"""From a decoded frame to the model's picture and to the evidence picture, both scaled inside libswscale.

The model's picture is stretched to the model's size: the aspect ratio is NOT kept. A letterbox would spend visual
tokens on black bars, and a crop would not see the edge of the scene. Evidence is for people and keeps its aspect.
What `mask.py` hides is grey in both; there is no other way from a decoded frame to a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from io import BytesIO

import av.error
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from PIL import Image

from stream.errors import CameraError
from stream.mask import Masks, Polygon
from stream.types import Thumbnail

EVIDENCE_WIDTH_PX = 320
_JPEG_QUALITY = 80


class Scaler:
    """One camera's scaler to (H, W) = `size`. Not thread-safe; adapts when the source changes its resolution."""

    def __init__(self, size: tuple[int, int], masks: Sequence[Polygon] = ()) -> None:
        height, width = size
        if height < 1 or width < 1:
            raise ValueError(f"picture size must be at least 1x1 px, got {height}x{width}")
        self.size = size
        self._masks = Masks(masks)
        self._model = VideoReformatter()  # each keeps its swscale context: one per target size
        self._evidence = VideoReformatter()

    def rgb(self, frame: VideoFrame) -> np.ndarray:
        """`frame` as uint8 RGB [H, W, 3], owned by the caller. Raises CameraError when it cannot be scaled."""
        return self._masks.cover(_reformat(self._model, frame, self.size), (frame.height, frame.width))

    def shown(self, image: np.ndarray, frame: VideoFrame) -> np.ndarray | None:
        """Of `rgb(frame)` what is not masked, for who judges a picture as a whole; None when all of it is."""
        return self._masks.shown(image, (frame.height, frame.width))

    def thumbnail(self, frame: VideoFrame, width_px: int = EVIDENCE_WIDTH_PX) -> Thumbnail:
        """`frame` at most `width_px` wide and with its own aspect ratio; a JPEG when read. Raises CameraError.

        It is scaled at once: a full picture would keep megabytes of the decoder's memory.
        """
        width = min(width_px, frame.width)
        height = max(1, round(frame.height * width / frame.width))
        scaled = _reformat(self._evidence, frame, (height, width))
        return Thumbnail(partial(jpeg, self._masks.cover(scaled, (frame.height, frame.width))))


def jpeg(image: np.ndarray) -> bytes:
    """uint8 RGB [H, W, 3] as JPEG."""
    out = BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=_JPEG_QUALITY)
    return out.getvalue()


def _reformat(reformatter: VideoReformatter, frame: VideoFrame, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    shrinks = frame.width > width and frame.height > height
    how = Interpolation.AREA if shrinks else Interpolation.BILINEAR
    try:
        scaled = reformatter.reformat(frame, width, height, "rgb24", interpolation=how, threads=1)
        return scaled.to_ndarray()
    except (OSError, ValueError, av.error.FFmpegError) as error:
        text = f"picture of {frame.width}x{frame.height} px {frame.format.name} cannot be scaled to {width}x{height}"
        raise CameraError(f"{text} ({error.__class__.__name__})", "unreadable") from None
