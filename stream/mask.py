"""Parts of a camera's picture that nothing ever sees: hidden in grey before a gate, the model or a person gets it.

Polygons are shares of width and height. What is scaled mixes neighbours, so a pixel is hidden when anything that it
was made of touches a polygon: not one bit of a picture that leaves here depends on what lies inside.

    polygons --once for each pair of sizes--> hidden [H, W] --each picture--> grey there
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Size = tuple[int, int]  # height, width, px
Edge = tuple[tuple[float, float], tuple[float, float]]  # (x, y) of both ends, shares

GREY = 128  # of 255, in all three colours
REACH_PX = 2.0  # of the scaled picture: libswscale lets two pixels in a row share a colour, and filters reach one more
SOURCE_REACH_PX = 8.0  # of the source: two samples of a filter, where four pixels in a row share a colour (yuv410p)
_KNOWN = 8  # rasters held: a camera has two, and may change its resolution


@dataclass(frozen=True, slots=True)
class Polygon:
    """Points (x, y) as shares 0..1 of width and height, from the upper left; closed by itself, filled even-odd.

    `keep`: everything outside is hidden. With several of these, what lies wholly inside one of them is shown; the
    others hide their inside, of that as well.
    """

    points: tuple[tuple[float, float], ...]
    keep: bool = False


@dataclass(frozen=True, slots=True)
class _Raster:
    """The polygons for one pair of sizes, ready to be applied."""

    hidden: np.ndarray  # bool [H, W]
    keep: np.ndarray  # uint8 [H, W, 3]: all bits where it is shown
    grey: np.ndarray  # uint8 [H, W, 3]: GREY where it is not
    square: np.ndarray  # [S * S]: which pixels are shown, the first ones again where they are no square number


class Masks:
    """One camera's polygons. Not thread-safe: they belong to the camera's thread."""

    def __init__(self, polygons: Sequence[Polygon] = ()) -> None:
        self._polygons = tuple(polygons)
        self._rasters: dict[tuple[Size, Size], _Raster] = {}

    def cover(self, image: np.ndarray, source: Size) -> np.ndarray:
        """uint8 RGB [H, W, 3], scaled from a picture of size `source`, with grey where it must not be seen.

        A copy where there is a mask: what was scaled may still be the decoder's.
        """
        if not self._polygons:
            return image
        raster = self._raster(image, source)
        covered: np.ndarray = image & raster.keep
        covered |= raster.grey
        return covered

    def shown(self, image: np.ndarray, source: Size) -> np.ndarray | None:
        """The pixels of `image` that are not hidden, row by row, as a square uint8 [S, S, 3]; None without any.

        For who judges the whole picture, and would take the grey for something that the camera sees.
        """
        if not self._polygons:
            return image
        places = self._raster(image, source).square
        side = math.isqrt(len(places))
        return image.reshape(-1, 3).take(places, axis=0).reshape(side, side, 3) if side else None

    def hidden(self, image: np.ndarray, source: Size) -> np.ndarray:
        """bool [H, W]: what is hidden of `image`, which was scaled from a picture of size `source`."""
        return self._raster(image, source).hidden

    def _raster(self, image: np.ndarray, source: Size) -> _Raster:
        key = ((image.shape[0], image.shape[1]), source)
        if key not in self._rasters:
            if len(self._rasters) >= _KNOWN:
                self._rasters.clear()
            self._rasters[key] = _raster(_hidden(self._polygons, *key))
        return self._rasters[key]


def _raster(hidden: np.ndarray) -> _Raster:
    wide = np.repeat(hidden[..., None], 3, axis=2)
    shown = np.flatnonzero(~hidden)
    side = math.ceil(math.sqrt(len(shown)))
    keep, grey = np.where(wide, 0, 255).astype(np.uint8), np.where(wide, GREY, 0).astype(np.uint8)
    return _Raster(hidden, keep, grey, np.resize(shown, side * side))


def _hidden(polygons: Sequence[Polygon], size: Size, source: Size) -> np.ndarray:
    """Each pixel is a box as wide as all that it is made of."""
    half = [(0.5 + REACH_PX) / new + SOURCE_REACH_PX / old for new, old in zip(size, source, strict=True)]
    kept = [polygon for polygon in polygons if polygon.keep]
    shown = np.full(size, not kept)
    for polygon in kept:
        inner = [edge for edge in _edges(polygon) if not _is_border(edge)]  # beyond it there is nothing to hide
        shown |= _inside(polygon, size) & ~_crossed(inner, size, half)
    for polygon in polygons:
        if not polygon.keep:
            shown &= ~(_inside(polygon, size) | _crossed(_edges(polygon), size, half))
    return ~shown


def _inside(polygon: Polygon, size: Size) -> np.ndarray:
    """bool [H, W]: whether the middle of each pixel lies inside, by the even-odd rule."""
    y, x = _middles(size)
    inside = np.zeros(size, bool)
    for (x0, y0), (x1, y1) in _edges(polygon):
        if y0 != y1:
            across = (y0 > y) != (y1 > y)
            inside ^= across & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return inside


def _crossed(edges: Sequence[Edge], size: Size, half: Sequence[float]) -> np.ndarray:
    """bool [H, W]: whether an edge touches the box of `half` (height, width) around each pixel's middle.

    Two convex shapes are apart exactly when they are on one of the box's axes, or across the edge.
    """
    y, x = _middles(size)
    high, wide = half
    crossed = np.zeros(size, bool)
    for (x0, y0), (x1, y1) in edges:
        run, rise = x1 - x0, y1 - y0
        to_x, to_y = x - (x0 + x1) / 2, y - (y0 + y1) / 2
        near = (np.abs(to_x) <= wide + abs(run) / 2) & (np.abs(to_y) <= high + abs(rise) / 2)
        crossed |= near & (np.abs(run * to_y - rise * to_x) <= wide * abs(rise) + high * abs(run))
    return crossed


def _middles(size: Size) -> tuple[np.ndarray, np.ndarray]:
    """y [H, 1] and x [1, W] of the pixels' middles, as shares."""
    height, width = size
    return (np.arange(height)[:, None] + 0.5) / height, (np.arange(width)[None] + 0.5) / width


def _is_border(edge: Edge) -> bool:
    """Whether it lies on the picture's own edge."""
    return any(begin == end and begin in (0.0, 1.0) for begin, end in zip(*edge, strict=True))


def _edges(polygon: Polygon) -> list[Edge]:
    points = polygon.points
    return list(zip(points, (*points[1:], points[0]), strict=True))
