"""Coarse to fine: bounds are bounds, pools follow every change, and what stands out is found."""

from __future__ import annotations

import hashlib
import io
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from memory.archive import Archive, Entry, Quota, Reader, pools, sketch
from memory.archive.codec import Codec, checksum, digest_codec, head_codec
from memory.archive.layout import layout, predicted_bytes
from memory.archive.picture import thumbnail
from memory.archive.types import Shape
from tests.memory.archives import SHAPE, T0, WAIT_S, entry, fill, opened, setup
from tests.memory.test_archive import picture

finite = st.floats(-1e4, 1e4, width=32)


@settings(max_examples=200, deadline=None)
@given(
    array=hnp.arrays(np.float32, (3, 8), elements=finite),
    dtype=st.sampled_from(["int8", "float16", "float32"]),
)
def test_what_is_encoded_comes_back_within_the_promised_error(array: np.ndarray, dtype: str) -> None:
    codec = Codec(dtype, 3, 8)
    record = codec.encode(array)
    assert len(record) == codec.record_bytes
    found = codec.decode([record, record])
    assert found.shape == (2, 3, 8)
    largest = np.abs(array).max(axis=1, keepdims=True)
    share = {"int8": 0.5 / 127 + 2**-11, "float16": 2**-11, "float32": 0.0}[dtype]
    assert (np.abs(found[0] - array) <= largest * share + 1e-5).all()


def test_a_checksum_knows_its_row() -> None:
    assert checksum(1, b"record") == checksum(1, b"record")
    assert checksum(1, b"record") != checksum(2, b"record")
    assert checksum(1, b"record") != checksum(1, b"recorD")


@settings(max_examples=200, deadline=None)
@given(
    keys=hnp.arrays(np.float32, st.tuples(st.integers(1, 6), st.just(2), st.just(4)), elements=finite),
    query=hnp.arrays(np.float32, (2, 4), elements=finite),
)
def test_a_bound_is_never_below_what_it_bounds(keys: np.ndarray, query: np.ndarray) -> None:
    lo, hi = keys.min(axis=0), keys.max(axis=0)
    one = pools.decode([pools.encode(lo, hi)] * 2, 2, 4)
    true = (keys * query).sum(axis=(1, 2)).max()
    slack = 1e-5 * np.abs(keys).max(initial=1.0) * np.abs(query).sum()
    assert (one.score(query) >= true - slack).all()
    low, high = one.extent()
    assert (low[0] <= lo + 1e-5 * np.abs(lo) + 1e-30).all()
    assert (high[1] >= hi - 1e-5 * np.abs(hi) - 1e-30).all()


def test_a_sketch_estimates_a_product() -> None:
    rng = np.random.default_rng(0)
    middles = rng.standard_normal((60, 3_072)).astype(np.float32)
    rows = sketch.directions(3_072)
    assert set(np.unique(rows).tolist()) == {-1.0, 1.0}
    assert abs(float(rows.mean())) < 0.01
    query = middles[17] + rng.standard_normal(3_072).astype(np.float32)
    record = b"".join(sketch.encode(minute, middles[minute : minute + 1], rows) for minute in range(60))
    minutes, estimates = sketch.score([7], [record], rows @ query)
    assert minutes.tolist() == list(range(420, 480))
    error = estimates - middles @ query
    assert np.abs(error).max() < 4 * np.linalg.norm(query) * np.linalg.norm(middles[0]) / sketch.SIZE**0.5
    assert sketch.best(minutes, estimates, 5)[0] == 437
    assert sketch.best(np.repeat(minutes, 2), np.repeat(estimates, 2), 5) == sketch.best(minutes, estimates, 5)
    assert sorted(sketch.best(minutes, estimates, 99)) == list(range(420, 480))
    assert 437 not in sketch.score([7], [sketch.replace(record, 17, b"")], rows @ query)[0]
    assert sketch.replace(record[:-1], 17, b"") == b""
    assert len(sketch.choose(middles)) == sketch.A_MINUTE
    assert hashlib.blake2b(rows.tobytes(), digest_size=4).hexdigest() == "fd7f267e", "files of today are read for ever"


def needle(frame: int, at_s: float, direction: np.ndarray) -> Entry:
    plain = entry(frame, at_s=at_s)
    return replace(plain, keys=plain.keys + direction)


