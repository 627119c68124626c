"""The last k frames at full detail: a preallocated ring, seen by questions only. The oldest is overwritten."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from memory.parts import Parts
from stream.model import Geometry
from stream.types import Carrier, Part, Span


@dataclass(frozen=True, slots=True)
class Item:
    """One frame of the ring."""

    frame: int
    span: Span
    part: Part  # n <= N visual tokens; views: they last until the frame leaves


class Detail:
    """At most `frames` of them, in time order. Iterating gives the oldest first."""

    def __init__(self, geometry: Geometry, frames: int) -> None:
        self.parts = Parts(geometry, frames, geometry.visual)
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
        return self.parts.nbytes

    def add(self, carrier: Carrier) -> None:
        """Take in the newest frame; one without visual tokens (from the archive) is passed over."""
        if len(carrier.detail) == 0 or len(self.parts) == 0:
            return
        if not self._free:
            self._items.pop(0)
            self._free.append(self._places.pop(0))
        place = self._free.pop()
        self._items.append(Item(carrier.frame, carrier.span, self.parts.put(place, carrier.detail)))
        self._places.append(place)

    def keep(self, stays: Callable[[Item], bool]) -> None:
        """Only the items that `stays` says; of the others no byte is left."""
        pairs = list(zip(self._items, self._places, strict=True))
        self._items = [item for item, _ in pairs if stays(item)]
        self._places = [place for item, place in pairs if any(item is own for own in self._items)]
        self._free = [place for place in range(len(self.parts)) if place not in self._places]
        self.parts.clear(self._free)
