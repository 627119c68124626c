"""The file itself: its tables, its version, how it is opened, and what becomes of a file that cannot be used.

Keys, values, digests and pictures lie in tables of their own, so that scoring keys reads nothing else. A file is never
overwritten or deleted: one that is not ours, newer, or of another model is renamed, with its log, and said.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from memory.archive import diary
from memory.archive.layout import layout
from memory.archive.types import ArchiveError, Dtype, Floats, Setup, Shape

APPLICATION_ID = 0x4C574152  # "LWAR"
VERSION = 2
BUSY_S = 5.0
CACHE_KIB = 4_096

DDL = """
CREATE TABLE meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE cameras(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, bytes INTEGER NOT NULL DEFAULT 0,
                     rows INTEGER NOT NULL DEFAULT 0);
CREATE TABLE frames(id INTEGER PRIMARY KEY, camera INTEGER NOT NULL, frame INTEGER NOT NULL, first_s REAL NOT NULL,
                    last_s REAL NOT NULL, count INTEGER NOT NULL, score REAL, bytes INTEGER NOT NULL);
CREATE INDEX frames_camera ON frames(camera);
CREATE INDEX frames_time ON frames(camera, first_s);
CREATE INDEX frames_long ON frames(camera, first_s) WHERE last_s - first_s > 60;
CREATE TABLE keys(id INTEGER PRIMARY KEY, crc INTEGER NOT NULL, data BLOB NOT NULL);
CREATE TABLE "values"(id INTEGER PRIMARY KEY, crc INTEGER NOT NULL, data BLOB NOT NULL);
CREATE TABLE digests(id INTEGER PRIMARY KEY, crc INTEGER NOT NULL, data BLOB NOT NULL);
CREATE TABLE pictures(id INTEGER PRIMARY KEY, crc INTEGER NOT NULL, data BLOB NOT NULL);
CREATE TABLE pools(id INTEGER PRIMARY KEY, camera INTEGER NOT NULL, level INTEGER NOT NULL, bucket INTEGER NOT NULL,
                   data BLOB NOT NULL, UNIQUE(camera, level, bucket));
CREATE TABLE stale(camera INTEGER NOT NULL, minute INTEGER NOT NULL, PRIMARY KEY(camera, minute)) WITHOUT ROWID;
CREATE TABLE outages(id INTEGER PRIMARY KEY, camera TEXT NOT NULL, since_s REAL NOT NULL, until_s REAL,
                     reason TEXT NOT NULL, UNIQUE(camera, since_s));
CREATE TABLE erasures(id INTEGER PRIMARY KEY, asked_s REAL NOT NULL, camera TEXT, since_s REAL NOT NULL,
                      until_s REAL NOT NULL, done_s REAL, rows INTEGER);
