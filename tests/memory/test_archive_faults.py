"""Disks and files break in every way; each is said once, memory is not disturbed, and nothing else is lost."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from memory.archive import Archive, Fault, Reader, Shape, schema
from tests.memory.archives import SHAPE, T0, WAIT_S, StillClock, entry, fill, opened, reasons, setup

MANY = 400


def until(condition: Callable[[], object]) -> None:
    """Wait for it."""
    deadline_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


@contextmanager
def files_of_at_most(limit: int) -> Iterator[None]:
    """Writing beyond it fails, as on a disk with an error."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Three megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True)
    if done.returncode != 0:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def filled(path: Path, count: int = MANY) -> list[int]:
    """An archive with that many carriers; their ids."""
    with opened(path) as archive:
        fill(archive, [entry(frame) for frame in range(count)])
    return list(range(1, count + 1))


def pages_of(path: Path, table: str) -> list[int]:
    """Where the leaf pages of a table lie in the file."""
    db = sqlite3.connect(path)
    size = db.execute("PRAGMA page_size").fetchone()[0]
    root = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()[0]
    db.close()
    raw = path.read_bytes()
    head = raw[(root - 1) * size :]
    if head[0] == 13:
        return [(root - 1) * size]
    cells = int.from_bytes(head[3:5], "big")
    at = [int.from_bytes(head[12 + 2 * cell : 14 + 2 * cell], "big") for cell in range(cells)]
    children = [int.from_bytes(head[where : where + 4], "big") for where in at]
    last = int.from_bytes(head[8:12], "big")
    return [(number - 1) * size for number in [*children, last]]


def emptied(path: Path) -> None:
    """All of the log in the file itself: through a connection of its own, since the writer's is the writer's alone."""
    db = sqlite3.connect(path, timeout=WAIT_S)
    until(lambda: db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0)
    db.close()


def damage(path: Path, at: int, count: int = 512) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\xa5" * count)


def test_a_full_disk_is_said_once_and_nothing_that_was_written_is_lost(small_disk: Path) -> None:
    faults: list[Fault] = []
    with opened(small_disk / "archive.sqlite", on_fault=faults.append, queue=100) as archive:
        fill(archive, [entry(frame) for frame in range(100)])
        ballast = small_disk / "ballast"
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4_096))
        frame = 100
        while archive.state().ok:
            archive.put(entry(frame))
            frame += 1
            time.sleep(0.0005)
        time.sleep(0.5)
        assert not archive.state().ok
        assert archive.state().reason == "full"
        assert reasons(faults) == ["full"]
        assert "full" in faults[0].detail
        assert len(archive.reader().rows("door", T0, T0 + 99)) == 100, "reading goes on"
        ballast.unlink()
        assert archive.flush(WAIT_S)
        assert reasons(faults) == ["full", "ok"]
        assert archive.state().ok
        newest = archive.reader().newest("door")
        assert newest is not None
        assert newest.frame == frame - 1


def test_a_read_only_disk(small_disk: Path) -> None:
    faults: list[Fault] = []
    path = small_disk / "archive.sqlite"
    filled(path, 50)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    archive = Archive.open(path, setup(on_fault=faults.append))
    archive.put(entry(50))
    until(lambda: reasons(faults))
    assert not archive.flush(0.2)
    assert archive.state().reason == "read_only"
    reader = archive.reader()
    assert len(reader.rows("door", None, None)) == 50, "reading goes on"
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    assert archive.flush(WAIT_S)
    assert reasons(faults) == ["read_only", "ok"]
    assert len(reader.rows("door", None, None)) == 51
    assert reader.faults == 0
    assert archive.close(WAIT_S)


