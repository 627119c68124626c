"""What a question reads, over a real bank and a real archive: in time order, once each, where it belongs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memory import recall
from memory.archive import Archive, Reader
from memory.archive.types import Floats
from memory.recall import TABLE
from memory.recall.search import EVER, Range, search
from stream.positions import TABLE as SCHEMES
from tests.conformance.test_recall import KEEP_ALL
from tests.memory import archives
from tests.memory.archives import opened
from tests.memory.test_bank import state
from tests.memory.worlds import GEO, NOW_S, SHAPE, STEP_S, T0, Picks, asked, frames, new_bank, same, world


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """Nothing is lost in it: float32. One file for all worlds, a camera each."""
    path = tmp_path_factory.mktemp("archive") / "archive.sqlite"
    with opened(path, shape=SHAPE, dtype="float32", thumbnail_px=0) as found:
        yield found


# -- what is made of a choice


POOLING = {"videoxl2", "bvllm", "f2c"}  # a group is named by its newest frame
GROWN = st.lists(st.floats(0, 9, width=16), min_size=14, max_size=14)


@settings(max_examples=80, deadline=None)
@given(
    count=st.integers(0, 14),
    bank=st.tuples(st.integers(3, 6), st.integers(0, 3), st.sampled_from(sorted(SCHEMES))),
    grown=GROWN,
    bits=st.integers(0, 2**14 - 1),
)
def test_whatever_is_chosen_looks_as_a_bank_that_holds_just_that(
    archive: Archive, count: int, bank: tuple[int, int, str], grown: list[float], bits: int
) -> None:
    """Carriers, recent detail, moments, positions in all three schemes; and bank and view are left alone."""
    made_up = world(archive, count, grown, bank)
    before, view = state(made_up.bank), made_up.view()
    keys, positions = view.past.keys.clone(), view.past.positions.clone()
    found = search(Picks(bits), view, asked(), made_up.reader, made_up.how())
    chosen = [frame for frame in range(count) if bits >> frame & 1]
    same(found, made_up.only(chosen).fork(now_s=NOW_S))
    held = set(made_up.bank.frames)
    assert found.recalled == len(set(chosen) - held)
    assert all(moment.jpeg == (b"jpeg%d" % moment.frame if moment.frame in held else b"") for moment in found.moments)
    assert (found.held_from_s, found.held_to_s, found.evicted) == (view.held_from_s, view.held_to_s, view.evicted)
    assert state(made_up.bank) == before
    assert torch.equal(view.past.keys, keys)
    assert torch.equal(view.past.positions, positions)


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
@pytest.mark.parametrize("name", sorted(TABLE))
def test_where_the_bank_holds_everything_nothing_changes(archive: Archive, scheme: str, name: str) -> None:
    made_up = world(archive, 6, [3.0] * 6, (8, 3, scheme))
    method = recall.make({name: KEEP_ALL.get(name, {})})
    same(made_up.search(method), made_up.bank.fork(now_s=NOW_S))
    assert made_up.search(method).recalled == 0


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_a_bank_with_its_archive_is_a_bank_that_was_never_too_small(archive: Archive, scheme: str) -> None:
    made_up = world(archive, 12, [0.0, 9.0, 4.0] * 4, (3, 2, scheme))
    found = made_up.search(recall.make({"uniform": {}}))
    same(found, made_up.only(range(12), size=99).fork(now_s=NOW_S))
    assert found.recalled == 9


def test_int8_rounds_keys_and_values_a_little(tmp_path: Path) -> None:
    with opened(tmp_path / "archive.sqlite", shape=SHAPE, dtype="int8", thumbnail_px=0) as archive:
        made_up = world(archive, 12, (), (3, 2, "spaced"))
        found, wanted = made_up.search(recall.make({"uniform": {}})), made_up.only(range(12)).fork(now_s=NOW_S)
        made_up.reader.close()
    assert torch.equal(found.past.positions, wanted.past.positions)
    for got, want in ((found.past.keys, wanted.past.keys), (found.past.values, wanted.past.values)):
        error = (got - want).abs()
        assert float(error[:, :, :9].max()) > 0, "the archive's are rounded"
        assert float(error[:, :, 9:].max()) == 0, "the bank's and the recent detail are not"
        assert float(error.max()) <= float(want.abs().max()) / 127


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(TABLE)),
    count=st.integers(0, 24),
    bank=st.tuples(st.integers(3, 8), st.integers(0, 3), st.sampled_from(sorted(SCHEMES))),
    by=st.sampled_from([{"fifo": {}}, {"adjacent": {"when_full": "extend"}}, {"adjacent": {"when_full": "merge"}}]),
    room=st.integers(1, 20),
    scan=st.integers(1, 30),
    ends=st.tuples(st.none() | st.integers(-2, 26), st.none() | st.integers(-2, 26)),
)
def test_any_search_is_in_time_order_in_range_and_within_its_room(
    archive: Archive,
    name: str,
    count: int,
    bank: tuple[int, int, str],
    by: dict[str, Any],
    room: int,
    scan: int,
    ends: tuple[int | None, int | None],
) -> None:
    made_up = world(archive, count, (), bank, by)
    span = Range(*(None if end is None else T0 + STEP_S * end for end in ends))
    before = state(made_up.bank)
    found = made_up.search(recall.make({name: {}}), room, span, scan)
    assert state(made_up.bank) == before
    numbers = frames(found)
    assert numbers == sorted(set(numbers)), "time order, nothing twice"
    assert len(numbers) == found.count <= room
    assert all(moment.span.overlaps(span.since_s, span.until_s) for moment in found.moments)
    outside = len(set(numbers) - set(made_up.bank.frames))
    assert found.recalled == outside or name in POOLING, "a mean counts if any of it came from the archive"
    assert outside <= found.recalled <= found.count
    assert found.source[: found.count].tolist() == list(range(found.count))
    assert len(found.source) == len(found.past) == found.past.keys.shape[2] == found.past.values.shape[2]
    assert (len(found.past) - found.count) % GEO.visual == 0
    assert found.digests.shape == (found.count, GEO.width)
    there = [item for item in made_up.seen if item.span.overlaps(span.since_s, span.until_s)]
    assert numbers or not there or span != EVER, "whoever asks of ever reads something"
    where = made_up.bank.policy.positions.carriers([moment.span for moment in found.moments], NOW_S)
    assert torch.equal(found.past.positions[: found.count], where)
    if by == {"fifo": {}} and name not in POOLING:
        same(found, replace(made_up.only(numbers).fork(now_s=NOW_S), recalled=found.recalled))


def test_carriers_that_are_read_as_one_are_their_mean(archive: Archive) -> None:
    """Of bank and archive; under the newest one's name, over the time of all."""
    made_up = world(archive, 12, (), (4, 0, "compact"))
    found = made_up.search(recall.make({"videoxl2": {"block": 2, "dense": 0}}), room=6)
    assert frames(found) == [0, 1, 5, 9, 10, 11]
    assert found.recalled == 4
    for place, group in ((2, made_up.seen[2:6]), (3, made_up.seen[6:10])):
        for got, name in ((found.past.keys, "keys"), (found.past.values, "values")):
            wanted = torch.stack([getattr(item, name) for item in group]).mean(0)
            assert torch.allclose(got[:, :, place], wanted, atol=1e-6)
        span = found.moments[place].span
        assert (span.first_s, span.last_s) == (group[0].span.first_s, group[-1].span.last_s)


