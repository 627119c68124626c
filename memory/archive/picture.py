"""A frame's JPEG -> the small one that is kept."""

from __future__ import annotations

import io

from PIL import Image, UnidentifiedImageError

QUALITY = 60


def thumbnail(jpeg: bytes, width_px: int) -> bytes | None:
    """At most `width_px` wide; one that is small enough already is kept as it is. None: Pillow cannot read it."""
    try:
        with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as picture:
            if picture.width <= width_px:
                picture.verify()
                return jpeg
            height_px = max(1, round(picture.height * width_px / picture.width))
            picture.draft("RGB", (width_px, height_px))
            small = picture.convert("RGB").resize((width_px, height_px), Image.Resampling.BILINEAR, reducing_gap=2.0)
            target = io.BytesIO()
            small.save(target, "JPEG", quality=QUALITY, optimize=False)
            return target.getvalue()
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError):
        return None