def test_a_disk_that_does_not_write(tmp_path: Path) -> None:
    faults: list[Fault] = []
    path = tmp_path / "archive.sqlite"
    with opened(path, on_fault=faults.append) as archive:
        fill(archive, [entry(frame) for frame in range(50)])
        with files_of_at_most(1):
            archive.put(entry(50))
            until(lambda: not archive.state().ok)
            assert not archive.flush(0.3)
        assert archive.flush(WAIT_S)
        assert [reason in ("io", "full") for reason in reasons(faults)] == [True, False]
        assert [row.frame for row in archive.reader().rows("door", None, None)] == list(range(51))


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    faults: list[Fault] = []
    archive = Archive.open(tmp_path / "file" / "archive.sqlite", setup(on_fault=faults.append))
    archive.put(entry(0))
    assert not archive.flush(0.3)
    with pytest.raises(Exception, match="file"):
        archive.forget(None, None, None).result(WAIT_S)
    assert len(faults) == 1
    assert archive.close(WAIT_S)


def test_a_locked_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "BUSY_S", 0.05)
    faults: list[Fault] = []
    path = tmp_path / "archive.sqlite"
    with opened(path, on_fault=faults.append) as archive:
        fill(archive, [entry(0)])
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        archive.put(entry(1))
        until(lambda: not archive.state().ok)
        assert archive.state().reason == "locked"
        other.execute("ROLLBACK")
        other.close()
        assert archive.flush(WAIT_S)
        assert reasons(faults) == ["locked", "ok"]


