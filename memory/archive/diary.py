"""Lines of the diary: a table beside the carriers that they tell of, and a full-text index over their words.

A line and how far the diary has come (`diary_marks`) are written in one transaction: after a kill no carrier is told
of twice, and none is left out. A line leaves with its carriers, by quota, age and erasure.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from memory.archive.types import ArchiveError, Line, LineKind

if TYPE_CHECKING:
    from memory.archive.reader import Reader

DAYS: Sequence[LineKind] = ("day",)
LONG_S = 90_000.0  # no line is longer: a day that the clocks make an hour longer
MOST = 1000  # lines of one answer
FAR_S = 1e12

DDL = """
CREATE TABLE diary(id INTEGER PRIMARY KEY, camera TEXT NOT NULL, first_s REAL NOT NULL, last_s REAL NOT NULL,
                   kind TEXT NOT NULL, text TEXT NOT NULL, confidence REAL, model TEXT NOT NULL);
CREATE INDEX diary_time ON diary(first_s);
CREATE INDEX diary_camera ON diary(camera, first_s);
CREATE VIRTUAL TABLE diary_words USING fts5(text, content='diary', content_rowid='id', tokenize='porter unicode61');
CREATE TABLE diary_marks(camera TEXT PRIMARY KEY, carrier INTEGER NOT NULL) WITHOUT ROWID;
"""
_COLUMNS = "id, camera, first_s, last_s, kind, text, confidence, model"

# -- the writer's side, inside a transaction of its


def write(db: sqlite3.Connection, line: Line) -> bool:
    """Store a line and move its camera's mark; False: it is there already, or was erased before it came."""
    erased = "SELECT 1 FROM erasures WHERE id > ? AND (camera IS NULL OR camera = ?) AND since_s <= ? AND until_s >= ?"
    if db.execute(erased, (line.epoch, line.camera, line.last_s, line.first_s)).fetchone():
        return False
    there = "SELECT 1 FROM diary WHERE camera = ? AND first_s = ? AND kind = ?"
    key = (line.camera, line.first_s, line.kind)
    if mark(db, line.camera) >= line.carrier if line.carrier else db.execute(there, key).fetchone():
        return False
    row_id = db.execute(
        "INSERT INTO diary(camera, first_s, last_s, kind, text, confidence, model) VALUES(?, ?, ?, ?, ?, ?, ?)",
        (line.camera, line.first_s, line.last_s, line.kind, line.text, line.confidence, line.model),
    ).lastrowid
    db.execute("INSERT INTO diary_words(rowid, text) VALUES(?, ?)", (row_id, line.text))
    if line.carrier:
        db.execute("INSERT OR REPLACE INTO diary_marks VALUES(?, ?)", (line.camera, line.carrier))
    return True


def mark(db: sqlite3.Connection, camera: str) -> int:
    """Id of the last carrier that the diary told of; 0: of none."""
    found = db.execute("SELECT carrier FROM diary_marks WHERE camera = ?", (camera,)).fetchone()
    return 0 if found is None else int(found[0])


def newest_mark(db: sqlite3.Connection) -> int:
    """The highest of all cameras' marks."""
    return int(db.execute("SELECT max(carrier) FROM diary_marks").fetchone()[0] or 0)


def prune(db: sqlite3.Connection, camera: str, before_s: float) -> None:
    """Lines that end before `before_s` leave."""
    where = "camera = ? AND first_s < ? AND last_s < ?"
    _remove(db, db.execute(f"SELECT id, text FROM diary WHERE {where}", (camera, before_s, before_s)).fetchall())


