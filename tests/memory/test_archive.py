"""The archive from outside: what is put comes out again, whatever happens in between."""

from __future__ import annotations

import io
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from memory.archive import Archive, ArchiveError, Entry, Outage, Quota, Reader, schema
from memory.archive.encoder import Encoder
from memory.archive.inbox import Taken
from memory.archive.store import Store
from tests.memory.archives import SHAPE, T0, WAIT_S, StillClock, entry, fill, opened, setup


def picture(width: int = 64, colour: str = "red") -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (width, width // 2), colour).save(target, "JPEG")
    return target.getvalue()


def near(found: np.ndarray, wanted: np.ndarray) -> bool:
    return bool(np.abs(found - wanted).max() <= np.abs(wanted).max() / 127)


def test_what_is_put_comes_out_again(tmp_path: Path) -> None:
    with opened(tmp_path / "archive.sqlite") as archive:
        small = picture()
        fill(archive, [entry(frame, jpeg=small) for frame in range(5)] + [entry(0, "gate")])
        reader = archive.reader()
        rows = reader.rows("door", None, None)
        assert [row.frame for row in rows] == [0, 1, 2, 3, 4]
        assert rows[2].span == entry(2).span
        assert rows[2].score == 0.25
        newest = reader.newest("door")
        assert newest == rows[-1]
        assert reader.extent("door") == (T0, T0 + 4, 5)
        good, keys, values = reader.carriers([rows[3].id, 999, rows[1].id])
        assert good == [rows[3].id, rows[1].id]
        assert near(keys[0], entry(3).keys)
        assert near(values[1], entry(1).values)
        assert near(reader.digests([rows[0].id])[1][0], entry(0).digest)
        assert reader.pictures([rows[0].id]) == {rows[0].id: small}
        assert reader.cameras() == ["door", "gate"]
        assert reader.newest("roof") is None
        assert reader.extent("roof") is None
        assert reader.rows("roof", None, None) == []
        reader.close()


@pytest.mark.parametrize("dtype", ["int8", "float16", "float32"])
@pytest.mark.parametrize("with_base", [False, True])
def test_every_type_of_number(tmp_path: Path, dtype: str, with_base: bool) -> None:
    base = np.random.default_rng(0).normal(0, 100, SHAPE.heads).astype(np.float32) if with_base else None
    wanted = entry(0)
    if base is not None:
        wanted = replace(wanted, keys=wanted.keys + base)
    with opened(tmp_path / "archive.sqlite", dtype=dtype, base=base) as archive:
        fill(archive, [wanted])
        reader = archive.reader()
        _, keys, values = reader.carriers([1])
        limit = {"int8": 0.02, "float16": 2e-3, "float32": 2e-5}[dtype]
        assert np.abs(keys[0] - wanted.keys).max() < limit
        assert np.abs(values[0] - wanted.values).max() < limit
        reader.close()


def test_a_file_goes_on_after_a_restart_and_keeps_its_type_of_number(tmp_path: Path) -> None:
    path = tmp_path / "archive.sqlite"
    with opened(path, dtype="float32") as archive:
        fill(archive, [entry(0)])
    with opened(path, dtype="int8") as archive:
        fill(archive, [entry(1)])
        reader = archive.reader()
        assert [row.id for row in reader.rows("door", None, None)] == [1, 2]
        assert np.array_equal(reader.keys([2])[1][0], entry(1).keys)
        reader.close()


@pytest.mark.parametrize("wait", [False, True])
def test_a_span_grows_while_it_waits_and_when_it_is_written(tmp_path: Path, wait: bool) -> None:
    with opened(tmp_path / "archive.sqlite") as archive:
        archive.put(entry(0))
        assert not wait or archive.flush(WAIT_S)
        archive.extend("door", 0, T0 + 50)
        archive.extend("door", 0, T0 + 40)  # never back
        archive.extend("door", 7, T0 + 99)  # not the newest
        archive.extend("roof", 0, T0 + 99)  # never heard of
        archive.put(entry(100))
        archive.extend("door", 0, T0 + 101)  # no more the newest
        assert archive.flush(WAIT_S)
        reader = archive.reader()
        assert [row.span.last_s for row in reader.rows("door", None, None)] == [T0 + 50, T0 + 100]
        reader.close()


def test_spans_that_only_reach_into_a_range_are_found(tmp_path: Path) -> None:
    with opened(tmp_path / "archive.sqlite") as archive:
        night = entry(0, last_s=T0 + 30_000)
        fill(archive, [night, *[entry(frame) for frame in range(30_010, 30_020)]])
        reader = archive.reader()
        found = [row.frame for row in reader.rows("door", T0 + 20_000, T0 + 30_012)]
        assert found == [0, 30_010, 30_011, 30_012]
        assert reader.rows("door", T0 + 30_001, T0 + 30_009) == []
        assert [row.frame for row in reader.rows("door", T0 + 20_000, None, limit=2)] == [0, 30_010]
        reader.close()


def test_the_tail_is_what_came_after_a_snapshot(tmp_path: Path) -> None:
    with opened(tmp_path / "archive.sqlite") as archive:
        fill(archive, [entry(frame) for frame in range(9)])
        reader = archive.reader()
        tail = reader.tail("door", 6)
        assert [item.frame for item in tail] == [7, 8]
        assert near(tail[0].keys, entry(7).keys)
        assert near(tail[1].digest, entry(8).digest)
        assert tail[1].span == entry(8).span
        assert [item.frame for item in reader.tail("door", 2, limit=3)] == [6, 7, 8]
        reader.close()


def test_gaps_are_kept_and_closed(tmp_path: Path) -> None:
    with opened(tmp_path / "archive.sqlite") as archive:
        archive.note_gap(Outage("door", T0, None, "frozen"))
        assert archive.flush(WAIT_S)
        reader = archive.reader()
        assert reader.outages("door", T0 + 500, None) == [Outage("door", T0, None, "frozen")]
        archive.note_gap(Outage("door", T0, T0 + 60, "unreachable"))
        assert archive.flush(WAIT_S)
        assert reader.outages("door", None, None) == [Outage("door", T0, T0 + 60, "unreachable")]
        assert reader.outages("door", T0 + 61, None) == []
        assert reader.outages("gate", None, None) == []
        reader.close()


def test_pictures_get_small_and_unreadable_ones_are_left_out(tmp_path: Path) -> None:
    with opened(tmp_path / "archive.sqlite", thumbnail_px=100) as archive:
        fill(archive, [entry(0, jpeg=picture(640)), entry(1, jpeg=b"\xff\xd8 no picture"), entry(2)])
        reader = archive.reader()
        found = reader.pictures([1, 2, 3])
        assert list(found) == [1]
        with Image.open(io.BytesIO(found[1])) as small:
            assert small.size == (100, 50)
        assert archive.state().unreadable_jpegs == 1
        reader.close()
    with opened(tmp_path / "none.sqlite", thumbnail_px=0) as archive:
        fill(archive, [entry(0, jpeg=picture())])
        assert archive.reader().pictures([1]) == {}


def test_what_cannot_be_stored_is_counted(tmp_path: Path) -> None:
    with opened(tmp_path / "archive.sqlite") as archive:
        whole = entry(0)
        bad = [
            replace(whole, keys=whole.keys[:1]),
            replace(whole, values=whole.values * np.nan),
            replace(whole, camera="a\ud800"),
            replace(whole, frame=1 << 70),
            replace(whole, span=replace(whole.span, first_s=float("nan"))),
        ]
        fill(archive, [*bad, whole])
        assert archive.state().broken == len(bad)
        assert archive.state().written == 1


def test_putting_never_blocks_and_says_what_was_lost(tmp_path: Path) -> None:
    path = tmp_path / "archive.sqlite"
    with opened(path, queue=8, batch=4) as archive:
        fill(archive, [entry(0)])
        with sqlite3.connect(path) as other:
            other.execute("BEGIN IMMEDIATE")  # the writer cannot get in
            began_s = time.monotonic()
            for frame in range(1, 101):
                archive.put(entry(frame))
            assert time.monotonic() - began_s < 1.0
            state = archive.state()
            assert state.queued <= 8
            assert state.dropped >= 100 - 8 - 4
            other.rollback()
        other.close()
        assert archive.flush(WAIT_S)
        reader = archive.reader()
        kept = {row.frame for row in reader.rows("door", None, None)}
        assert {0, 97, 98, 99, 100} <= kept
        lost = reader.outages("door", None, None)
        missing = set(range(101)) - kept
        assert missing
        assert {gap.reason for gap in lost} == {"not_archived"}
        for frame in missing:
            assert any(gap.since_s <= T0 + frame <= (gap.until_s or 0.0) for gap in lost), frame
        reader.close()


@settings(max_examples=25, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["door", "gate"]), st.integers(-100, 400), st.integers(0, 130), st.booleans()),
        max_size=40,
    ),
    asked=st.tuples(st.integers(-200, 6_000), st.integers(0, 3_000)),
    clocks=st.booleans(),
)
def test_any_stream_reads_as_a_list_would(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[str, int, int, bool]],
    asked: tuple[int, int],
    clocks: bool,
) -> None:
    path = tmp_path_factory.mktemp("any") / "archive.sqlite"
    wanted: list[Entry] = []
    now_s = T0
    archive = Archive.open(path, setup())
    for frame, (camera, step_s, grow_s, again) in enumerate(steps):
        now_s += step_s if clocks else abs(step_s)  # a clock may be set back
        item = entry(frame, camera, at_s=now_s)
        archive.put(item)
        assert archive.flush(WAIT_S)
        if grow_s:
            archive.extend(camera, frame, now_s + grow_s)
        wanted.append(replace(item, span=replace(item.span, last_s=now_s + grow_s)))
        if again:
            assert archive.close(WAIT_S)
            archive = Archive.open(path, setup())
    assert archive.flush(WAIT_S)
    reader = archive.reader()
    since_s, until_s = T0 + asked[0], T0 + asked[0] + asked[1]
    for camera in ("door", "gate"):
        mine = [item for item in wanted if item.camera == camera and item.span.overlaps(since_s, until_s)]
        found = reader.rows(camera, since_s, until_s)
        assert sorted(row.frame for row in found) == [item.frame for item in mine]
        assert {row.span for row in found} == {item.span for item in mine}
        starts = [row.span.first_s for row in found]
        assert starts == sorted(starts)
    reader.close()
    assert archive.close(WAIT_S)