@pytest.mark.parametrize(
    ("spoil", "brought"),
    [
        (lambda path: path.write_bytes(b"this is no database " * 999), False),
        (lambda path: damage(path, 0, 100), False),
        (lambda path: _other_program(path), False),
        (lambda path: _newer(path), False),
        (lambda path: os.truncate(path, path.stat().st_size // 2), True),
        (lambda path: os.truncate(path, 100), True),
    ],
    ids=["text", "header", "foreign", "newer", "half", "stub"],
)
def test_a_file_that_cannot_be_used_is_set_aside(
    tmp_path: Path, spoil: Callable[[Path], object], brought: bool
) -> None:
    path = tmp_path / "archive.sqlite"
    filled(path)
    spoil(path)
    before = path.read_bytes()
    faults: list[Fault] = []
    began_s = time.monotonic()
    archive = Archive.open(path, setup(on_fault=faults.append, clock=StillClock()))
    assert time.monotonic() - began_s < 1.0
    fill(archive, [entry(MANY)])
    assert archive.state().ok
    assert reasons(faults)[0] == "set_aside"
    (aside,) = schema.aside_files(path)
    assert aside.name == "archive.sqlite.set-aside-20231114T000000Z"
    assert aside.read_bytes()[: len(before)] == before[: aside.stat().st_size]
    if brought:
        until(lambda: "salvaged" in reasons(faults))
    newest = archive.reader().newest("door")
    assert newest is not None
    assert newest.frame == MANY
    assert archive.close(WAIT_S)


def _other_program(path: Path) -> None:
    path.unlink()
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE accounts(id, sum)")
    db.commit()
    db.close()


def _newer(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.commit()
    db.close()


@pytest.mark.parametrize("change", [{"identity": "other"}, {"shape": replace(SHAPE, width=32)}])
def test_carriers_of_another_model_are_kept_but_not_read(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "archive.sqlite"
    filled(path, 10)
    for number in (1, 2):  # there and back again: never over another file
        faults: list[Fault] = []
        archive = Archive.open(
            path, setup(on_fault=faults.append, clock=StillClock(), **(change if number == 1 else {}))
        )
        assert reasons(faults) == ["set_aside"]
        assert "another model" in faults[0].detail
        assert archive.reader().newest("door") is None
        assert len(schema.aside_files(path)) == number
        assert archive.close(WAIT_S)
    db = sqlite3.connect(schema.aside_files(path)[0])
    assert db.execute("SELECT count(*) FROM frames").fetchone() == (10,)
    db.close()


def test_readers_leave_out_what_is_damaged_and_go_on(tmp_path: Path) -> None:
    path = tmp_path / "archive.sqlite"
    ids = filled(path)
    damage(path, pages_of(path, "keys")[2] + 5_000, 64)  # content: a checksum sees it
    damage(path, pages_of(path, "values")[4], 64)  # a page's head: SQLite sees it
    reader = Reader.open(path)
    good, keys, _ = reader.carriers(ids)
    assert MANY * 0.8 < len(good) < MANY
    assert reader.broken
    assert reader.faults
    for row_id, found in zip(good, keys, strict=True):
        assert np.abs(found - entry(row_id - 1).keys).max() < 0.02
    assert len(reader.rows("door", None, None)) == MANY
    assert len(reader.tail("door", -1)) == len(good)
    reader.close()


def test_a_page_that_breaks_while_writing_is_gone_around(tmp_path: Path) -> None:
    path = tmp_path / "archive.sqlite"
    faults: list[Fault] = []
    filled(path)
    damage(path, pages_of(path, "frames")[-1], 64)  # found while opening: the newest rows' page
    with opened(path, on_fault=faults.append) as archive:
        reader = archive.reader()
        fill(archive, [entry(frame, at_s=T0 + 10_000 + frame) for frame in range(MANY, MANY + 20)])
        until(lambda: "salvaged" in reasons(faults))
        assert reasons(faults)[0] == "set_aside"
        rows = reader.rows("door", None, None)
        assert [row.frame for row in rows[-20:]] == list(range(MANY, MANY + 20)), "new rows are the newest"
        newest = reader.newest("door")
        assert newest is not None
        assert newest.frame == MANY + 19
        old = [row for row in rows if row.frame < MANY]
        assert len(old) > MANY / 2
        good, keys, _ = reader.carriers([row.id for row in old])
        assert len(good) == len(old)
        for row, found in zip(old, keys, strict=True):
            assert np.abs(found - entry(row.frame).keys).max() < 0.02
        assert archive.state().salvaged == len(old)
        reader.close()
    with opened(path) as archive:  # and it is not brought over twice
        fill(archive, [entry(MANY + 20)])
        rows = archive.reader().rows("door", None, None)
        assert len(rows) == len({row.id for row in rows}) == len(old) + 21


def test_damage_found_while_running(tmp_path: Path) -> None:
    path = tmp_path / "archive.sqlite"
    faults: list[Fault] = []
    with opened(path, on_fault=faults.append) as archive:
        fill(archive, [entry(frame) for frame in range(MANY)])
        emptied(path)
        for at in pages_of(path, "frames") + pages_of(path, "stale"):
            damage(path, at, 64)
        for frame in range(MANY, MANY + 200):
            archive.put(entry(frame))
            time.sleep(0.001)
            if faults:
                break
        assert archive.flush(WAIT_S)
        archive.put(entry(9_000))
        assert archive.flush(WAIT_S)
        newest = archive.reader().newest("door")
        assert newest is not None
        assert newest.frame == 9_000


def test_a_file_that_is_taken_away_while_running_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "state" / "archive.sqlite"
    faults: list[Fault] = []
    with opened(path, on_fault=faults.append) as archive:
        reader = archive.reader()
        fill(archive, [entry(0)])
        assert reader.newest("door") is not None
        shutil.rmtree(path.parent)
        until(lambda: reasons(faults)[-1:] == ["ok"])
        fill(archive, [entry(1)])
        assert [row.frame for row in reader.rows("door", None, None)] == [1]
        reader.close()


def test_a_shape_of_nothing_is_no_crash(tmp_path: Path) -> None:
    with opened(tmp_path / "archive.sqlite", shape=Shape(1, 1, 1, 1)) as archive:
        archive.put(entry(0))
        assert archive.flush(WAIT_S)
        assert archive.state().broken == 1


def test_putting_from_many_threads(tmp_path: Path) -> None:
    with opened(tmp_path / "archive.sqlite", queue=10_000) as archive:
        threads = [
            threading.Thread(target=lambda name=f"c{n}": [archive.put(entry(f, name)) for f in range(200)])
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert archive.flush(WAIT_S)
        reader = archive.reader()
        for number in range(4):
            assert [row.frame for row in reader.rows(f"c{number}", None, None)] == list(range(200))
