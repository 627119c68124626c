"""Forgetting: what is erased is in no byte of bank and file, and both go on alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memory.bank import MemoryBank
from memory.snapshot import load, remainder, save, scrub
from stream.errors import SnapshotError
from stream.types import Carrier, Span
from tests.memory.test_bank import carrier, small_bank
from tests.memory.test_snapshot import METHODS, TENSORS, content, copy, new_bank, noisy

EDGE = st.none() | st.floats(-2, 45, width=16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For hypothesis, which wants one folder for all its examples."""
    return tmp_path_factory.mktemp("banks")


def with_companions(bank: MemoryBank) -> MemoryBank:
    """The same, new, with room for one companion a carrier."""
    return MemoryBank(bank.camera, bank.geometry, replace(bank.policy, companions=1))


def stored(bank: MemoryBank, place: str) -> list[tuple[str, Any]]:
    """The tensors behind recent detail, or behind companions."""
    parts = bank._detail.parts if place == "_detail" else bank._companions
    return [("keys", parts._keys), ("values", parts._values)]


def all_bytes(bank: MemoryBank) -> bytes:
    """What a thief would find in a bank's own memory."""
    kept = {f"{place} {name}": part for place in ("_detail", "_companions") for name, part in stored(bank, place)}
    parts = {**vars(bank._lane), **kept}
    places = {"_mask", "_where", "_stands"}  # which slots are held, and their positions: nothing that was seen
    tensors = [part for name, part in parts.items() if isinstance(part, torch.Tensor) and name not in places]
    tensors.append(bank._digests)
    held = [entry.jpeg for entry in bank._entries if entry is not None]
    return b"|".join([*(tensor.contiguous().numpy().tobytes() for tensor in tensors), *held])


def secrets(item: Carrier) -> list[bytes]:
    """Byte strings by which a frame could be found again: its picture, and each row of its tensors."""
    tensors = [getattr(item, name) for name in TENSORS] + [item.detail.keys, item.detail.values]
    if item.companions is not None:
        tensors += [item.companions.keys, item.companions.values]
    rows = [row.numpy().tobytes() for tensor in tensors for row in tensor.reshape(-1, tensor.shape[-1])]
    return [item.jpeg, *rows]


@pytest.mark.parametrize(
    ("span", "since_s", "until_s", "left"),
    [
        (Span(10, 10), 11, 20, Span(10, 10)),
        (Span(10, 10), 10, 20, None),
        (Span(10, 10), 5, 10, None),
        (Span(10, 30), 20, 25, Span(10, 20)),  # a still scene from before: the picture stays
        (Span(10, 30, 3), 20, 25, None),  # some frame of these may have been in the range
        (Span(10, 30), None, 25, None),
        (Span(10, 30), None, 9, Span(10, 30)),
        (Span(10, 30), 20, None, Span(10, 20)),
        (Span(10, 30), None, None, None),
    ],
)
def test_what_is_left_of_a_span(span: Span, since_s: float | None, until_s: float | None, left: Span | None) -> None:
    assert remainder(span, since_s, until_s) == left
    if left is not None:
        assert remainder(left, since_s, until_s) == left, "twice is once"


