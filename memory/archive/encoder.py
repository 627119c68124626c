"""Entries as they were put -> rows as they are stored. What cannot be stored is counted and left out."""

from __future__ import annotations

import math

import numpy as np

from memory.archive.codec import Codec, digest_codec, head_codec
from memory.archive.inbox import Taken
from memory.archive.picture import thumbnail
from memory.archive.store import Change, Prepared, Store
from memory.archive.types import Entry, Floats, Setup

_MAX_INT = 1 << 63


class Encoder:
    """The writer's: arrays are made small and pictures smaller. Counts what was wrong."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._base: Floats | None = setup.base
        self._heads: Codec = head_codec(setup.shape, setup.dtype)
        self._digests: Codec = digest_codec(setup.shape, setup.dtype)
        self.broken = 0
        self.unreadable_jpegs = 0

    def use(self, store: Store) -> None:
        """A file keeps the type of number and the base that it was begun with."""
        self._heads = head_codec(self._setup.shape, store.dtype)
        self._digests = digest_codec(self._setup.shape, store.dtype)
        self._base = store.base

    def prepare(self, taken: Taken) -> list[Change]:
        """Extends, outages, entries, then lines: a line never stands before its carriers."""
        found: list[Change] = [item for item in taken.extends if _is_text(item.camera) and math.isfinite(item.last_s)]
        found += [item for item in taken.outages if _is_text(item.camera) and math.isfinite(item.since_s)]
        for entry in taken.entries:
            if self._is_whole(entry):
                found.append(self._prepare(entry))
            else:
                self.broken += 1
        return found + [line for line in taken.lines if _is_text(line.camera) and _is_text(line.text)]

    def _prepare(self, entry: Entry) -> Prepared:
        keys = entry.keys if self._base is None else entry.keys - self._base
        records = (
            self._heads.encode(keys),
            self._heads.encode(entry.values),
            self._digests.encode(entry.digest),
            self._picture(entry.jpeg),
        )
        return Prepared(entry.camera, entry.frame, entry.span, float(entry.score), records)

    def _picture(self, jpeg: bytes) -> bytes:
        if not jpeg or not self._setup.thumbnail_px:
            return b""
        small = thumbnail(jpeg, self._setup.thumbnail_px)
        if small is None:
            self.unreadable_jpegs += 1
        return small or b""

    def _is_whole(self, entry: Entry) -> bool:
        shape, span = self._setup.shape, entry.span
        arrays = ((entry.keys, shape.heads), (entry.values, shape.heads), (entry.digest, (shape.width,)))
        if any(array.shape != wanted or not np.isfinite(array).all() for array, wanted in arrays):
            return False
        times = math.isfinite(span.first_s) and math.isfinite(span.last_s)
        return times and _is_text(entry.camera) and -_MAX_INT <= entry.frame < _MAX_INT


def _is_text(name: str) -> bool:
    return name.isprintable() and name.encode("utf-8", "replace").decode() == name
