"""Room for some positions of so many frames: preallocated, written in place.

keys, values   [places, L, Hkv, rows, Dh]
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from stream.model import Geometry
from stream.types import Part


class Parts:
    """`places` of at most `rows` positions each."""

    def __init__(self, geometry: Geometry, places: int, rows: int) -> None:
        geo = geometry
        shape = (places, geo.layers, geo.kv_heads, rows, geo.head_width)
        self._keys = torch.zeros(shape, dtype=geo.dtype, device=geo.device)
        self._values = torch.zeros_like(self._keys)
        self._held: list[Part | None] = [None] * places

    def __len__(self) -> int:
        return len(self._held)

    def __getitem__(self, place: int) -> Part | None:
        """What stands there, as views that last until it is overwritten."""
        return self._held[place]

    @property
    def nbytes(self) -> int:
        """All that is allocated."""
        return sum(tensor.numel() * tensor.element_size() for tensor in (self._keys, self._values))

    def put(self, place: int, part: Part) -> Part:
        """Write `part`, which has at most `rows` positions, over what stood there; the views of it."""
        count = len(part)
        assert count <= self._keys.shape[3], "more positions than there is room for"
        keys, values = self._keys[place, :, :, :count], self._values[place, :, :, :count]
        keys.copy_(part.keys)
        values.copy_(part.values)
        self._keys[place, :, :, count:].zero_()  # of one that had more nothing is left
        self._values[place, :, :, count:].zero_()
        own = Part(keys, values, part.places)
        self._held[place] = own
        return own

    def clear(self, places: Iterable[int]) -> None:
        """No byte is left of what stood there."""
        for place in places:
            self._keys[place].zero_()
            self._values[place].zero_()
            self._held[place] = None