@settings(max_examples=120, deadline=None)
@given(
    carriers=st.integers(1, 8),
    detail=st.integers(0, 3),
    method=st.sampled_from([method for method in METHODS if "merge" not in str(method)]),
    frames=st.integers(0, 30),
    still=st.sets(st.integers(0, 30)),
    edges=st.tuples(EDGE, EDGE),
)
def test_what_is_forgotten_leaves_bank_and_file(
    folder: Path,
    carriers: int,
    detail: int,
    method: dict[str, Any],
    frames: int,
    still: set[int],
    edges: tuple[float | None, float | None],
) -> None:
    since_s, until_s = edges if None in edges else sorted(edges)  # type: ignore[type-var]
    bank = with_companions(new_bank(carriers, detail, method))
    for frame in range(frames):
        bank.add(noisy(frame))
        if frame in still:
            bank.extend(frame + 0.75)
    spans, path = dict(zip(bank.frames, bank.spans, strict=True)), folder / "door.bank"
    save(bank.state(99.0), path, "any model")
    (folder / "door.bank.abcdefgh.partial").write_bytes(path.read_bytes())  # a save that was killed
    dropped = bank.forget(since_s, until_s)
    bank.check_integrity()
    left = {frame: remainder(span, since_s, until_s) for frame, span in spans.items()}
    kept = {frame: span for frame, span in left.items() if span is not None}
    assert dict(zip(bank.frames, bank.spans, strict=True)) == kept
    assert dropped == len(left) - len(kept)
    assert scrub(path, since_s, until_s) == dropped
    assert list(folder.glob("*.partial")) == []
    memory, file = all_bytes(bank), path.read_bytes()
    for frame in range(frames):
        inside = (since_s is None or frame >= since_s) and (until_s is None or frame <= until_s)
        for secret in secrets(noisy(frame)):
            assert frame in kept or secret not in file
            assert not inside or secret not in memory
        if frame in kept:
            assert all(secret in file for secret in secrets(noisy(frame))[:4])
    assert bank.newest_frame == frames - 1
    other = MemoryBank(bank.camera, bank.geometry, bank.policy)
    other.restore(load(path, "any model"))
    assert (other.frames, other.spans, other.newest_frame) == (bank.frames, bank.spans, bank.newest_frame)
    for frame in range(frames, frames + 6):
        assert bank.add(noisy(frame)) == other.add(noisy(frame)), "and both go on alike"
        bank.check_integrity()
    assert (other.frames, other.spans) == (bank.frames, bank.spans)
    assert scrub(path, since_s, until_s) == 0, "twice is once"


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_a_bank_that_forgot_everything_goes_on(method: dict[str, Any], tmp_path: Path) -> None:
    bank = with_companions(new_bank(4, 2, method))
    for frame in range(9):
        bank.add(noisy(frame, tag="old"))
    assert bank.forget(None, None) == 4
    bank.check_integrity()
    assert (len(bank), bank.newest_last_s, bank.newest_frame) == (0, None, 8)
    assert not bank.fork()
    assert not any(all_bytes(bank).replace(b"|", b"")), "zeros"
    other = copy(bank, tmp_path / "door.bank")
    for item in (bank, other):
        with pytest.raises(AssertionError, match="in order"):
            item.add(noisy(8))
        for frame in range(9, 20):
            item.add(noisy(frame))
            item.check_integrity()
    assert content(bank) == content(other)
    assert len(bank) == 4
    assert b"old" not in all_bytes(bank)


def test_a_span_does_not_grow_back_over_what_was_erased() -> None:
    bank = small_bank(4)
    for frame in range(3):
        bank.add(noisy(frame, wall_s=10.0 * frame))
    bank.extend(40.0)
    assert bank.forget(30.0, 35.0) == 0
    bank.extend(50.0)
    assert bank.newest_last_s == 30.0, "the picture is from before the range and stays; what it said of later does not"
    assert bank.forget(15.0, 60.0) == 1
    bank.extend(70.0)
    assert bank.spans == [Span(0.0, 0.0), Span(10.0, 10.0)]
    bank.add(noisy(3, wall_s=80.0))
    bank.extend(90.0)
    assert bank.newest_last_s == 90.0
    assert bank.forget(0.0, 0.0) == 1
    bank.extend(95.0)
    assert bank.newest_last_s == 95.0, "an older one that goes does not end the newest"


def test_detail_goes_with_the_carrier_that_took_its_frame_in() -> None:
    bank = small_bank(2, 3, {"adjacent": {"when_full": "extend"}})
    for frame, value in ((0, 0.0), (1, 3.0), (2, 3.0)):  # 1 leaves into 2
        bank.add(carrier(frame, value))
    assert bank.frames == [0, 2]
    assert bank.forget(1.9, 2.5) == 1
    assert [item.frame for item in bank._detail] == [0]
    view = bank.fork()
    assert view.source.tolist() == [0, 0, 0]


def test_detail_goes_though_its_carrier_was_evicted() -> None:
    bank = small_bank(2, 3, {"adjacent": {"when_full": "drop"}})
    for frame, value in ((0, 0.0), (1, 3.0), (2, 3.0)):  # 1 leaves
        bank.add(carrier(frame, value))
    assert bank.forget(0.5, 1.5) == 0
    assert [item.frame for item in bank._detail] == [0, 2]


def test_a_file_that_cannot_be_read_is_not_scrubbed(tmp_path: Path) -> None:
    path = tmp_path / "door.bank"
    path.write_bytes(b"something else")
    with pytest.raises(SnapshotError) as fault:
        scrub(path, None, None)
    assert fault.value.reason == "foreign"
    assert path.read_bytes() == b"something else"
