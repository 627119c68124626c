"""Truly erasing a range: rows, spans, pools, and every byte that the file or its log still holds of them.

A request is a row of `erasures` first, so that a kill in the middle only delays it. Its `done_s` is set last.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from memory.archive import diary
from memory.archive.store import NEAR_S, Store
from memory.archive.types import ERASED, ArchiveError, Outage

STEP_ROWS = 256
LOG_S = 30.0  # readers hold the log for milliseconds at a time
SCRUB_S = 3_600.0


@dataclass(frozen=True, slots=True)
class Erasure:
    """A request. `camera` None is all of them."""

    id: int
    camera: str | None
    since_s: float
    until_s: float


def request(db: sqlite3.Connection, asked_s: float, camera: str | None, since_s: float, until_s: float) -> int:
    """Ask for an erasure; returns its id. Any connection may. Raises sqlite3.Error."""
    query = "INSERT INTO erasures(asked_s, camera, since_s, until_s) VALUES(?, ?, ?, ?)"
    found = db.execute(query, (asked_s, camera, since_s, until_s)).lastrowid
    assert found is not None
    return found


def pending(db: sqlite3.Connection) -> list[Erasure]:
    """Requests that are not done, oldest first."""
    query = "SELECT id, camera, since_s, until_s FROM erasures WHERE done_s IS NULL ORDER BY id"
    return [Erasure(*row) for row in db.execute(query)]


def erase_rows(store: Store, what: Erasure, between: Callable[[], None]) -> tuple[int, int]:
    """Rows erased and spans trimmed, in small transactions with a call of `between` after each."""
    rows = trimmed = 0
    for name in store.names() if what.camera is None else [what.camera]:
        if name not in store.names():
            continue
        camera = store.camera(name)
        query = "SELECT id, first_s, bytes FROM frames WHERE camera = ? AND first_s >= ? AND first_s <= ? LIMIT ?"
        key = (camera.id, what.since_s, what.until_s, STEP_ROWS)
        while found := store.db.execute(query, key).fetchall():
            with store.transaction():
                touched = store.remove(name, found)
                store.db.executemany(
                    "INSERT OR IGNORE INTO stale VALUES(?, ?)", [(camera.id, minute) for minute in touched]
                )
            rows += len(found)
            between()
        with store.transaction():
            trimmed += _trim(store, camera.id, what)
            store.note(Outage(name, what.since_s, what.until_s, ERASED))
        query = "SELECT minute FROM stale WHERE camera = ? AND minute BETWEEN ? AND ? ORDER BY minute"
        span = (what.since_s / 60 - 1, what.until_s / 60 + 1)  # of an earlier attempt that was killed too
        ordered = [minute for (minute,) in store.db.execute(query, (camera.id, *span)).fetchall()]
        for start in range(0, len(ordered), STEP_ROWS):
            with store.transaction():
                store.resettle(name, ordered[start : start + STEP_ROWS])
            between()
    with store.transaction():
        diary.erase(store.db, what.camera, what.since_s, what.until_s)
    return rows, trimmed


def _trim(store: Store, camera: int, what: Erasure) -> int:
    """Spans that begin before the range and reach into it end where it begins."""
    trimmed = 0
    for where in ("first_s >= :near", "first_s < :near AND last_s - first_s > 60"):
        trimmed += store.db.execute(
            "UPDATE frames SET last_s = :since"
            f" WHERE camera = :camera AND first_s < :since AND last_s >= :since AND {where}",
            {"camera": camera, "since": what.since_s, "near": what.since_s - NEAR_S},
        ).rowcount
    return trimmed


def empty_log(db: sqlite3.Connection) -> None:
    """Move the log into the file and cut it to nothing. Raises ArchiveError when readers do not let go of it."""
    deadline_s = time.monotonic() + LOG_S
    while db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] != 0:
        if time.monotonic() > deadline_s:
            raise ArchiveError("archive: a reader holds the log; the erased bytes go when it ends", "locked")
        time.sleep(0.05)


def scrub_file(path: Path) -> None:
    """See `scrub.py`; the writer's connection must be closed. Raises ArchiveError."""
    command = [sys.executable, "-I", str(Path(__file__).with_name("scrub.py")), str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SCRUB_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ArchiveError(f"archive: unused space could not be zeroed: {error}") from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ArchiveError(f"archive: unused space could not be zeroed: {last}")


def newest_s(db: sqlite3.Connection, now_s: float) -> float:
    """The end of an open range: now, or the newest carrier where the clock was set back."""
    query = "SELECT max(first_s) FROM frames WHERE camera = ?"
    cameras = db.execute("SELECT id FROM cameras").fetchall()
    return max([now_s, *(db.execute(query, key).fetchone()[0] or 0.0 for key in cameras)])


def finish(db: sqlite3.Connection, request_id: int, done_s: float, rows: int) -> None:
    """Whoever waits for the request may see now that it is done."""
    db.execute("UPDATE erasures SET done_s = ?, rows = ? WHERE id = ?", (done_s, rows, request_id))