def test_an_empty_bank_reads_what_the_archive_has(archive: Archive) -> None:
    """After a restart without a snapshot, before the first frame."""
    made_up = world(archive, 9)
    made_up.bank = new_bank(4, 2, "compact", made_up.bank.camera)
    found = made_up.search(recall.make({"uniform": {}}), room=4)
    assert frames(found) == [0, 3, 5, 8]
    assert torch.equal(found.past.keys[:, :, 1], made_up.seen[3].keys)


# -- ranges


@pytest.mark.parametrize(
    ("since", "until", "found"),
    [
        (None, None, range(10)),
        (20.0, 40.0, [2, 3, 4]),  # both ends belong to it
        (20.1, 39.9, [2, 3]),  # the one from before is shown until 25
        (25.0, 29.0, [2]),
        (25.1, 29.0, []),
        (None, 10.0, [0, 1]),
        (80.0, None, [8, 9]),
        (99.0, None, []),
        (None, -1.0, []),
        (70.0, 70.0, [7]),
    ],
)
def test_a_range_reads_what_touches_it_from_bank_and_archive(
    archive: Archive, since: float | None, until: float | None, found: Sequence[int]
) -> None:
    made_up = world(archive, 10, [5.0] * 9, (4, 2, "compact"))
    span = Range(*(None if end is None else T0 + end for end in (since, until)))
    for name in ("uniform", "relevance", "clips"):
        assert frames(made_up.search(recall.make({name: {}}), span=span)) == list(found)
    assert frames(made_up.search(recall.make({"all": {}}), span=span)) == [frame for frame in found if frame >= 6]


# -- what leaves while it is read


class Leaving(Reader):
    """Erases, for good and at the worst moment."""

    archive: Archive
    camera: str
    frames: tuple[int, ...]
    when: str

    def _erase(self, now: str) -> None:
        if now == self.when:
            for frame in self.frames:
                at_s = T0 + STEP_S * frame
                self.archive.forget(self.camera, at_s, at_s).result(archives.WAIT_S)

    def digests(self, ids: Sequence[int]) -> tuple[list[int], Floats]:
        self._erase("digests")
        return super().digests(ids)

    def carriers(self, ids: Sequence[int]) -> tuple[list[int], Floats, Floats]:
        self._erase("carriers")
        return super().carriers(ids)


@pytest.mark.parametrize("when", ["digests", "carriers"])
def test_a_row_that_is_erased_while_it_is_read_is_left_out(tmp_path: Path, when: str) -> None:
    with opened(tmp_path / "archive.sqlite", shape=SHAPE, dtype="float32", thumbnail_px=0) as archive:
        made_up = world(archive, 9, [4.0] * 9, (3, 2, "spaced"))
        reader = Leaving(archive.path)
        reader.archive, reader.camera, reader.frames, reader.when = archive, made_up.bank.camera, (1, 4), when
        made_up.reader = reader
        found = made_up.search(recall.make({"uniform": {}}))
        reader.close()
    same(found, made_up.only([0, 2, 3, 5, 6, 7, 8]).fork(now_s=NOW_S))
    assert found.recalled == 4


def test_an_archive_that_is_not_there_leaves_the_bank_as_it_is(archive: Archive, tmp_path: Path) -> None:
    made_up = world(archive, 9)
    made_up.reader = Reader(tmp_path / "nowhere" / "archive.sqlite")
    for name in TABLE:
        method = recall.make({name: KEEP_ALL.get(name, {})})
        same(made_up.search(method), made_up.bank.fork(now_s=NOW_S))