def test_what_stands_out_is_found_in_days_of_carriers(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    direction = rng.standard_normal(SHAPE.heads).astype(np.float32) * 3
    planted = {1_234, 1_235, 3_456}
    life = [(frame, T0 + 60.0 * frame + frame % 7) for frame in range(4_000)]  # nearly three days, one a minute
    with opened(tmp_path / "archive.sqlite") as archive:
        fill(archive, [needle(n, t, direction) if n in planted else entry(n, at_s=t) for n, t in life])
        reader = archive.reader()
        while len(list(reader.select("SELECT 1 FROM stale", ()))) > 1:  # 64 minutes a batch: the pools come after
            time.sleep(0.01)
        found = reader.narrow("door", None, None, direction, 64)
        assert len(found) == 64
        assert planted <= {row.frame for row in found}
        assert [row.id for row in found] == sorted(row.id for row in found), "in time order"
        later = reader.narrow("door", T0 + 60 * 2_000, None, direction, 64)
        assert {row.frame for row in later} & planted == {3_456}
        assert all(row.span.last_s >= T0 + 60 * 2_000 for row in later)
        few = reader.narrow("door", T0, T0 + 60 * 20 + 6, direction, 64)
        assert [row.frame for row in few] == list(range(21)), "a short range is read whole"
        assert reader.narrow("gate", None, None, direction, 8) == []
        reader.close()


def pooled(reader: Reader, level: int) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    query = "SELECT bucket, data FROM pools WHERE level = ? AND camera = 1"
    groups = SHAPE.layers * SHAPE.kv_heads
    found = {}
    for bucket, data in reader.select(query, (level,)):
        lo, hi = pools.decode([data], groups, SHAPE.head_width).extent()
        found[bucket] = (lo[0], hi[0])
    return found


@settings(max_examples=25, deadline=None)
@given(
    steps=st.lists(st.integers(-4_000, 4_000), min_size=1, max_size=60),
    erased=st.lists(st.tuples(st.integers(0, 40_000), st.integers(0, 9_000)), max_size=2),
    limit=st.sampled_from([None, 60_000]),
)
def test_pools_bound_all_that_is_there_and_nothing_that_was_erased(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], erased: list[tuple[int, int]], limit: int | None
) -> None:
    path = tmp_path_factory.mktemp("pools") / "archive.sqlite"
    archive = Archive.open(path, setup(quota=Quota(limit)))
    at_s = T0 + 20_000.0
    for frame, step_s in enumerate(steps):
        at_s += step_s
        archive.put(entry(frame, at_s=at_s))
        if frame % 5 == 0:
            assert archive.flush(WAIT_S)
    for first, length in erased:
        archive.forget("door", T0 + first, T0 + first + length).result(WAIT_S)
    assert archive.flush(WAIT_S)
    assert archive.flush(WAIT_S)
    assert archive.close(WAIT_S)
    reader = Reader.open(path)
    rows = reader.rows("door", None, None)
    stale = {minute for (minute,) in reader.select("SELECT minute FROM stale", ())}
    _, keys = reader.keys([row.id for row in rows])
    groups = SHAPE.layers * SHAPE.kv_heads
    found = pooled(reader, pools.MINUTE)
    for row, key in zip(rows, keys, strict=True):
        if int(row.span.first_s // 60) in stale:
            continue  # read without asking a pool
        lo, hi = found[int(row.span.first_s // 60)]
        flat = key.reshape(groups, -1)
        assert (flat >= lo - 1e-4).all()
        assert (flat <= hi + 1e-4).all()
    assert set(found) <= {int(row.span.first_s // 60) for row in rows}, "no pool without carriers"
    hours = dict(reader.select("SELECT bucket, data FROM pools WHERE level = 1 AND camera = 1", ()))
    sketched = set(sketch.score(list(hours), list(hours.values()), np.ones(sketch.SIZE, np.float32))[0].tolist())
    assert sketched >= set(found)
    assert set(hours) <= {int(row.span.first_s // 3_600) for row in rows}
    if limit is None and erased:
        minutes = pooled(reader, pools.MINUTE)
        for minute, (lo, hi) in minutes.items():
            if minute in stale or not any(first // 60 <= minute - T0 // 60 <= (first + n) // 60 for first, n in erased):
                continue
            mine = np.stack([k for r, k in zip(rows, keys, strict=True) if r.span.first_s // 60 == minute])
            mine = mine.reshape(len(mine), groups, -1)
            step = np.abs(mine).max() / 60
            assert (mine.min(axis=0) - lo <= step).all(), "a pool keeps nothing of what was erased"
            assert (hi - mine.max(axis=0) <= step).all()
    reader.close()


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [(Shape(4, 2, 64, 256), "int8"), (Shape(24, 2, 64, 896), "int8"), (Shape(24, 2, 64, 896), "float16"),
     (Shape(4, 2, 64, 256), "float32")],
)  # fmt: skip
def test_the_size_of_a_file_is_foretold(tmp_path: Path, shape: Shape, dtype: str) -> None:
    rng = np.random.default_rng(0)
    path, count = tmp_path / "a.sqlite", 1_500
    jpegs = [picture(64) + rng.bytes(size) for size in rng.integers(1_000, 4_000, count)]
    archive = Archive.open(path, setup(shape=shape, dtype=dtype))
    for frame in range(count):
        keys, values = rng.standard_normal((2, *shape.heads), np.float32)
        plain = entry(frame, at_s=T0 + 2 * frame, jpeg=jpegs[frame])
        archive.put(replace(plain, keys=keys, values=values, digest=rng.standard_normal(shape.width, np.float32)))
        if frame % 64 == 0:
            assert archive.flush(WAIT_S)
    assert archive.close(WAIT_S)
    mean = sum(len(jpeg) for jpeg in jpegs) / count
    foretold = predicted_bytes(count, 50, mean, shape, dtype)  # type: ignore[arg-type]
    assert path.stat().st_size == pytest.approx(foretold, rel=0.05)


@pytest.mark.parametrize("dtype", ["int8", "float16", "float32"])
@pytest.mark.parametrize("shape", [Shape(4, 2, 64, 256), Shape(24, 2, 64, 896), Shape(28, 4, 128, 3_584)])
def test_pages_fit_their_records(shape: Shape, dtype: str) -> None:
    sizes = layout(shape, dtype)  # type: ignore[arg-type]
    payload = 2 * head_codec(shape, dtype).record_bytes + digest_codec(shape, dtype).record_bytes  # type: ignore[arg-type]
    assert payload < sizes.footprint(0) < 1.2 * payload + 200


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=300), cut=st.integers(0, 600))
def test_no_bytes_break_the_thumbnails(data: bytes, cut: int) -> None:
    whole = picture(400)
    for jpeg in (data, whole[:cut], whole[:cut] + data, b"\xff\xd8\xff" + data):
        small = thumbnail(jpeg, 100)
        assert small is None or len(small) <= len(whole)
    assert len(thumbnail(whole, 100) or b"") < len(whole)
    assert io.BytesIO(thumbnail(whole, 400) or b"").read() == whole
