"""What standing questions found: past events with a picture a camera, over restarts; bounded, in a small SQLite file.

    post --put, forget--> one thread --> watch.sqlite <-- events, picture -- API

Whatever the disk does, the questions go on: what could not be kept is said once and counted.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import structlog

from daemon.metrics import Counters
from daemon.wire import WatchEventWire

FILE = "watch.sqlite"
MOST = 3000  # events of all questions
MOST_OF_ONE = 300  # so that one that says much does not take the others' place
MOST_PICTURES = 8  # of one event
WAITING = 256  # changes that wait for the disk
T = TypeVar("T")
_TABLES = """
CREATE TABLE IF NOT EXISTS events (id TEXT PRIMARY KEY, watch TEXT NOT NULL, start_s REAL NOT NULL,
    event TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS by_watch ON events (watch, start_s);
CREATE INDEX IF NOT EXISTS by_start ON events (start_s);
CREATE TABLE IF NOT EXISTS pictures (event TEXT NOT NULL REFERENCES events (id) ON DELETE CASCADE, camera TEXT NOT NULL,
    t REAL NOT NULL, jpeg BLOB NOT NULL, PRIMARY KEY (event, camera));
"""


@dataclass(frozen=True, slots=True)
class Past:
    """An event as it was last told, without evidence; `shown`: camera and epoch seconds of each picture, in order."""

    event: WatchEventWire
    shown: tuple[tuple[str, float], ...]


class History:
    """See the module. With `folder` None it ends with the process. Any thread may call; nothing here raises."""

    def __init__(self, folder: Path | None, counters: Counters) -> None:
        self._path = None if folder is None else folder / FILE
        self._counters = counters
        self._db: sqlite3.Connection | None = None  # of the thread
        self._thread = ThreadPoolExecutor(1, "watch-history")
        self._waiting = 0
        self._failed = self._closed = False
        self._log = structlog.get_logger("longwatch.watch")

    def put(self, kind: str, event: WatchEventWire, pictures: Sequence[tuple[str, float, bytes]] = ()) -> None:
        """Keep a `new` event, or what became of it; `pictures`: camera, epoch seconds, JPEG."""
        if self._waiting >= WAITING:
            self._lost("the disk is too slow")
            return
        self._waiting += 1
        self._do(lambda db: _put(db, kind, event, pictures)).add_done_callback(self._done)

    def forget(self, camera: str | None, since_s: float, until_s: float) -> None:
        """Events that began in that time go, and pictures of it. `camera` None: of all cameras."""
        self._do(lambda db: _forget(db, camera, since_s, until_s))

    def events(self, watch: str, before_s: float, most: int) -> Future[list[Past] | None]:
        """The newest `most` of a question that began before `before_s`, newest first. None: they cannot be read."""
        return self._do(lambda db: _events(db, watch, before_s, most))

    def picture(self, watch: str, event: str, camera: str) -> Future[bytes | None]:
        """The JPEG of what `camera` showed."""
        return self._do(lambda db: _picture(db, watch, event, camera))

    def close(self) -> None:
        """Write what waits, and let go of the file. Blocks. What comes later is not kept."""
        if not self._closed:
            self._closed = True
            self._thread.submit(lambda: self._db.close() if self._db is not None else None)
            self._thread.shutdown()

    def _do(self, what: Callable[[sqlite3.Connection], T]) -> Future[T | None]:
        def work() -> T | None:
            try:
                self._db = self._db or self._open()
                with self._db:
                    found = what(self._db)
            except (sqlite3.Error, OSError) as error:
                self._lost(str(error))
                return None
            self._failed = False
            return found

        if self._closed:
            nothing: Future[T | None] = Future()
            nothing.set_result(None)
            return nothing
        return self._thread.submit(work)

    def _done(self, _: Future[None]) -> None:
        self._waiting -= 1

    def _lost(self, reason: str) -> None:
        self._counters.count("watch_history_faults")
        if not self._failed:
            self._log.error("the history of standing questions is not kept, or cannot be read", reason=reason)
        self._failed = True

    def _open(self) -> sqlite3.Connection:
        if self._path is None:
            return _connect(":memory:")
        self._path.touch(0o600)
        try:
            return _connect(str(self._path))
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):  # full, read-only: not the file's fault
                raise
            aside = self._path.with_name(f"{FILE}.damaged-{int(time.time())}")
            self._path.replace(aside)
            self._log.error(
                "history of standing questions cannot be used; set aside", reason=str(error), now=aside.name
            )
            self._path.touch(0o600)
            return _connect(str(self._path))


def _connect(path: str) -> sqlite3.Connection:
    db = sqlite3.connect(path, check_same_thread=False, timeout=5.0)
    try:
        db.execute("PRAGMA secure_delete = ON")  # what is erased is overwritten
        db.execute("PRAGMA foreign_keys = ON")
        db.executescript(_TABLES)
    except sqlite3.Error:
        db.close()
        raise
    return db


def _put(
    db: sqlite3.Connection, kind: str, event: WatchEventWire, pictures: Sequence[tuple[str, float, bytes]]
) -> None:
    text = event.model_dump_json(exclude={"evidence"})
    if kind == "new":
        row = (event.id, event.watch, event.start_time, text)
        db.execute("INSERT OR REPLACE INTO events (id, watch, start_s, event) VALUES (?, ?, ?, ?)", row)
    elif not db.execute("UPDATE events SET event = ? WHERE id = ?", (text, event.id)).rowcount:
        return  # erased meanwhile
    (have,) = db.execute("SELECT count(*) FROM pictures WHERE event = ?", (event.id,)).fetchone()
    rows = [(event.id, *picture) for picture in pictures[: max(0, MOST_PICTURES - have)]]
    db.executemany("INSERT OR REPLACE INTO pictures (event, camera, t, jpeg) VALUES (?, ?, ?, ?)", rows)
    if kind == "new":
        older = "DELETE FROM events WHERE id IN (SELECT id FROM events {} ORDER BY start_s DESC LIMIT -1 OFFSET ?)"
        db.execute(older.format("WHERE watch = ?"), (event.watch, MOST_OF_ONE))
        db.execute(older.format(""), (MOST,))


def _forget(db: sqlite3.Connection, camera: str | None, since_s: float, until_s: float) -> None:
    rows = db.execute("SELECT id, event FROM events WHERE start_s BETWEEN ? AND ?", (since_s, until_s)).fetchall()
    gone = [(name,) for name, text in rows if camera is None or camera in json.loads(text)["cameras"]]
    db.executemany("DELETE FROM events WHERE id = ?", gone)
    whose = "" if camera is None else " AND camera = ?"
    values = (since_s, until_s) if camera is None else (since_s, until_s, camera)
    db.execute(f"DELETE FROM pictures WHERE t BETWEEN ? AND ?{whose}", values)


def _events(db: sqlite3.Connection, watch: str, before_s: float, most: int) -> list[Past]:
    rows = db.execute(
        "SELECT id, event FROM events WHERE watch = ? AND start_s < ? ORDER BY start_s DESC, id LIMIT ?",
        (watch, before_s, most),
    ).fetchall()
    shown = "SELECT camera, t FROM pictures WHERE event = ? ORDER BY t, camera"
    return [
        Past(WatchEventWire.model_validate_json(text), tuple(db.execute(shown, (name,)).fetchall()))
        for name, text in rows
    ]


def _picture(db: sqlite3.Connection, watch: str, event: str, camera: str) -> bytes | None:
    row = db.execute(
        "SELECT jpeg FROM pictures JOIN events ON id = pictures.event WHERE watch = ? AND id = ? AND camera = ?",
        (watch, event, camera),
    ).fetchone()
    return None if row is None else bytes(row[0])
