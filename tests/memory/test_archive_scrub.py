"""What SQLite leaves between the cells of a page when it moves rows is zeroed; everything else stays as it is."""

from __future__ import annotations

import random
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from memory.archive.scrub import scrub

PAGE = 16_384


def worn(path: Path, seed: int, where: str) -> dict[int, bytes]:
    """A database after much inserting and deleting; the rows that are left."""
    rng = random.Random(seed)
    db = sqlite3.connect(path, isolation_level=None)
    for pragma in (f"page_size={PAGE}", "journal_mode=WAL", "secure_delete=ON"):
        db.execute(f"PRAGMA {pragma}").fetchall()
    db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, crc INTEGER, data BLOB)")
    rows: dict[int, bytes] = {}
    for step in range(60):
        fresh = {10 * step + number: rng.randbytes(rng.randint(1_500, 5_000)) for number in range(1, 11)}
        rows |= fresh
        db.execute("BEGIN")
        db.executemany("INSERT INTO t VALUES(?, 1, ?)", fresh.items())
        if len(rows) > 60:
            ids = sorted(rows)
            first = 0 if where == "oldest" else rng.randrange(len(ids))
            for row_id in ids[first : first + rng.randint(1, 15)]:
                db.execute("DELETE FROM t WHERE id = ?", (row_id,))
                del rows[row_id]
        db.execute("COMMIT")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    db.close()
    return rows


def gaps(path: Path) -> Iterator[bytes]:
    """The space between cell pointers and cells, page by page."""
    raw = path.read_bytes()
    for at in range(0, len(raw), PAGE):
        start = at + (100 if at == 0 else 0)
        kind, _, cells, content, _ = struct.unpack(">BHHHB", raw[start : start + 8])
        if kind in (2, 5, 10, 13):
            yield raw[start + (8 if kind > 5 else 12) + 2 * cells : at + (content or 65_536)]


@pytest.mark.parametrize("where", ["oldest", "anywhere"])
@pytest.mark.parametrize("seed", range(4))
def test_unused_space_is_zeroed_and_nothing_else(tmp_path: Path, seed: int, where: str) -> None:
    path = tmp_path / "t.sqlite"
    rows = worn(path, seed, where)
    assert any(any(gap) for gap in gaps(path)), "without leftovers this shows nothing"
    assert scrub(path) > 0
    assert not any(any(gap) for gap in gaps(path))
    assert scrub(path) == 0
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert dict(db.execute("SELECT id, data FROM t").fetchall()) == rows
        db.execute("INSERT INTO t VALUES(0, 0, zeroblob(9000))")
    db.close()


@pytest.mark.parametrize("content", [b"", b"short", b"\0" * 200, b"text " * 5_000])
def test_anything_else_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.sqlite"
    path.write_bytes(content)
    assert scrub(path) == 0
    assert path.read_bytes() == content
