"""What the writer does to the file: insert within quotas, extend, prune, note outages. One transaction a call.

Quotas are enforced before an insert, in the same transaction, so that no reader ever sees one exceeded. Bytes are
counted as the disk takes them (`Layout.footprint`): the sum over cameras is the size of the file, but for a few pages
and the diary, whose lines are small and leave with their carriers.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from memory.archive import diary
from memory.archive.codec import checksum, head_codec
from memory.archive.layout import layout
from memory.archive.pools import MINUTE, Pooler, bucket_of
from memory.archive.schema import PARTS, read_meta
from memory.archive.types import Line, Outage, Setup
from stream.types import Span

PRUNE_STEP = 256  # rows that one transaction removes at most, but for what a byte quota needs
SETTLE_STEP = 8  # minutes
NEAR_S = 60.0  # spans longer than this have an index of their own


@dataclass(frozen=True, slots=True)
class Prepared:
    """An entry, encoded. `records` are keys, values, digest, picture (empty: none); `id` only when salvaged."""

    camera: str
    frame: int
    span: Span
    score: float
    records: tuple[bytes, bytes, bytes, bytes]
    id: int | None = None


@dataclass(frozen=True, slots=True)
class Extend:
    """The camera's newest frame is still what it shows."""

    camera: str
    frame: int
    last_s: float


Change = Prepared | Extend | Outage | Line


@dataclass(slots=True)
class _Camera:
    id: int
    bytes: int
    rows: int
    minute: int = -1  # of the last insert: still open
    newest: tuple[int, int] | None = None  # frame, id


@dataclass(frozen=True, slots=True)
class Wrote:
    """What a call of `Store.write` did."""

    rows: int = 0
    pruned: int = 0
    refused: int = 0  # larger than the camera's quota by itself