"""
PARTS = ("keys", '"values"', "digests", "pictures")
MIGRATIONS: Mapping[int, str] = {1: diary.DDL}  # version -> statements that make the next version of it

# sqlite's primary result codes -> the word that states use
_REASONS = {5: "locked", 6: "locked", 8: "read_only", 11: "corrupt", 13: "full", 14: "cannot_open", 26: "not_ours"}


def reason_of(error: sqlite3.Error | OSError) -> str:
    """full, read_only, corrupt, locked, cannot_open, not_ours or io."""
    code = getattr(error, "sqlite_errorcode", None)
    if isinstance(error, OSError):
        return {28: "full", 122: "full", 30: "read_only", 13: "read_only", 1: "read_only"}.get(error.errno or 0, "io")
    return "io" if code is None else _REASONS.get(code & 0xFF, "io")


def connect(path: Path, *, read_only: bool, frozen: bool = False) -> sqlite3.Connection:
    """A connection in autocommit mode, bounded in memory. Raises sqlite3.Error.

    `frozen`: on a read-only disk. The log, which holds what was committed last, is read there too, unless that needs
    a file beside it that is not there: then the main file alone, without any lock.
    """
    if not frozen:
        return _connect(path, "ro" if read_only else "rwc")
    try:
        db = _connect(path, "ro")
        db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.OperationalError:
        return _connect(path, "ro&immutable=1")
    return db


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    """No mmap: reading a truncated file through it would kill the process."""
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    db = sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        db.execute(f"PRAGMA cache_size={-CACHE_KIB}")
    except sqlite3.Error:
        db.close()
        raise
    return db


def writable(path: Path) -> bool:
    """Whether files can be made beside `path`."""
    return os.access(path.parent, os.W_OK)


def open_file(path: Path, setup: Setup, migrations: Mapping[int, str] = MIGRATIONS) -> sqlite3.Connection:
    """The writer's connection to a new or known file, brought to the newest version.

    Raises sqlite3.Error, or ArchiveError with reason `not_ours`, `newer` or `other_model`: set it aside then.
    Reads a few pages only, whatever the size.
    """
    db = connect(path, read_only=False)
    try:
        if db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0:  # new, or killed while it was made
            _create(db, setup)
        _check(db, path, setup)
        _tune(db)
        migrate(db, migrations)
        db.execute("SELECT max(id) FROM frames").fetchone()
    except (sqlite3.Error, ArchiveError):
        db.close()
        raise
    return db


def migrate(db: sqlite3.Connection, migrations: Mapping[int, str]) -> None:
    """One transaction per version: a kill in between leaves a whole file of some version."""
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    while version in migrations:
        db.executescript(f"BEGIN; {migrations[version]}; PRAGMA user_version={version + 1}; COMMIT;")
        version += 1


def read_meta(db: sqlite3.Connection) -> tuple[Shape, str, Dtype, Floats | None]:
    """What is fixed for the life of a file. Raises sqlite3.Error or ArchiveError."""
    found = dict(db.execute("SELECT name, value FROM meta").fetchall())
    try:
        shape = Shape(*json.loads(found["shape"]))
        raw = found["base"]
        base = np.frombuffer(raw, np.float32).reshape(shape.heads) if raw is not None else None
        return shape, found["identity"], found["dtype"], base
    except (KeyError, TypeError, ValueError) as error:
        raise ArchiveError(f"archive: its description cannot be read ({error!r})", "not_ours") from error


def set_aside(path: Path, wall_s: float) -> Path:
    """Rename the file with its log to `<name>.set-aside-<UTC>`, never over another. Raises OSError."""
    stamp = datetime.fromtimestamp(wall_s, UTC).strftime("%Y%m%dT%H%M%SZ")
    target, number = path.with_name(f"{path.name}.set-aside-{stamp}"), 1
    while target.exists():
        number += 1
        target = path.with_name(f"{path.name}.set-aside-{stamp}-{number}")
    for suffix in ("-wal", "-shm", ""):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(target.with_name(target.name + suffix))
    return target


def aside_files(path: Path) -> list[Path]:
    """Files that were set aside earlier, oldest first."""
    found = path.parent.glob(f"{path.name}.set-aside-*")
    return sorted(item for item in found if not item.name.endswith(("-wal", "-shm")))


def _create(db: sqlite3.Connection, setup: Setup) -> None:
    db.execute(f"PRAGMA page_size={layout(setup.shape, setup.dtype).page}")
    db.execute("PRAGMA journal_mode=WAL").fetchone()
    shape = setup.shape
    base = None if setup.base is None else np.asarray(setup.base, np.float32).reshape(shape.heads).tobytes()
    meta = {
        "shape": json.dumps([shape.layers, shape.kv_heads, shape.head_width, shape.width]),
        "identity": setup.identity,
        "dtype": setup.dtype,
        "base": base,
    }
    db.execute("BEGIN IMMEDIATE")
    for statement in (DDL + diary.DDL).split(";"):
        db.execute(statement)
    db.executemany("INSERT INTO meta VALUES(?, ?)", list(meta.items()))
    db.execute(f"PRAGMA application_id={APPLICATION_ID}")
    db.execute(f"PRAGMA user_version={VERSION}")
    db.execute("COMMIT")


def _check(db: sqlite3.Connection, path: Path, setup: Setup) -> None:
    if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise ArchiveError(f"{path} is a database of something else", "not_ours")
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version > VERSION:
        raise ArchiveError(f"{path} has version {version}, this program knows {VERSION}; use a newer one", "newer")
    shape, identity, _, _ = read_meta(db)
    if (shape, identity) != (setup.shape, setup.identity):
        raise ArchiveError(f"{path} holds carriers of another model ({identity}, now {setup.identity})", "other_model")


def _tune(db: sqlite3.Connection) -> None:
    """NORMAL loses nothing when the process is killed; when power goes, what came after the last checkpoint may."""
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "wal_autocheckpoint=0", "secure_delete=ON"):
        db.execute(f"PRAGMA {pragma}").fetchall()
