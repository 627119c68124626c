"""What can be read of a damaged file goes into the new one, a few rows at a time, while frames go on being written.

Rows keep their ids. A row comes over when its keys and its values pass their checksums; a picture or a digest that
does not is left behind. Over ids that cannot even be listed the search jumps, further each time. How far it got is
kept in the new file, so that a restart goes on.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memory.archive import diary
from memory.archive.codec import checksum
from memory.archive.reader import Reader
from memory.archive.schema import PARTS, connect
from memory.archive.store import Prepared
from memory.archive.types import Line, Outage
from stream.types import Span

STEP = 32
GUESS_ID = 1 << 40  # first id of a new file when the old one does not even tell its last
SLACK = 1 << 20  # ids left free when it does, in case that is not quite the last


@dataclass(slots=True)
class Salvage:
    """One damaged file, read from `next_id` to `until_id`."""

    path: Path
    until_id: int
    next_id: int = 1
    saved: int = 0
    _db: sqlite3.Connection | None = None
    _names: dict[int, str] = field(default_factory=dict)
    _jump: int = 1

    def step(self, into: sqlite3.Connection) -> list[Prepared | Outage | Line] | None:
        """The next rows that are whole, not there yet and not erased meanwhile; None when there are no more."""
        found: list[Prepared | Outage | Line] = []
        if self._db is None:
            if not self._open():
                return None
            found += [Outage(*row) for row in self._rows("SELECT camera, since_s, until_s, reason FROM outages")]
            found += diary.whole(self._rows)
        ids = self._next_ids()
        if ids is None:
            return found or None
        rows = [row for row_id in ids if (row := self._read(row_id)) is not None and not _known(into, row_id)]
        gone = into.execute("SELECT camera, since_s, until_s FROM erasures").fetchall()
        kept = [row for row in rows if not any(_covers(row, *one) for one in gone)]
        self.saved += len(kept)
        return found + kept

    def keep_place(self, into: sqlite3.Connection) -> None:
        """Remember how far it got."""
        place = json.dumps({"file": self.path.name, "next_id": self.next_id, "until_id": self.until_id})
        into.execute("INSERT OR REPLACE INTO meta VALUES('salvage', ?)", (place,))

    def finish(self, into: sqlite3.Connection) -> None:
        """Nothing more to bring over; ids go on where they are."""
        place = json.dumps({"file": None, "next_id": self.next_id, "until_id": self.until_id})
        into.execute("INSERT OR REPLACE INTO meta VALUES('salvage', ?)", (place,))

    def close(self) -> None:
        """The old file stays where it was set aside."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def _open(self) -> bool:
        try:
            self._db = connect(self.path, read_only=True)
            self._names = dict(self._db.execute("SELECT id, name FROM cameras").fetchall())
        except sqlite3.Error:
            self.close()
            return False
        return True

    def _next_ids(self) -> list[int] | None:
        query = "SELECT id FROM frames WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"
        values = (self.next_id, self.until_id, STEP)
        ids = [row[0] for row in self._rows(query, values)]
        if ids:
            self.next_id, self._jump = ids[-1] + 1, 1
            return ids
        if self.next_id >= self.until_id or not self._unreadable(query, values):
            return None
        self.next_id, self._jump = self.next_id + self._jump, 2 * self._jump
        return []

    def _read(self, row_id: int) -> Prepared | None:
        query = "SELECT camera, frame, first_s, last_s, count, score FROM frames WHERE id = ?"
        meta = next(self._rows(query, (row_id,)), None)
        if meta is None or meta[0] not in self._names:
            return None
        records = [self._record(table, row_id) for table in PARTS]
        if not records[0] or not records[1]:
            return None
        whole = (records[0], records[1], records[2], records[3])
        return Prepared(self._names[meta[0]], meta[1], Span(*meta[2:5]), meta[5], whole, row_id)

    def _record(self, table: str, row_id: int) -> bytes:
        for crc, data in self._rows(f"SELECT crc, data FROM {table} WHERE id = ?", (row_id,)):
            if isinstance(data, bytes) and checksum(row_id, data) == crc:
                return data
        return b""

    def _rows(self, query: str, values: Sequence[int] = ()) -> Iterator[tuple[Any, ...]]:
        """As many rows as come before something cannot be read."""
        assert self._db is not None
        try:
            yield from self._db.execute(query, values)
        except sqlite3.Error:
            return

    def _unreadable(self, query: str, values: Sequence[int]) -> bool:
        assert self._db is not None
        try:
            self._db.execute(query, values).fetchall()
        except sqlite3.Error:
            return True
        return False


def begin(into: sqlite3.Connection, aside: Path, first_id: int | None) -> None:
    """Note in the new file that `aside` is to be read; ids of new rows start at `first_id`, or above the old ones."""
    if first_id is None:
        first_id = _last_id(aside)
    Salvage(aside, first_id).keep_place(into)


def resume(db: sqlite3.Connection, path: Path) -> tuple[Salvage | None, int]:
    """What is still to be brought over into `path`, and the first id of its own rows."""
    found = db.execute("SELECT value FROM meta WHERE name = 'salvage'").fetchone()
    if found is None:
        return None, 1
    place = json.loads(found[0])
    aside = path.with_name(place["file"]) if place["file"] else None
    if aside is None or not aside.exists():
        return None, place["until_id"]
    return Salvage(aside, place["until_id"], place["next_id"]), place["until_id"]


def underway(reader: Reader) -> bool:
    """Whether an older file is still being brought over into the one that `reader` reads."""
    found = next((value for (value,) in reader.select("SELECT value FROM meta WHERE name = 'salvage'", ())), None)
    return found is not None and json.loads(found)["file"] is not None


def _last_id(path: Path) -> int:
    try:
        db = connect(path, read_only=True)
    except sqlite3.Error:
        return GUESS_ID
    try:
        last = db.execute("SELECT max(id) FROM frames").fetchone()[0]
        return (last or 0) + SLACK
    except sqlite3.Error:
        return GUESS_ID
    finally:
        db.close()


def _known(db: sqlite3.Connection, row_id: int) -> bool:
    return db.execute("SELECT 1 FROM frames WHERE id = ?", (row_id,)).fetchone() is not None


def _covers(row: Prepared, camera: str | None, since_s: float, until_s: float) -> bool:
    return camera in (None, row.camera) and since_s <= row.span.first_s <= until_s
