"""Lines of the diary in the archive: written once, found by time and words, gone with their carriers."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from memory.archive import Archive, ArchiveError, Line, Quota, Reader, erase, schema
from memory.archive.diary import DDL, kept, lines
from tests.memory.archives import T0, WAIT_S, StillClock, content, entry, fill, opened, setup

WORD = "zyzzyva"  # nowhere else


def line(number: int, text: str = "a red car stops", camera: str = "door", **more: object) -> Line:
    """Of carrier `number`, ten seconds long."""
    first_s = T0 + 10 * number
    return Line(camera, first_s, first_s + 5, text, **{"carrier": number, "confidence": 0.5, "model": "m", **more})  # type: ignore[arg-type]


def told(archive: Archive, *items: Line) -> None:
    for item in items:
        assert archive.tell(item)
    assert archive.flush(WAIT_S)


def texts(reader: Reader, **how: object) -> list[str]:
    return [item.text for item in lines(reader, **how)]  # type: ignore[arg-type]


def test_lines_are_found_by_time_camera_and_words(tmp_path: Path) -> None:
    with opened(tmp_path / "archive.sqlite") as archive:
        told(archive, line(1), line(2, "two people with a dog"), line(3, "a blue bus", "gate"), line(4, "Red cars"))
        reader = archive.reader()
        assert texts(reader) == ["a red car stops", "two people with a dog", "a blue bus", "Red cars"]
        assert texts(reader, camera="gate") == ["a blue bus"]
        assert texts(reader, since_s=T0 + 14, until_s=T0 + 20) == ["a red car stops", "two people with a dog"]
        assert texts(reader, words="car") == ["a red car stops", "Red cars"]
        assert texts(reader, words='dog OR "blue bus"') == ["two people with a dog", "a blue bus"]
        assert texts(reader, words="cyclist") == []
        assert texts(reader, limit=2) == ["a blue bus", "Red cars"], "the newest"
        assert texts(reader, kinds=("day",)) == []
        assert len(texts(reader, kinds=("event", "missed"))) == 4
        first = lines(reader)[0]
        assert (first.camera, first.kind, first.confidence, first.model) == ("door", "event", 0.5, "m")
        reader.close()


@pytest.mark.parametrize("words", ['"', "red AND", "half-open", "don't", "text:", "*", "NEAR(", "\ud800", ""])
def test_words_that_are_no_query_get_one_line(tmp_path: Path, words: str) -> None:
    with opened(tmp_path / "archive.sqlite") as archive:
        told(archive, line(1))
        reader = archive.reader()
        with pytest.raises(ArchiveError, match="double quotes") as caught:
            lines(reader, words=words)
        assert "\n" not in str(caught.value)
        assert reader.faults == 0, "nobody is told that the archive cannot be read"
        reader.close()


def test_a_line_is_written_once_whatever_comes_twice(tmp_path: Path) -> None:
    with opened(tmp_path / "archive.sqlite") as archive:
        day = Line("door", T0, T0 + 86_400, "no events", "day")
        told(archive, line(1), line(1, "again"), day, line(3), line(2, "late"), day)
        reader = archive.reader()
        assert texts(reader) == ["no events", "a red car stops", "a red car stops"]
        reader.close()


def test_what_is_erased_leaves_no_byte_and_does_not_come_back(tmp_path: Path) -> None:
    path = tmp_path / "archive.sqlite"
    with opened(path) as archive:
        fill(archive, [entry(frame, at_s=T0 + 10 * frame) for frame in range(1, 9)])
        told(archive, *(line(number, f"a {WORD} and {number} others") for number in range(1, 9)))
        told(archive, Line("door", T0, T0 + 86_400, f"8 {WORD}", "day"), line(1, "a cat", "gate"))
        assert WORD.encode() in content(tmp_path), "the test sees what is there"
        archive.forget("door", T0, T0 + 85).result(WAIT_S)
        assert WORD.encode() not in content(tmp_path)
        assert b"others" not in content(tmp_path)
        reader = archive.reader()
        assert texts(reader) == texts(reader, words="cat") == ["a cat"]
        told(archive, line(5, f"late {WORD}"), line(9, "new", epoch=0))
        assert texts(reader) == ["a cat", "new"], "made before the erasure: refused where it touches what was erased"
        told(archive, line(12, "seen since", epoch=1))
        assert texts(reader, words="seen") == ["seen since"]
        reader.close()
    assert WORD.encode() not in content(tmp_path)


def test_an_erasure_that_waits_is_known_to_lines_read_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "archive.sqlite"
    with opened(path) as archive:
        told(archive, line(1, f"a {WORD}"))
    db = schema.open_file(path, setup())
    erase.request(db, T0, None, T0, T0 + 100)
    db.close()
    with opened(path) as archive:
        for _ in range(200):
            if WORD.encode() not in content(tmp_path):
                break
            threading.Event().wait(0.05)
        assert WORD.encode() not in content(tmp_path)
        told(archive, line(3, f"a {WORD}"))
        reader = archive.reader()
        assert texts(reader) == []
        reader.close()


def test_lines_leave_with_their_carriers(tmp_path: Path) -> None:
    clock = StillClock(T0 + 1000)
    with opened(tmp_path / "archive.sqlite", clock=clock, quota=Quota(age_s=500.0)) as archive:
        fill(archive, [entry(frame, at_s=T0 + 10 * frame) for frame in range(40, 100)])
        told(archive, *(line(number) for number in (1, 48, 60, 99)))
        fill(archive, [entry(100, at_s=T0 + 1000)])
        reader = archive.reader()
        assert [item.first_s - T0 for item in lines(reader)] == [600, 990]
        clock.now_s = T0 + 1300
        fill(archive, [entry(0, "gate", at_s=T0 + 1300)])
        assert [item.first_s - T0 for item in lines(reader)] == [990], "the camera is not there any more"
        reader.close()
    with opened(tmp_path / "small.sqlite", quota=Quota(bytes=60_000)) as archive:
        for start in range(0, 200, 10):
            fill(archive, [entry(frame, at_s=T0 + 10 * frame) for frame in range(start, start + 10)])
            told(archive, line(start + 10))
        reader = archive.reader()
        extent = reader.extent("door")
        assert extent is not None
        assert lines(reader)
        assert all(item.last_s >= extent[0] for item in lines(reader))
        reader.close()


def test_ids_below_a_mark_are_not_given_again(tmp_path: Path) -> None:
    path = tmp_path / "archive.sqlite"
    with opened(path, clock=StillClock(T0 + 100)) as archive:
        fill(archive, [entry(frame) for frame in range(5)])
        told(archive, line(5))
        archive.forget(None, None, None).result(WAIT_S)
        fill(archive, [entry(7, at_s=T0 + 200)])
        reader = archive.reader()
        newest = reader.newest("door")
        assert newest is not None
        assert newest.id > 5, "else the diary would pass it by"
        reader.close()


def test_an_older_file_gets_its_tables_and_can_be_read_before(tmp_path: Path) -> None:
    path = tmp_path / "archive.sqlite"
    with opened(path) as archive:
        fill(archive, [entry(1)])
    db = sqlite3.connect(path)
    for table in ("diary", "diary_words", "diary_marks"):
        assert table in DDL
        db.execute(f"DROP TABLE {table}")
    db.execute("PRAGMA user_version = 1")
    db.commit()
    db.close()
    reader = Reader.open(path)
    assert not kept(reader)
    assert lines(reader) == []
    assert reader.faults == 0
    reader.close()
    with opened(path) as archive:
        told(archive, line(1))
        reader = archive.reader()
        assert kept(reader)
        assert texts(reader) == ["a red car stops"]
        assert reader.extent("door") is not None
        reader.close()


def test_lines_of_a_damaged_file_come_over(tmp_path: Path) -> None:
    path = tmp_path / "archive.sqlite"
    with opened(path) as archive:
        fill(archive, [entry(frame) for frame in range(50)])
        told(archive, line(3), line(4, "two"), Line("door", T0, T0 + 86_400, "2 events", "day"))
    raw = bytearray(path.read_bytes())
    with sqlite3.connect(path) as db:
        root = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'frames_camera'").fetchone()[0]
        page = db.execute("PRAGMA page_size").fetchone()[0]
    db.close()
    raw[page * (root - 1) : page * root] = b"\xff" * page
    path.write_bytes(raw)
    with opened(path) as archive:
        fill(archive, [entry(60)])
        reader = archive.reader()
        for _ in range(200):
            if len(lines(reader)) == 3:
                break
            archive.put(entry(61))
            threading.Event().wait(0.05)
        told(archive, line(4, "again"))
        assert sorted(texts(reader)) == ["2 events", "a red car stops", "two"]
        reader.close()