class Store:
    """One connection, one thread. Every method may raise sqlite3.Error, and then has changed nothing."""

    def __init__(self, db: sqlite3.Connection, setup: Setup, first_id: int = 1) -> None:
        self.db, self._setup = db, setup
        shape, _, self.dtype, self.base = read_meta(db)
        self.codec = head_codec(shape, self.dtype)
        self._layout = layout(shape, self.dtype)
        self.pooler = Pooler(db, self.codec, self._layout)
        self._pools_bytes = self._layout.pool_footprint + self._layout.hour_footprint  # that a minute may bring
        self._first_id = first_id
        self._cameras: dict[str, _Camera] = {}
        self._next_id = first_id
        self._load()

    @property
    def bytes(self) -> int:
        """What all carriers and pools take on disk."""
        return sum(camera.bytes for camera in self._cameras.values())

    @property
    def next_id(self) -> int:
        """Of the next carrier."""
        return self._next_id

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, in memory too."""
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
            for camera in self._cameras.values():
                self.db.execute(
                    "UPDATE cameras SET bytes = ?, rows = ? WHERE id = ?", (camera.bytes, camera.rows, camera.id)
                )
            self.db.execute("COMMIT")
        except BaseException:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            self._load()
            raise

    def write(self, changes: Sequence[Change], now_s: float) -> Wrote:
        """Everything in `changes`, in order."""
        rows = pruned = refused = 0
        fresh: list[tuple[int, Prepared]] = []
        with self.transaction():
            for name, camera in self._cameras.items():
                pruned += self._prune_age(name, camera, now_s)
            pruned += self._make_room_for(changes)
            for change in changes:
                if isinstance(change, Extend):
                    self._insert(fresh)
                    fresh = []
                    self._extend(change)
                elif isinstance(change, Outage):
                    self.note(change)
                elif isinstance(change, Line):
                    diary.write(self.db, change)
                else:
                    camera = self.camera(change.camera)
                    need = self._layout.footprint(len(change.records[3]))
                    pruned += self._make_room(change.camera, camera, need + self._pools_bytes, fresh)
                    if not self._fits(change.camera, camera, need):
                        refused += 1
                        continue
                    fresh.append((self._admit(camera, change, need), change))
                    rows += 1
            self._insert(fresh)
        return Wrote(rows, pruned, refused)

    def settle(self) -> tuple[bool, int]:
        """Bring a few closed minutes' pools up to date; whether there are more, and how many carriers made room."""
        camera_of = {camera.id: (name, camera) for name, camera in self._cameras.items()}
        query = "SELECT camera, minute FROM stale ORDER BY camera, minute LIMIT ?"
        found = self.db.execute(query, (SETTLE_STEP + len(camera_of),)).fetchall()
        closed = [(key, minute) for key, minute in found if camera_of[key][1].minute != minute][:SETTLE_STEP]
        if not closed:
            return False, 0
        pruned = 0
        with self.transaction():
            for key, minute in closed:  # one by one: room for eight at once might cost the carriers they are of
                name, camera = camera_of[key]
                pruned += self._make_room(name, camera, self.pooler.need(key, minute), [])
                self.resettle(name, [minute])
        return len(closed) == SETTLE_STEP, pruned

    def resettle(self, name: str, minutes: Sequence[int]) -> None:
        """Recompute the pools of `minutes`, inside a transaction."""
        camera = self._cameras[name]
        camera.bytes += self.pooler.settle(camera.id, minutes)

    def remove(self, name: str, rows: Sequence[tuple[int, float, int]]) -> set[int]:
        """Delete (id, first_s, bytes) inside a transaction; returns the minutes they were of."""
        camera = self._cameras[name]
        ids = [(row_id,) for row_id, _, _ in rows]
        for table in (*PARTS, "frames"):
            self.db.executemany(f"DELETE FROM {table} WHERE id = ?", ids)
        camera.bytes -= sum(size for _, _, size in rows)
        camera.rows -= len(rows)
        if camera.newest and camera.newest[1] in {row_id for row_id, _, _ in rows}:
            camera.newest = None
        return {bucket_of(first_s, MINUTE) for _, first_s, _ in rows}

    def note(self, outage: Outage) -> None:
        """Store a gap inside a transaction; the same (camera, since_s) again is an update."""
        self.db.execute(
            "INSERT INTO outages(camera, since_s, until_s, reason) VALUES(?, ?, ?, ?)"
            " ON CONFLICT(camera, since_s) DO UPDATE SET until_s = excluded.until_s, reason = excluded.reason",
            (outage.camera, outage.since_s, outage.until_s, outage.reason),
        )

    def camera(self, name: str) -> _Camera:
        """Known, or made inside a transaction."""
        known = self._cameras.get(name)
        if known is None:
            cursor = self.db.execute("INSERT INTO cameras(name) VALUES(?)", (name,))
            assert cursor.lastrowid is not None
            known = self._cameras[name] = _Camera(cursor.lastrowid, 0, 0)
        return known

    def names(self) -> list[str]:
        """Of all cameras that ever had a carrier here."""
        return list(self._cameras)

    def _load(self) -> None:
        minutes = {name: camera.minute for name, camera in self._cameras.items()}
        found = self.db.execute("SELECT id, name, bytes, rows FROM cameras").fetchall()
        self._cameras = {name: _Camera(row_id, size, rows, minutes.get(name, -1)) for row_id, name, size, rows in found}
        newest = self.db.execute("SELECT max(id) FROM frames").fetchone()[0]
        told = diary.newest_mark(self.db)  # an id that the diary has passed is not given again
        self._next_id = max(self._first_id, 1 + (newest or 0), 1 + told)

    def _admit(self, camera: _Camera, row: Prepared, need: int) -> int:
        row_id = self._next_id if row.id is None else row.id
        self._next_id = max(self._next_id, row_id + 1)
        camera.bytes += need
        camera.rows += 1
        if row.id is None:
            camera.minute = bucket_of(row.span.first_s, MINUTE)
            camera.newest = (row.frame, row_id)
        return row_id

    def _insert(self, fresh: Sequence[tuple[int, Prepared]]) -> None:
        """Table by table, in order of id: pages fill to the end."""
        frames, minutes = [], set()
        for row_id, row in fresh:
            camera, span = self._cameras[row.camera].id, row.span
            size = self._layout.footprint(len(row.records[3]))
            frames.append((row_id, camera, row.frame, span.first_s, span.last_s, span.count, row.score, size))
            minutes.add((camera, bucket_of(span.first_s, MINUTE)))
        self.db.executemany("INSERT INTO frames VALUES(?, ?, ?, ?, ?, ?, ?, ?)", frames)
        for part, table in enumerate(PARTS):
            records = [(row_id, row.records[part]) for row_id, row in fresh if row.records[part]]
            self.db.executemany(
                f"INSERT INTO {table} VALUES(?, ?, ?)",
                [(row_id, checksum(row_id, record), record) for row_id, record in records],
            )
        self.db.executemany("INSERT OR IGNORE INTO stale VALUES(?, ?)", list(minutes))

    def _extend(self, change: Extend) -> None:
        camera = self._cameras.get(change.camera)
        if camera is None:
            return
        if camera.newest is None:
            query = "SELECT frame, id FROM frames WHERE camera = ? ORDER BY id DESC LIMIT 1"
            camera.newest = self.db.execute(query, (camera.id,)).fetchone()
        if camera.newest is not None and camera.newest[0] == change.frame:
            query = "UPDATE frames SET last_s = max(last_s, ?) WHERE id = ?"
            self.db.execute(query, (change.last_s, camera.newest[1]))

    def _fits(self, name: str, camera: _Camera, need: int) -> bool:
        limit = self._setup.quotas.get(name, self._setup.quota).bytes
        return limit is None or camera.bytes + need <= limit

    def _make_room(self, name: str, camera: _Camera, need: int, fresh: list[tuple[int, Prepared]]) -> int:
        """Remove the oldest until `need` more bytes fit; returns how many went."""
        gone = 0
        while camera.rows and not self._fits(name, camera, need):
            limit = self._setup.quotas.get(name, self._setup.quota).bytes or 0
            query = "SELECT id, first_s, bytes FROM frames WHERE camera = ? ORDER BY id LIMIT ?"
            oldest, missing = [], camera.bytes + need - limit
            for row in self.db.execute(query, (camera.id, PRUNE_STEP)).fetchall():
                oldest.append(row)
                missing -= row[2]
                if missing <= 0:
                    break
            if not oldest and not fresh:
                break
            if not oldest:  # only what this very batch brings is left
                self._insert(fresh)
                fresh.clear()
                continue
            gone += self._drop(name, camera, oldest)
        return gone

    def _make_room_for(self, changes: Sequence[Change]) -> int:
        """For a whole batch at once, which is quicker than row by row."""
        needs: dict[str, int] = {}
        for row in changes:
            if isinstance(row, Prepared):
                needs[row.camera] = needs.get(row.camera, 0) + self._layout.footprint(len(row.records[3]))
        gone = 0
        for name, need in needs.items():
            limit, camera = self._setup.quotas.get(name, self._setup.quota).bytes, self._cameras.get(name)
            if limit is not None and camera is not None and need < limit // 2:
                gone += self._make_room(name, camera, need + self._pools_bytes, [])
        return gone

    def _prune_age(self, name: str, camera: _Camera, now_s: float) -> int:
        limit = self._setup.quotas.get(name, self._setup.quota).age_s
        if limit is None:
            return 0
        diary.prune(self.db, name, now_s - limit)
        if not camera.rows:
            return 0
        query = "SELECT id, first_s, bytes FROM frames WHERE camera = ? AND first_s < ? AND last_s < ? LIMIT ?"
        old = self.db.execute(query, (camera.id, now_s - limit, now_s - limit, PRUNE_STEP)).fetchall()
        return self._drop(name, camera, old) if old else 0

    def _drop(self, name: str, camera: _Camera, rows: Sequence[tuple[int, float, int]]) -> int:
        """The oldest leave, and with them the lines that tell of nothing younger."""
        minutes = self.remove(name, rows)
        camera.bytes += self.pooler.drop_empty(camera.id, minutes)
        oldest_s = self.db.execute("SELECT min(first_s) FROM frames WHERE camera = ?", (camera.id,)).fetchone()[0]
        diary.prune(self.db, name, max(row[1] for row in rows) if oldest_s is None else oldest_s)
        return len(rows)
