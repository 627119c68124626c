"""The last k frames at full detail: a preallocated ring, seen by questions only.

keys, values   [k, L, Hkv, N, Dh]   one place a frame; the oldest is overwritten
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from stream.model import Geometry
from stream.types import Carrier, Span


@dataclass(frozen=True, slots=True)
class Item:
    """One frame of the ring. Tensors are views: they last until the frame leaves."""

    frame: int
    span: Span
    detail_keys: Tensor  # [L, Hkv, n, Dh] un-rotated, n <= N
    detail_values: Tensor  # [L, Hkv, n, Dh]


class Detail:
    """At most `frames` of them, in time order. Iterating gives the oldest first."""

    def __init__(self, geometry: Geometry, frames: int) -> None:
        geo = geometry
        shape = (frames, geo.layers, geo.kv_heads, geo.visual, geo.head_width)
        self._keys = torch.zeros(shape, dtype=geo.dtype, device=geo.device)
        self._values = torch.zeros_like(self._keys)
        self._items: list[Item] = []
        self._free = list(range(frames))
        self._places: list[int] = []  # of each item

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)

    @property
    def nbytes(self) -> int:
        """All that is allocated."""
        return sum(part.numel() * part.element_size() for part in (self._keys, self._values))

    def add(self, carrier: Carrier) -> None:
        """Take in the newest frame; one without visual tokens (from the archive) is passed over."""
        count = carrier.detail_keys.shape[2]
        if count == 0 or len(self._keys) == 0:
            return
        if not self._free:
            self._items.pop(0)
            self._free.append(self._places.pop(0))
        place = self._free.pop()
        keys, values = self._keys[place, :, :, :count], self._values[place, :, :, :count]
        keys.copy_(carrier.detail_keys)
        values.copy_(carrier.detail_values)
        if count < self._keys.shape[3]:  # of a frame that had more tokens nothing is left
            self._keys[place, :, :, count:].zero_()
            self._values[place, :, :, count:].zero_()
        self._items.append(Item(carrier.frame, carrier.span, keys, values))
        self._places.append(place)

    def keep(self, stays: Callable[[Item], bool]) -> None:
        """Only the items that `stays` says; of the others no byte is left."""
        pairs = list(zip(self._items, self._places, strict=True))
        self._items = [item for item, _ in pairs if stays(item)]
        self._places = [place for item, place in pairs if any(item is own for own in self._items)]
        self._free = [place for place in range(len(self._keys)) if place not in self._places]
        for place in self._free:
            self._keys[place].zero_()
            self._values[place].zero_()
