"""The reading side: one connection, one thread, never writes. What cannot be read is left out and counted.

A file that was set aside or replaced is noticed at the next call: the reader goes over to the new one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from memory.archive import schema, search, sketch
from memory.archive.codec import Codec, checksum, digest_codec, head_codec
from memory.archive.store import NEAR_S
from memory.archive.types import ArchiveError, Dtype, Entry, Floats, Outage, Row, Shape
from stream.types import Span

CHUNK = 256  # ids per statement
FAR_S = 1e12
_ROW = "SELECT id, frame, first_s, last_s, count, score FROM frames"


class Reader:
    """See the module. `faults` counts reads that failed, `broken` records whose checksum was wrong."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None
        self._inode = (0, 0)
        self._frozen = False
        self._directions: Floats | None = None
        self._cameras: dict[str, int] = {}
        self.shape = Shape(0, 0, 0, 0)
        self.identity = ""
        self.dtype: Dtype = "int8"
        self.base: Floats | None = None
        self.faults = 0
        self.broken = 0
        self.last_fault = ""

    @classmethod
    def open(cls, path: Path) -> Reader:
        """Of a file that must be there and readable. Raises ArchiveError."""
        if not path.is_file():
            raise ArchiveError(f"{path}: no archive there", "cannot_open")
        reader = cls(path)
        if reader.connection() is None:
            raise ArchiveError(f"{path} cannot be read: {reader.last_fault}", "corrupt")
        return reader

    def close(self) -> None:
        """The connection; any later call opens it again."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def rest(self) -> None:
        """Between two uses: of a read-only disk let go, for all connections of a process share what the first one
        could open, and the writer's would not notice when the disk can be written again."""
        if self._frozen:
            self.close()

    def newest(self, camera: str) -> Row | None:
        """The carrier that was archived last."""
        key = self.camera_id(camera)
        found = self.select(f"{_ROW} WHERE camera = ? ORDER BY id DESC LIMIT 1", (key,))
        return next((_row(camera, item) for item in found), None)

    def extent(self, camera: str) -> tuple[float, float, int] | None:
        """First and last moment and how many carriers; None when there are none."""
        key = self.camera_id(camera)
        query = (
            "SELECT (SELECT min(first_s) FROM frames WHERE camera = :key),"
            " (SELECT last_s FROM frames WHERE camera = :key ORDER BY first_s DESC LIMIT 1),"
            " rows FROM cameras WHERE id = :key"
        )
        for first_s, last_s, rows in self.select(query, {"key": key}):
            if rows:
                return first_s, last_s, rows
        return None

    def rows(self, camera: str, since_s: float | None, until_s: float | None, limit: int | None = None) -> list[Row]:
        """Carriers whose span touches [since_s, until_s], in time order; the first `limit` of them."""
        since, until = _range(since_s, until_s)
        key, most = self.camera_id(camera), -1 if limit is None else limit
        early = f"{_ROW} WHERE camera = ? AND last_s - first_s > 60 AND first_s < ? AND last_s >= ? ORDER BY first_s"
        found = list(self.select(f"{early}, id LIMIT ?", (key, since - NEAR_S, since, most)))
        near = f"{_ROW} WHERE camera = ? AND first_s >= ? AND first_s <= ? AND last_s >= ? ORDER BY first_s, id LIMIT ?"
        found += self.select(near, (key, since - NEAR_S, until, since, most))
        return [_row(camera, item) for item in found][: len(found) if limit is None else limit]

    def count(self, camera: str | None, since_s: float | None, until_s: float | None) -> int:
        """How many carriers begin in the range; `camera` None is all of them."""
        query = "SELECT count(*) FROM frames WHERE camera = ? AND first_s >= ? AND first_s <= ?"
        keys = [self.camera_id(name) for name in (self.cameras() if camera is None else [camera])]
        return sum(item[0] for key in keys for item in self.select(query, (key, *_range(since_s, until_s))))

    def narrow(self, camera: str, since_s: float | None, until_s: float | None, query: Floats, limit: int) -> list[Row]:
        """At most `limit` carriers of the range that may score highest for `query` [L, Hkv, Dh], in time order.

        Everything when the range holds no more than that; else by pools (`pools.py`, `search.py`).
        """
        key, (since, until) = self.camera_id(camera), _range(since_s, until_s)
        some = "SELECT 1 FROM frames WHERE camera = ? AND first_s >= ? AND first_s <= ? LIMIT ?"
        if len(list(self.select(some, (key, since, until, limit + 1)))) <= limit:
            found = self.rows(camera, since_s, until_s, limit + 1)
            if len(found) <= limit:
                return found
        wanted = search.Wanted(camera, key, since, until, np.asarray(query, np.float32), limit)
        return search.narrow(self, wanted)

    def spread(self, camera: str, since_s: float | None, until_s: float | None, limit: int) -> list[Row]:
        """At most `limit` carriers of the range, evenly in time, in time order; everything where it holds no more."""
        found = self.rows(camera, since_s, until_s, limit + 1)
        extent = self.extent(camera)
        if len(found) <= limit or extent is None:
            return found
        since, until = _range(since_s, until_s)
        places = np.linspace(max(since, extent[0]), min(until, extent[1]), limit).tolist()
        key, near = self.camera_id(camera), f"{_ROW} WHERE camera = ? AND first_s >= ? ORDER BY first_s, id LIMIT 1"
        rows = {item[0]: _row(camera, item) for at_s in places for item in self.select(near, (key, at_s))}
        return sorted((row for row in rows.values() if row.span.overlaps(since_s, until_s)), key=lambda row: row.id)

    def digests(self, ids: Sequence[int]) -> tuple[list[int], Floats]:
        """(ids that could be read, in the order asked, [n, D])."""
        good, array = self._arrays("digests", ids, digest_codec)
        return good, array.reshape(len(good), self.shape.width)

    def keys(self, ids: Sequence[int]) -> tuple[list[int], Floats]:
        """(ids that could be read, in the order asked, [n, L, Hkv, Dh])."""
        good, array = self._arrays("keys", ids, head_codec)
        array = array.reshape(len(good), *self.shape.heads)
        return good, array if self.base is None else array + self.base

    def carriers(self, ids: Sequence[int]) -> tuple[list[int], Floats, Floats]:
        """(ids of which both could be read, in the order asked, keys, values [n, L, Hkv, Dh])."""
        with_keys, keys = self.keys(ids)
        good, values = self._arrays('"values"', with_keys, head_codec)
        if len(good) < len(with_keys):
            left = set(good)
            keys = keys[[row_id in left for row_id in with_keys]]
        return good, keys, values.reshape(len(good), *self.shape.heads)

    def pictures(self, ids: Sequence[int]) -> dict[int, bytes]:
        """JPEGs by id; without those that have none."""
        return self.records("pictures", ids)

    def tail(self, camera: str, after_frame: int, limit: int = 10_000) -> list[Entry]:
        """What was archived after `after_frame` (a snapshot's newest), oldest first, the newest `limit` of it."""
        rows = []
        for item in self.select(f"{_ROW} WHERE camera = ? ORDER BY id DESC LIMIT ?", (self.camera_id(camera), limit)):
            if item[1] <= after_frame:
                break
            rows.append(_row(camera, item))
        rows.reverse()
        ids = [row.id for row in rows]
        good, keys, values = self.carriers(ids)
        with_digest, digests = self.digests(good)
        at = {row_id: index for index, row_id in enumerate(good)}
        digest_at = {row_id: index for index, row_id in enumerate(with_digest)}
        pictures = self.pictures(good)
        found = []
        for row in rows:
            if row.id in digest_at:
                index, digest = at[row.id], digests[digest_at[row.id]]
                jpeg = pictures.get(row.id, b"")
                found.append(Entry(camera, row.frame, row.span, row.score, digest, keys[index], values[index], jpeg))
        return found

    def outages(self, camera: str, since_s: float | None, until_s: float | None) -> list[Outage]:
        """Stored gaps that touch [since_s, until_s], by their start."""
        since, until = _range(since_s, until_s)
        query = (
            "SELECT camera, since_s, until_s, reason FROM outages WHERE camera = ? AND since_s <= ?"
            " AND (until_s IS NULL OR until_s >= ?) ORDER BY since_s"
        )
        return [Outage(*item) for item in self.select(query, (camera, until, since))]

    def cameras(self) -> list[str]:
        """Of which there are, or were, carriers."""
        return [name for (name,) in self.select("SELECT name FROM cameras ORDER BY name", ())]

    # What `search`, `inspect` and `export` stand on.

    def connection(self) -> sqlite3.Connection | None:
        """Of the file that is there now; None, and counted, when it cannot be opened."""
        try:
            found = self._path.stat()
            same = (found.st_dev, found.st_ino) == self._inode and not (self._frozen and schema.writable(self._path))
            if self._db is not None and same:
                return self._db
            self.close()
            self._frozen = not schema.writable(self._path)
            self._db = schema.connect(self._path, read_only=True, frozen=self._frozen)
            if self._db.execute("PRAGMA application_id").fetchone()[0] != schema.APPLICATION_ID:
                raise ArchiveError("it is a database of something else", "not_ours")
            self.shape, self.identity, self.dtype, self.base = schema.read_meta(self._db)
            self._inode, self._cameras = (found.st_dev, found.st_ino), {}
        except (OSError, sqlite3.Error, ArchiveError) as error:
            self._fault(error)
            self.close()
        return self._db

    def directions(self) -> Floats:
        """Rows of `sketch`, made once."""
        channels = self.shape.layers * self.shape.kv_heads * self.shape.head_width
        if self._directions is None or self._directions.shape[1] != channels:
            self._directions = sketch.directions(channels)
        return self._directions

    def camera_id(self, camera: str) -> int:
        """-1: not known."""
        if self.connection() is not None and camera not in self._cameras:
            self._cameras |= {name: key for key, name in self.select("SELECT id, name FROM cameras", ())}
        return self._cameras.get(camera, -1)

    def select(self, query: str, values: Sequence[Any] | dict[str, Any]) -> Iterator[tuple[Any, ...]]:
        """Rows as far as they can be read."""
        db = self.connection()
        if db is None:
            return
        try:
            yield from db.execute(query, values)
        except sqlite3.Error as error:
            self._fault(error)

    def records(self, table: str, ids: Sequence[int]) -> dict[int, bytes]:
        """Whole records by id."""
        found: dict[int, bytes] = {}
        for start in range(0, len(ids), CHUNK):
            part = list(ids[start : start + CHUNK])
            faults = self.faults
            self._read(table, part, found)
            if self.faults > faults:  # a page cannot be read: one by one, to lose no other
                for row_id in part:
                    self._read(table, [row_id], found)
        return found

    def _read(self, table: str, ids: Sequence[int], found: dict[int, bytes]) -> None:
        marks = ",".join("?" * len(ids))
        for row_id, crc, data in self.select(f"SELECT id, crc, data FROM {table} WHERE id IN ({marks})", ids):
            if isinstance(data, bytes) and checksum(row_id, data) == crc:
                found[row_id] = data
            else:
                self.broken += 1

    def _arrays(
        self, table: str, ids: Sequence[int], make: Callable[[Shape, Dtype], Codec]
    ) -> tuple[list[int], Floats]:
        found = self.records(table, ids)  # opens the file, which tells the shape
        codec = make(self.shape, self.dtype)
        good = [row_id for row_id in ids if row_id in found and len(found[row_id]) == codec.record_bytes]
        return good, codec.decode([found[row_id] for row_id in good])

    def _fault(self, error: Exception) -> None:
        self.faults += 1
        self.last_fault = str(error)


def _row(camera: str, item: tuple[Any, ...]) -> Row:
    row_id, frame, first_s, last_s, count, score = item
    return Row(row_id, camera, frame, Span(first_s, last_s, count), score or 0.0)


def _range(since_s: float | None, until_s: float | None) -> tuple[float, float]:
    return -FAR_S if since_s is None else since_s, FAR_S if until_s is None else until_s
