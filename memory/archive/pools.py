"""Pooled keys of each minute: an upper bound of what any of its carriers can score (Quest, arXiv 2406.10774).

A carrier's score for a query is linear: sum over [L, Hkv, Dh] of query * key. With the channel-wise least and largest
key of a minute, sum of max(query * lo, query * hi) is at least the score of each of its carriers. Stored int8, rounded
outwards, so that the bound stays one. A carrier belongs to the minute of its span's first moment.

    stale    minutes whose pool does not know all their carriers yet: readers take those carriers without asking a pool
    settle   recomputes closed stale minutes from their keys, then the sketches of their hours (`sketch.py`)
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memory.archive import sketch
from memory.archive.codec import Codec, checksum
from memory.archive.layout import Layout
from memory.archive.types import Floats

MINUTE, HOUR = 0, 1  # levels
LENGTH_S = (60.0, 3_600.0)
PIECE = 64  # carriers of a minute held at a time: with 25 frames a second there are many


@dataclass(frozen=True, slots=True)
class Bounds:
    """Least and largest key of many pools, encoded: scales [n, G], lo and hi int8 [n, G, Dh]."""

    scales: Floats
    lo: NDArray[np.int8]
    hi: NDArray[np.int8]

    def score(self, query: Floats) -> Floats:
        """The most that any carrier of each pool can score for `query` [G, Dh]; [n]."""
        choose = np.where(query > 0, -1, 0).astype(np.int8)
        outer = self.lo ^ ((self.lo ^ self.hi) & choose)  # hi where the query is positive; three times `where`'s speed
        found: Floats = (np.einsum("ngd,gd->ng", outer.astype(np.float32), query) * self.scales).sum(axis=1)
        return found

    def extent(self) -> tuple[Floats, Floats]:
        """Least and largest, [n, G, Dh] each."""
        scales = self.scales[:, :, None]
        return self.lo * scales, self.hi * scales


def encode(lo: Floats, hi: Floats) -> bytes:
    """One pool, rounded outwards; lo and hi [G, Dh]."""
    scales = (np.maximum(np.abs(lo), np.abs(hi)).max(axis=1) / 127 * (1 + 1e-6)).astype(np.float32)
    divisor = np.where(scales > 0, scales, 1)[:, None]
    low = np.clip(np.floor(lo / divisor), -127, 127).astype(np.int8)
    high = np.clip(np.ceil(hi / divisor), -127, 127).astype(np.int8)
    return b"".join((scales.data, low.data, high.data))


def decode(records: Sequence[bytes], groups: int, width: int) -> Bounds:
    """Of n records; those of a wrong length must have been left out."""
    raw = np.frombuffer(b"".join(records), np.uint8).reshape(len(records), -1)
    scales = np.ascontiguousarray(raw[:, : 4 * groups]).view(np.float32)
    both = raw[:, 4 * groups :].view(np.int8).reshape(len(records), 2, groups, width)
    return Bounds(scales, both[:, 0], both[:, 1])


def bucket_of(wall_s: float, level: int) -> int:
    """Number of the minute or hour (UTC) that holds `wall_s`."""
    return int(wall_s // LENGTH_S[level])


class Pooler:
    """The writer's side. Every method works inside the caller's transaction; returns by how many bytes pools grew."""

    def __init__(self, db: sqlite3.Connection, codec: Codec, layout: Layout) -> None:
        self._db, self._codec = db, codec
        self._sizes = (layout.pool_footprint, layout.hour_footprint)
        self._rows = sketch.directions(codec.groups * codec.width)

    def settle(self, camera: int, minutes: Sequence[int]) -> int:
        """Recompute these minutes, and their part of the sketches of their hours."""
        grown = 0
        for minute in minutes:
            pool, entries = self._of(camera, minute)
            grown += self._store(camera, MINUTE, minute, pool)
            query = "SELECT data FROM pools WHERE camera = ? AND level = ? AND bucket = ?"
            known = self._db.execute(query, (camera, HOUR, minute // 60)).fetchone()
            record = sketch.replace(known[0] if known else b"", minute % 60, entries)
            grown += self._store(camera, HOUR, minute // 60, record)
            self._db.execute("DELETE FROM stale WHERE camera = ? AND minute = ?", (camera, minute))
        return grown

    def need(self, camera: int, minute: int) -> int:
        """Bytes that settling this minute may bring at most: what there is already is written over."""
        query = "SELECT 1 FROM pools WHERE camera = ? AND level = ? AND bucket = ?"
        wanted = ((MINUTE, minute), (HOUR, minute // 60))
        return sum(self._sizes[level] for level, bucket in wanted if not self._has(query, (camera, level, bucket)))

    def drop_empty(self, camera: int, minutes: set[int]) -> int:
        """Forget those of `minutes` that no carrier is left of, and hours that are empty then.

        A pool that lost only some of its carriers stays: its bound is still one.
        """
        empty = {minute for minute in minutes if not self._any(camera, minute, MINUTE)}
        grown = sum(self._store(camera, MINUTE, minute, b"") for minute in empty)
        self._db.executemany("DELETE FROM stale WHERE camera = ? AND minute = ?", [(camera, item) for item in empty])
        for hour in {minute // 60 for minute in empty}:
            if not self._any(camera, hour, HOUR):
                grown += self._store(camera, HOUR, hour, b"")
        return grown

    def _any(self, camera: int, bucket: int, level: int) -> bool:
        query = "SELECT 1 FROM frames WHERE camera = ? AND first_s >= ? AND first_s < ? LIMIT 1"
        first_s, length_s = bucket * LENGTH_S[level], LENGTH_S[level]
        return self._has(query, (camera, first_s, first_s + length_s))

    def _has(self, query: str, values: tuple[float, ...]) -> bool:
        return self._db.execute(query, values).fetchone() is not None

    def _of(self, camera: int, minute: int) -> tuple[bytes, bytes]:
        """The pool and the sketches of a minute; empty when it has no carrier."""
        query = (
            "SELECT keys.id, crc, data FROM frames JOIN keys USING(id)"
            " WHERE camera = ? AND first_s >= ? AND first_s < ? ORDER BY first_s"
        )
        lows, highs, shown = [], [], []
        found = self._db.execute(query, (camera, minute * 60.0, minute * 60.0 + 60.0))
        while part := found.fetchmany(PIECE):
            good = [data for row_id, crc, data in part if checksum(row_id, data) == crc]
            if good:
                keys = self._codec.decode(good)
                lows.append(keys.min(axis=0))
                highs.append(keys.max(axis=0))
                shown.append(sketch.choose(keys.reshape(len(keys), -1)))
        if not lows:
            return b"", b""
        entries = sketch.encode(minute % 60, sketch.choose(np.concatenate(shown)), self._rows)
        return encode(np.minimum.reduce(lows), np.maximum.reduce(highs)), entries

    def _store(self, camera: int, level: int, bucket: int, data: bytes) -> int:
        """Nothing to store: what was there goes."""
        key, where = (camera, level, bucket), "camera = ? AND level = ? AND bucket = ?"
        if not data:
            return -self._sizes[level] * self._db.execute(f"DELETE FROM pools WHERE {where}", key).rowcount
        if self._db.execute(f"UPDATE pools SET data = ? WHERE {where}", (data, *key)).rowcount:
            return 0
        self._db.execute("INSERT INTO pools(camera, level, bucket, data) VALUES(?, ?, ?, ?)", (*key, data))
        return self._sizes[level]
