"""A saved bank goes on bit by bit, and is refused when anything is wrong with it."""

from __future__ import annotations

import hashlib
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memory import snapshot
from memory.bank import MemoryBank
from memory.retain import TABLE
from memory.snapshot import load, save, set_aside
from stream.errors import SnapshotError
from stream.types import Carrier, Part
from tests.memory.test_bank import SMALL, carrier, small_bank

METHODS = [{name: {}} for name in TABLE] + [{"adjacent": {"when_full": how}} for how in ("drop", "extend", "merge")]
TENSORS = ("digest", "keys", "values")


def new_bank(carriers: int, detail: int, method: dict[str, Any], dtype: torch.dtype = torch.float32) -> MemoryBank:
    policy = replace(small_bank(carriers, detail, method).policy, seed=7)
    return MemoryBank("door", replace(SMALL, dtype=dtype), policy)


def noisy(frame: int, wall_s: float | None = None, tag: str = "") -> Carrier:
    """A carrier whose every tensor and picture is found nowhere else."""
    rng = torch.Generator().manual_seed(frame + 1)
    item = carrier(frame, wall_s=wall_s)
    made: dict[str, Any] = {name: torch.randn(getattr(item, name).shape, generator=rng) for name in TENSORS}
    made["detail"] = Part(*torch.randn(2, 1, 1, 2, 2, generator=rng), torch.arange(2))
    made["companions"] = Part(*torch.randn(2, 1, 1, 1, 2, generator=rng), torch.tensor([2]))
    return replace(item, jpeg=f"\xff\xd8 picture {tag}{frame:06d} \xff\xd9".encode("latin-1"), **made)


def content(bank: MemoryBank, now_s: float = 1000.0) -> list[Any]:
    """All that questions and later evictions depend on, bit by bit; slot numbers are nobody's business."""
    view = bank.fork(now_s=now_s)
    tensors = (view.past.keys, view.past.values, view.past.positions, view.source, bank.state(now_s).digests)
    bits = [tensor.contiguous().view(torch.uint8).numpy().tobytes() for tensor in tensors]
    return [bits, view.moments, bank.absorbed, bank.evicted, bank.newest_frame, bank._rng.get_state().tolist()]


def filled(frames: int = 5, carriers: int = 8, **options: Any) -> MemoryBank:
    bank = small_bank(carriers, **options)
    for frame in range(frames):
        bank.add(noisy(frame))
    return bank


