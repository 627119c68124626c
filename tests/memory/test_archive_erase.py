"""Forgetting is for good: no byte of what was erased is left in any file, and the rest is untouched."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory.archive import Archive, ArchiveError, Entry, Outage, Quota, erase, schema
from memory.archive.codec import head_codec
from stream.types import Span
from tests.memory.archives import SHAPE, T0, WAIT_S, StillClock, content, entry, fill, opened, reasons, setup
from tests.memory.test_archive import picture


def marked(frame: int, camera: str = "door", step_s: float = 1.0, fat: int = 400) -> Entry:
    """Its picture ends with bytes that are nowhere else."""
    mark = np.random.default_rng([7, frame, *camera.encode()]).bytes(fat)
    return entry(frame, camera, at_s=T0 + step_s * frame, jpeg=picture(16) + mark)


def traces(folder: Path, item: Entry) -> list[str]:
    """Which parts of `item` the files still hold, in whatever pieces."""
    everything = content(folder)
    head = head_codec(SHAPE, "int8")
    parts = {
        "picture": item.jpeg[len(picture(16)) :],
        "keys": head.encode(item.keys)[-24:],
        "values": head.encode(item.values)[-24:],
    }
    pieces = [(name, part[at : at + 24]) for name, part in parts.items() for at in range(0, len(part) - 23, 60)]
    return [name for name, piece in pieces if piece in everything]


def test_no_byte_of_an_erased_range_is_left(tmp_path: Path) -> None:
    with opened(tmp_path / "archive.sqlite") as archive:
        fill(archive, [marked(frame) for frame in range(200)])
        assert traces(tmp_path, marked(70)), "the test sees what is there"
        done = archive.forget("door", T0 + 50, T0 + 99).result(WAIT_S)
        assert done.rows == 50
        for frame in range(50, 100):
            assert traces(tmp_path, marked(frame)) == [], frame
        reader = archive.reader()
        rows = reader.rows("door", None, None)
        assert [row.frame for row in rows] == [*range(50), *range(100, 200)]
        good, keys, _ = reader.carriers([row.id for row in rows])
        assert len(good) == 150
        assert np.abs(keys[60] - marked(110).keys).max() < 0.02
        assert reader.pictures(good)[good[60]] == marked(110).jpeg
        assert reader.outages("door", None, None) == [Outage("door", T0 + 50, T0 + 99, "erased")]
        reader.close()
    assert traces(tmp_path, marked(70)) == []


@settings(max_examples=15, deadline=None)
@given(
    sizes=st.lists(st.integers(400, 5_000), min_size=30, max_size=120),
    limit=st.sampled_from([None, 60_000, 150_000]),
    ranges=st.lists(st.tuples(st.integers(0, 120), st.integers(0, 40)), min_size=1, max_size=4),
)
def test_rows_that_were_moved_between_pages_leave_no_copies(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], limit: int | None, ranges: list[tuple[int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("moved")
    items = [marked(frame, fat=size) for frame, size in enumerate(sizes)]
    erased: set[int] = set()
    with opened(folder / "archive.sqlite", quota=Quota(limit), batch=8) as archive:
        for start in range(0, len(items), 8):  # the quota bites at every step
            fill(archive, items[start : start + 8])
        for first, length in ranges:
            archive.forget("door", T0 + first, T0 + first + length).result(WAIT_S)
            erased |= set(range(first, first + length + 1))
            for frame in erased & set(range(len(items))):
                assert traces(folder, items[frame]) == [], frame
        reader = archive.reader()
        assert erased.isdisjoint(row.frame for row in reader.rows("door", None, None))
        reader.close()


def test_a_span_that_reaches_into_the_range_is_cut_and_its_picture_kept(tmp_path: Path) -> None:
    with opened(tmp_path / "archive.sqlite") as archive:
        night = entry(0, last_s=T0 + 30_000, jpeg=picture())
        fill(archive, [night, entry(5_000, last_s=T0 + 5_050), entry(20_000, last_s=T0 + 20_030)])
        done = archive.forget("door", T0 + 5_020, T0 + 20_010).result(WAIT_S)
        assert (done.rows, done.trimmed) == (1, 2)
        reader = archive.reader()
        spans = [row.span for row in reader.rows("door", None, None)]
        assert spans == [Span(T0, T0 + 5_020), Span(T0 + 5_000, T0 + 5_020)]
        assert list(reader.pictures([1])) == [1]
        reader.close()


def test_all_cameras_and_open_ends(tmp_path: Path) -> None:
    clock = StillClock(T0 + 100)
    with opened(tmp_path / "archive.sqlite", clock=clock) as archive:
        fill(archive, [marked(frame, camera) for frame in range(3) for camera in ("door", "gate")])
        fill(archive, [marked(5_000)])  # in the future: the clock was set back
        assert archive.forget(None, None, None).result(WAIT_S).rows == 7
        reader = archive.reader()
        assert reader.rows("door", None, None) == reader.rows("gate", None, None) == []
        assert reader.outages("gate", None, None)[0].until_s == T0 + 5_000
        assert traces(tmp_path, marked(5_000)) == []
        reader.close()


def test_memory_forgets_first_and_what_waits_is_erased_too(tmp_path: Path) -> None:
    seen: list[tuple[str | None, float, float]] = []
    path = tmp_path / "archive.sqlite"
    with opened(path, commit_every_s=60.0, on_forget=lambda *asked: seen.append(asked)) as archive:
        archive.put(marked(3))
        assert archive.forget("door", T0, T0 + 10).result(WAIT_S).rows == 1
        assert seen == [("door", T0, T0 + 10)]
        assert traces(tmp_path, marked(3)) == []


def test_memory_that_does_not_forget_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memory.archive.writer.ERASE_RETRY_S", 0.1)
    faults, broken = [], threading.Event()

    def on_forget(camera: str | None, since_s: float, until_s: float) -> None:
        if not broken.is_set():
            broken.set()
            raise RuntimeError("the engine stands still")

    with opened(tmp_path / "archive.sqlite", on_forget=on_forget, on_fault=faults.append) as archive:
        fill(archive, [marked(3)])
        with pytest.raises(RuntimeError, match="stands still"):
            archive.forget("door", T0, T0 + 10).result(WAIT_S)
        assert "erase_failed" in reasons(faults)
        for _ in range(200):
            if not traces(tmp_path, marked(3)):
                break
            threading.Event().wait(0.05)
        assert traces(tmp_path, marked(3)) == []
        assert archive.state().ok


def test_a_closed_archive_says_so(tmp_path: Path) -> None:
    with opened(tmp_path / "archive.sqlite") as archive:
        fill(archive, [marked(0)])
    with pytest.raises(ArchiveError, match="closed"):
        archive.forget(None, None, None).result(WAIT_S)


def test_another_process_asks_and_waits(tmp_path: Path) -> None:
    path = tmp_path / "archive.sqlite"
    with opened(path) as archive:
        fill(archive, [marked(frame) for frame in range(10)])
        other = schema.connect(path, read_only=False)
        asked = erase.request(other, T0, "door", T0 + 2, T0 + 4)
        for _ in range(200):
            done = other.execute("SELECT done_s, rows FROM erasures WHERE id = ?", (asked,)).fetchone()
            if done[0] is not None:
                break
            threading.Event().wait(0.05)
        assert done[1] == 3
        other.close()
        assert traces(tmp_path, marked(3)) == []


def test_an_erasure_that_was_cut_short_is_done_at_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "archive.sqlite"
    with opened(path) as archive:
        fill(archive, [marked(frame) for frame in range(10)])
    db = schema.open_file(path, setup())
    erase.request(db, T0, None, T0, T0 + 4)
    db.close()
    with opened(path) as archive:
        for _ in range(200):
            if not traces(tmp_path, marked(3)):
                break
            threading.Event().wait(0.05)
        assert traces(tmp_path, marked(3)) == []
        assert archive.reader().rows("door", None, None)[0].frame == 5


def test_readers_and_frames_go_on_meanwhile(tmp_path: Path) -> None:
    archive = Archive.open(tmp_path / "archive.sqlite", setup())
    fill(archive, [marked(frame) for frame in range(600)])
    stop, seen, wrong = threading.Event(), [], []

    def read() -> None:
        reader = archive.reader()
        while not stop.is_set():
            rows = reader.rows("door", T0 + 550, None)
            good, _, _ = reader.carriers([row.id for row in rows])
            seen.append(len(good))
            wrong.extend(["short"] * (len(good) < 50))
        wrong.extend([reader.last_fault] * reader.faults)
        reader.close()

    thread = threading.Thread(target=read)
    thread.start()
    for frame in range(600, 640):
        archive.put(marked(frame))
    assert archive.forget("door", T0, T0 + 500).result(WAIT_S).rows == 501
    assert archive.flush(WAIT_S)
    stop.set()
    thread.join()
    assert seen
    assert wrong == []
    assert archive.reader().extent("door") == (T0 + 501, T0 + 639, 139)
    assert archive.close(WAIT_S)
    with sqlite3.connect(tmp_path / "archive.sqlite") as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    db.close()
