"""Pooled keys per minute, hour and day: an upper bound of what any carrier of that time can score (Quest, 2406.10774).

A carrier's score for a query is linear: sum over [L, Hkv, Dh] of query * key. With the channel-wise least and largest
key of a pool, sum of max(query * lo, query * hi) is at least the score of each of its carriers. Stored int8, rounded
outwards, so that the bound stays one. A carrier belongs to the pool of its span's first moment.

    stale    minutes whose pool does not know all their carriers yet: readers take those carriers without asking a pool
    settle   recomputes closed stale minutes from their keys, then their hours from minutes, then days from hours
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memory.archive.codec import Codec, checksum
from memory.archive.types import Floats

LEVELS_S = (60.0, 3_600.0, 86_400.0)  # minute, hour, day
_PARENT = (60, 24)  # buckets of one level in a bucket of the next


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

    def union(self) -> tuple[Floats, Floats]:
        """Least and largest of all pools, [G, Dh] each."""
        scales = self.scales[:, :, None]
        return (self.lo * scales).min(axis=0), (self.hi * scales).max(axis=0)


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
    """Number of the minute, hour or day (UTC) that holds `wall_s`."""
    return int(wall_s // LEVELS_S[level])


class Pooler:
    """The writer's side. Every method works inside the caller's transaction."""

    def __init__(self, db: sqlite3.Connection, codec: Codec) -> None:
        self._db, self._codec = db, codec
        self.record_bytes = codec.groups * (4 + 2 * codec.width)

    def settle(self, camera: int, minutes: Sequence[int]) -> int:
        """Recompute these minutes and all above them; returns how many pools came (less those that went)."""
        change, above = 0, {minute // _PARENT[0] for minute in minutes}
        for minute in minutes:
            change += self._store(camera, 0, minute, self._of_rows(camera, minute))
            self._db.execute("DELETE FROM stale WHERE camera = ? AND minute = ?", (camera, minute))
        for level in (1, 2):
            for bucket in above:
                change += self._store(camera, level, bucket, self._of_pools(camera, level, bucket))
            above = {bucket // _PARENT[-1] for bucket in above}
        return change

    def drop_empty(self, camera: int, minutes: set[int]) -> int:
        """Forget pools of `minutes` that no carrier is left of, and of their hours and days; returns how many.

        A pool that lost only some of its carriers stays: its bound is still one.
        """
        gone, buckets = 0, minutes
        for level, length_s in enumerate(LEVELS_S):
            empty = {bucket for bucket in buckets if not self._any(camera, bucket * length_s, length_s)}
            for bucket in empty:
                gone -= self._store(camera, level, bucket, None)
                if level == 0:
                    self._db.execute("DELETE FROM stale WHERE camera = ? AND minute = ?", (camera, bucket))
            if level < len(_PARENT):
                buckets = {bucket // _PARENT[level] for bucket in empty}
        return gone

    def _any(self, camera: int, first_s: float, length_s: float) -> bool:
        query = "SELECT 1 FROM frames WHERE camera = ? AND first_s >= ? AND first_s < ? LIMIT 1"
        return self._db.execute(query, (camera, first_s, first_s + length_s)).fetchone() is not None

    def _of_rows(self, camera: int, minute: int) -> tuple[Floats, Floats] | None:
        query = (
            "SELECT keys.id, crc, data FROM frames JOIN keys USING(id)"
            " WHERE camera = ? AND first_s >= ? AND first_s < ? ORDER BY first_s"
        )
        lows, highs = [], []
        found = self._db.execute(query, (camera, minute * 60.0, minute * 60.0 + 60.0))
        while part := found.fetchmany(64):  # a minute of 25 frames a second is no reason to hold them all
            good = [data for row_id, crc, data in part if checksum(row_id, data) == crc]
            if good:
                keys = self._codec.decode(good)
                lows.append(keys.min(axis=0))
                highs.append(keys.max(axis=0))
        return (np.minimum.reduce(lows), np.maximum.reduce(highs)) if lows else None

    def _of_pools(self, camera: int, level: int, bucket: int) -> tuple[Floats, Floats] | None:
        first = bucket * _PARENT[level - 1]
        query = "SELECT data FROM pools WHERE camera = ? AND level = ? AND bucket >= ? AND bucket < ?"
        found = self._db.execute(query, (camera, level - 1, first, first + _PARENT[level - 1])).fetchall()
        records = [data for (data,) in found if len(data) == self.record_bytes]
        return decode(records, self._codec.groups, self._codec.width).union() if records else None

    def _store(self, camera: int, level: int, bucket: int, extent: tuple[Floats, Floats] | None) -> int:
        key = (camera, level, bucket)
        where = "camera = ? AND level = ? AND bucket = ?"
        if extent is None:
            return -self._db.execute(f"DELETE FROM pools WHERE {where}", key).rowcount
        data = encode(*extent)
        if self._db.execute(f"UPDATE pools SET data = ? WHERE {where}", (data, *key)).rowcount:
            return 0
        self._db.execute("INSERT INTO pools(camera, level, bucket, data) VALUES(?, ?, ?, ?)", (*key, data))
        return 1