def erase(db: sqlite3.Connection, camera: str | None, since_s: float, until_s: float) -> int:
    """Lines that touch the range leave whole; so does every byte of their words. Returns how many."""
    where = "first_s <= ? AND last_s >= ?" + (" AND camera = ?" if camera is not None else "")
    values = (until_s, since_s, *([camera] if camera is not None else []))
    found = db.execute(f"SELECT id, text FROM diary WHERE {where}", values).fetchall()
    if found:
        _remove(db, found)
        # words that were deleted stay in the index until parts of it are merged; made anew it has none of them
        db.execute("INSERT INTO diary_words(diary_words) VALUES('rebuild')")
    return len(found)


def _remove(db: sqlite3.Connection, rows: Sequence[tuple[int, str]]) -> None:
    db.executemany("INSERT INTO diary_words(diary_words, rowid, text) VALUES('delete', ?, ?)", rows)
    db.executemany("DELETE FROM diary WHERE id = ?", [(row_id,) for row_id, _ in rows])


# -- the reading side


def check_words(words: str) -> None:
    """Raises ArchiveError where `words` is no query of SQLite's FTS5: asked of an empty index, not of ours."""
    db = sqlite3.connect(":memory:")
    try:
        db.execute("CREATE VIRTUAL TABLE empty USING fts5(text, tokenize='porter unicode61')")
        db.execute("SELECT 1 FROM empty WHERE empty MATCH ?", (words,)).fetchall()
    except (sqlite3.Error, UnicodeError) as error:
        reason = str(error).removeprefix("fts5: ")
        hint = 'put words with signs in them in double quotes, e.g. "half-open", and combine with AND, OR, NOT'
        raise ArchiveError(f"search {words[:80]!r}: {reason}; {hint}", "bad_words") from None
    finally:
        db.close()


def lines(  # noqa: PLR0913 - what a reader may want to narrow it by
    reader: Reader,
    camera: str | None = None,
    since_s: float | None = None,
    until_s: float | None = None,
    words: str | None = None,
    limit: int = MOST,
    kinds: Sequence[LineKind] | None = None,
) -> list[Line]:
    """Lines that touch [since_s, until_s], in time order; of more than `limit` the newest. `camera` None: of all.

    `words` is a query of SQLite's FTS5: all its words, in any form (`cars` finds `car`). Raises ArchiveError for one
    that cannot be read.
    """
    since = -FAR_S if since_s is None else since_s
    where, values = "first_s <= ? AND first_s >= ? AND last_s >= ?", list[Any]()
    values += [FAR_S if until_s is None else until_s, since - LONG_S, since]
    if camera is not None:
        where += " AND camera = ?"
        values.append(camera)
    if kinds is not None:
        where += f" AND kind IN ({','.join('?' * len(kinds))})"
        values += kinds
    if words is not None:
        check_words(words)
        where += " AND id IN (SELECT rowid FROM diary_words WHERE diary_words MATCH ?)"
        values.append(words)
    query = f"SELECT {_COLUMNS} FROM diary WHERE {where} ORDER BY first_s DESC, id DESC LIMIT ?"
    found = [_line(row) for row in reader.select(query, (*values, limit))] if kept(reader) else []
    return found[::-1]


def kept(reader: Reader) -> bool:
    """Whether the file has a diary: one that an older version wrote has none until a daemon opens it."""
    return any(reader.select("SELECT 1 FROM sqlite_schema WHERE name = 'diary_words'", ()))


def whole(rows: Callable[[str], Iterable[tuple[Any, ...]]]) -> list[Line]:
    """Everything that a damaged file still tells, for another file; the last line of each camera moves its mark."""
    marks = dict(rows("SELECT camera, carrier FROM diary_marks"))
    found = [_line(row) for row in rows(f"SELECT {_COLUMNS} FROM diary ORDER BY id DESC")]
    for place, line in enumerate(found):
        found[place] = replace(line, carrier=marks.pop(line.camera, 0) if line.kind != "day" else 0)
    return found[::-1]


def _line(row: tuple[Any, ...]) -> Line:
    row_id, camera, first_s, last_s, kind, text, confidence, model = row
    return Line(camera, first_s, last_s, text, kind, confidence, model, id=row_id)