@settings(max_examples=20, deadline=None)
@given(
    limit=st.integers(50_000, 120_000),
    sizes=st.lists(st.integers(0, 3_000), min_size=1, max_size=60),
    gap=st.integers(1, 90),
)
def test_a_quota_is_never_exceeded_and_the_oldest_leave(
    tmp_path_factory: pytest.TempPathFactory, limit: int, sizes: list[int], gap: int
) -> None:
    path = tmp_path_factory.mktemp("quota") / "archive.sqlite"
    with opened(path, quotas={"door": Quota(limit)}) as archive:
        reader = archive.reader()
        for frame, size in enumerate(sizes):
            jpeg = picture(32) + os.urandom(size)
            fill(archive, [entry(frame, at_s=T0 + gap * frame, jpeg=jpeg), entry(frame, "gate")])
            assert next(reader.select("SELECT bytes FROM cameras WHERE name = 'door'", ()))[0] <= limit
        kept = [row.frame for row in reader.rows("door", None, None)]
        assert kept == list(range(len(sizes) - len(kept), len(sizes)))
        assert kept
        assert len(reader.rows("gate", None, None)) == len(sizes), "another camera has its own quota"
        pools = {bucket for (bucket,) in reader.select("SELECT bucket FROM pools WHERE level = 0 AND camera = 1", ())}
        minutes = {int((T0 + gap * frame) // 60) for frame in kept}
        assert pools <= minutes, "no pool of what is gone"
        reader.close()
    left = Reader.open(path)  # after the writer's end: its house may have made room since
    assert archive.state().pruned == len(sizes) - len(left.rows("door", None, None)), (
        "every moment that left is counted"
    )
    left.close()


@pytest.mark.parametrize("gap", [7, 30, 60])
def test_pools_of_many_minutes_at_once_cost_no_carrier_that_has_room(tmp_path: Path, gap: int) -> None:
    """A busy writer settles late: eight minutes at once. They take the room they need, not eight times the most."""
    door = setup(quotas={"door": Quota(50_000)})
    store = Store(schema.open_file(tmp_path / "archive.sqlite", door), door)
    encoder = Encoder(door)
    for frame in range(15):
        late = Taken((), (), (entry(frame, at_s=T0 + gap * frame),), 0)
        assert store.write(encoder.prepare(late), T0).pruned == 0
    while store.settle() != (False, 0):
        pass
    assert store.db.execute("SELECT rows, bytes <= 50000 FROM cameras").fetchone() == (15, 1)
    assert store.db.execute("SELECT count(*) FROM pools WHERE level = 0").fetchone()[0] >= 14 * gap // 60
    store.db.close()


def test_old_carriers_leave_when_their_time_is_over(tmp_path: Path) -> None:
    clock = StillClock(T0 + 100)
    with opened(tmp_path / "archive.sqlite", quota=Quota(age_s=1_000.0), clock=clock) as archive:
        fill(archive, [entry(frame) for frame in range(100)])
        clock.now_s = T0 + 1_050
        fill(archive, [entry(1_050)])
        reader = archive.reader()
        assert [row.frame for row in reader.rows("door", None, None)] == [*range(50, 100), 1_050]
        clock.now_s -= 86_400  # a clock that jumps back a day costs nothing
        fill(archive, [entry(1_051, at_s=clock.now_s)])
        newest = reader.newest("door")
        assert newest is not None
        assert newest.frame == 1_051
        assert len(reader.rows("door", None, None)) == 52
        reader.close()


def test_migrations_bring_a_file_to_the_newest_version(tmp_path: Path) -> None:
    path = tmp_path / "archive.sqlite"
    with opened(path) as archive:
        fill(archive, [entry(0)])
    steps = {schema.VERSION: "ALTER TABLE frames ADD COLUMN note TEXT", schema.VERSION + 1: "CREATE TABLE more(id)"}
    db = schema.open_file(path, setup(), steps)
    assert db.execute("PRAGMA user_version").fetchone()[0] == schema.VERSION + 2
    assert db.execute("SELECT note FROM frames").fetchall() == [(None,)]
    db.close()


def test_a_reader_alone_needs_a_file(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="no archive there"):
        Reader.open(tmp_path / "archive.sqlite")
    (tmp_path / "notes").write_text("no database, but long enough to be one" * 100)
    with pytest.raises(ArchiveError, match="cannot be read"):
        Reader.open(tmp_path / "notes")
    lazy = Reader(tmp_path / "archive.sqlite")
    assert lazy.rows("door", None, None) == []
    assert lazy.carriers([1])[0] == []
    assert lazy.faults


CHILD = """
    import sys
    from pathlib import Path
    from memory.archive import Archive
    from tests.memory.archives import entry, setup

    archive = Archive.open(Path(sys.argv[1]), setup(commit_every_s=0.002))
    for frame in range(int(sys.argv[2]), 1_000_000):
        archive.put(entry(frame))
        if frame % 8 == 0 and archive.flush(5.0):
            print(frame, flush=True)
"""


def test_a_kill_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    path, told = tmp_path / "archive.sqlite", -1
    rng = np.random.default_rng(3)
    for _ in range(6):
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(CHILD), str(path), str(told + 1)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        assert child.stdout is not None
        told = int(child.stdout.readline())
        time.sleep(float(rng.uniform(0.0, 0.15)))
        child.send_signal(signal.SIGKILL)
        said = child.stdout.read().split(b"\n")[:-1]
        child.wait()
        child.stdout.close()
        told = int(said[-1]) if said else told
        reader = Reader.open(path)
        frames = {row.frame for row in reader.rows("door", None, None)}
        assert set(range(told + 1)) <= frames
        good, _, _ = reader.carriers([row.id for row in reader.rows("door", None, None)])
        assert len(good) == len(reader.rows("door", None, None))
        reader.close()