def copy(bank: MemoryBank, path: Path) -> MemoryBank:
    """Through the disk into a new bank."""
    save(bank.state(99.0), path, "m1")
    other = MemoryBank(bank.camera, bank.geometry, bank.policy)
    other.restore(load(path, "m1"))
    return other


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For hypothesis, which wants one folder for all its examples."""
    return tmp_path_factory.mktemp("banks")


# -- going on


@settings(max_examples=120, deadline=None)
@given(
    carriers=st.integers(1, 6),
    detail=st.integers(0, 3),
    method=st.sampled_from(METHODS),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    values=st.lists(st.floats(-4, 4, width=16), min_size=1, max_size=30),
    cut=st.integers(0, 30),
    still=st.sets(st.integers(0, 30)),
)
def test_a_restored_bank_goes_on_as_if_never_interrupted(
    folder: Path,
    carriers: int,
    detail: int,
    method: dict[str, Any],
    dtype: torch.dtype,
    values: list[float],
    cut: int,
    still: set[int],
) -> None:
    one = new_bank(carriers, detail, method, dtype)
    two: MemoryBank | None = None
    for frame, value in enumerate(values):
        if frame == cut:
            two = copy(one, folder / "door.bank")
            two.check_integrity()
        item = carrier(frame, value / 3)
        item = replace(item, **{name: getattr(item, name).to(dtype) for name in TENSORS})
        choices = [bank.add(item) for bank in (one, two) if bank is not None]
        for bank in (one, two):
            if bank is not None and frame in still:
                bank.extend(frame + 0.75)
        if two is None:
            continue
        two.check_integrity()
        assert choices[0] == choices[1]
        assert (two.spans, two.frames) == (one.spans, one.frames)
        assert torch.equal(two.past(50.0).keys, one.past(50.0).keys)
        if frame - cut + 1 >= detail:  # the recent detail is there again
            assert content(two) == content(one)


def test_only_the_recent_detail_is_not_saved(tmp_path: Path) -> None:
    bank = filled(5, detail=2)
    other = copy(bank, tmp_path / "door.bank")
    view, whole = other.fork(), bank.fork()
    assert view.moments == whole.moments
    assert (len(view.past), len(whole.past)) == (5, 9)
    assert torch.equal(view.past.keys, whole.past.keys[:, :, :5])
    assert view.past.positions.tolist() == whole.past.positions[:5].tolist()
    assert other.next_positions(9.0).tolist() == bank.next_positions(9.0).tolist()
    assert other.newest_last_s == bank.newest_last_s == 4.0


def test_a_state_is_a_copy(tmp_path: Path) -> None:
    bank = filled(3)
    state = bank.state(5.0)
    save(state, tmp_path / "before", "m1")
    for frame in range(3, 30):
        bank.add(noisy(frame))
    bank.forget(None, None)
    save(state, tmp_path / "after", "m1")
    assert (tmp_path / "before").read_bytes() == (tmp_path / "after").read_bytes()
    assert load(tmp_path / "after", "m1").saved_s == 5.0


def test_an_empty_bank_is_saved_too(tmp_path: Path) -> None:
    other = copy(small_bank(3), tmp_path / "door.bank")
    assert (len(other), other.newest_frame, other.newest_last_s) == (0, -1, None)
    other.add(noisy(0))
    other.check_integrity()


@pytest.mark.parametrize("carriers", [1, 3, 5, 9])
def test_a_bank_of_another_size_keeps_the_newest(carriers: int) -> None:
    state = filled(5).state(9.0)
    bank = small_bank(carriers)
    bank.restore(state)
    bank.check_integrity()
    kept = min(5, carriers)
    assert bank.frames == [0, 1, 2, 3, 4][-kept:]
    assert bank.past(0.0).keys.equal(state.keys[:, :, -kept:])
    assert (bank.absorbed, bank.evicted) == (5, 5 - kept)


def test_a_restored_span_does_not_grow_over_the_outage() -> None:
    bank = small_bank(4)
    bank.restore(filled(3).state(9.0))
    bank.extend(500.0)
    assert bank.newest_last_s == 2.0
    bank.add(noisy(3, wall_s=600.0))
    bank.extend(650.0)
    assert (bank.spans[-2].last_s, bank.newest_last_s) == (2.0, 650.0)
    bank.seal()
    bank.extend(700.0)
    assert bank.newest_last_s == 650.0


def test_a_carrier_that_brings_no_detail_is_absorbed_without() -> None:
    bank = filled(2, detail=3)
    empty = torch.zeros(1, 1, 0, 2)
    bank.add(replace(noisy(2), detail=Part(empty, empty, torch.arange(0))))
    bank.check_integrity()
    view = bank.fork()
    assert view.source.tolist() == [0, 1, 2, 0, 0, 1, 1]
    assert len(view.past) == len(view.source) == len(view.past.positions)


# -- refusing


def refused(path: Path, identity: str = "m1") -> str:
    """The reason for which a file is not read; the file must not change over it."""
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(SnapshotError) as fault:
        load(path, identity)
    assert str(path) in str(fault.value)
    assert "\n" not in str(fault.value)
    assert before is None or path.read_bytes() == before
    return fault.value.reason


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "door.bank"
    save(filled().state(9.0), path, "m1")
    size = path.stat().st_size
    reasons = set()
    for length in reversed(range(size)):
        os.truncate(path, length)
        reasons.add(refused(path))
    assert reasons == {"foreign", "truncated"}


def test_every_flipped_byte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "door.bank"
    save(filled().state(9.0), path, "m1")
    good = path.read_bytes()
    rng = random.Random(3)
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= rng.randrange(1, 256)
        path.write_bytes(bad)
        with pytest.raises(SnapshotError):
            load(path, "m1")
    path.write_bytes(good)
    assert load(path, "m1").camera == "door"


def test_what_is_wrong_has_a_name(tmp_path: Path) -> None:
    path = tmp_path / "door.bank"
    assert refused(path) == "missing"
    assert refused(tmp_path) == "unreadable"
    save(filled().state(9.0), path, "m1")
    good = path.read_bytes()
    assert refused(path, "m2") == "identity"
    path.write_bytes(good.replace(b"longwatch bank 1 ", b"longwatch bank 2 ", 1))
    assert refused(path) == "version"
    path.write_bytes(good + b"x")
    assert refused(path) == "truncated"
    for other in (b"", b"\0" * 500, b"\xff\xd8 a picture", b"longwatch bank 1", b"longwatch bank x 3 abc\n"):
        path.write_bytes(other)
        assert refused(path) == "foreign"


def with_checksum(payload: bytes) -> bytes:
    digest = hashlib.blake2b(payload, digest_size=32).hexdigest().encode()
    return b"longwatch bank 1 %d %s\n" % (len(payload), digest) + payload


@given(payload=st.binary(max_size=200))
def test_anything_with_a_right_checksum_is_refused_by_name(folder: Path, payload: bytes) -> None:
    path = folder / "odd.bank"
    path.write_bytes(with_checksum(payload))
    assert refused(path) == "damaged"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"frames":[0,1,2]', b'"frames":[0,2,1]'),
        (b'"frames":[0,1,2]', b'"frames":[0,1,9]'),
        (b'"frames":[0,1,2]', b'"frames":[0,1]'),
        (b'"jpeg_bytes":[', b'"jpeg_bytes":[-1,1,'),
        (b'"absorbed":3', b'"absorbed":"3"'),
        (b'"absorbed":3', b'"absorbed":3,"more":1'),
        (b'"dtype":"float32"', b'"dtype":"float8"'),
        (b'"dtype":"float32"', b'"dtype":"float16"'),
        (b'"head_width":2', b'"head_width":3'),
        (b'"layers":1', b'"layers":-1'),
        (b'"width":3', b'"width":99999999999999'),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(tmp_path: Path, old: bytes, new: bytes) -> None:
    path = tmp_path / "door.bank"
    save(filled(3).state(9.0), path, "m1")
    payload = path.read_bytes().split(b"\n", 1)[1]
    assert old in payload
    path.write_bytes(with_checksum(payload.replace(old, new)))
    assert refused(path) == "damaged"


def test_shapes_that_no_tensor_can_have_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "door.bank"
    save(small_bank(3).state(9.0), path, "m1")
    payload = path.read_bytes().split(b"\n", 1)[1]
    for number in (b"9" * 15, b"9" * 19, b"9" * 40):
        path.write_bytes(with_checksum(payload.replace(b'"layers":1', b'"layers":' + number)))
        with pytest.raises(SnapshotError):  # by one of the two: of no rows, some are possible
            small_bank(3).restore(load(path, "m1"))


@pytest.mark.parametrize(
    "change",
    [
        {"camera": "yard"},
        {"keys": torch.zeros(2, 1, 5, 2)},
        {"keys": torch.zeros(1, 1, 5, 4)},
        {"digests": torch.zeros(5, 4)},
        {"rng": b"1234"},
        {"rng": b""},
    ],
)
def test_a_state_that_does_not_fit_leaves_the_bank_empty(change: dict[str, Any]) -> None:
    bank = small_bank(8)
    with pytest.raises(SnapshotError) as fault:
        bank.restore(replace(filled().state(9.0), **change))
    assert fault.value.reason == "misfit"
    bank.check_integrity()
    bank.add(noisy(0))
    assert bank.frames == [0]


def test_a_file_set_aside_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "door.bank"
    targets = []
    for text in (b"one", b"two", b"three"):
        path.write_bytes(text)
        targets.append(set_aside(path, 1_785_000_000.0))
    assert [target.read_bytes() for target in targets] == [b"one", b"two", b"three"]
    assert targets[0].name == "door.bank.set-aside-20260725T172000Z"
    assert not path.exists()
    with pytest.raises(SnapshotError) as fault:
        set_aside(path, 1_785_000_000.0)
    assert fault.value.reason == "unwritable"


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    save(filled().state(9.0), tmp_path / "door.bank", "m1")
    first, second = (tmp_path / "door.bank").read_bytes().split(b"\n", 2)[:2]
    assert first.startswith(b"longwatch bank %d " % snapshot.VERSION)
    assert b'"camera":"door","identity":"m1"' in second
