"""The bank: bounded, in time order, never lost or doubled; asking changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memory import retain
from memory.bank import MemoryBank, Policy
from memory.retain import TABLE
from stream.model import Geometry
from stream.positions import Compact
from stream.types import Budget, Carrier, Part, Span

SMALL = Geometry(
    name="small",
    layers=1,
    kv_heads=1,
    head_width=2,
    width=3,
    visual=2,
    grid=(1, 2),
    image_px=4,
    tower_blocks=1,
    max_positions=64,
    positions="compact",
    carriers=None,
    trained=True,
    pointer=None,
    trust=None,
    dtype=torch.float32,
    device=torch.device("cpu"),
)


def small_bank(carriers: int, detail: int = 0, method: dict[str, Any] | None = None, companions: int = 0) -> MemoryBank:
    scheme = Compact(1, 2)
    policy = Policy(Budget(carriers, detail), retain.make(method or {"fifo": {}}), scheme, companions=companions)
    return MemoryBank("door", SMALL, policy)


def carrier(frame: int, value: float | None = None, wall_s: float | None = None) -> Carrier:
    number = float(frame if value is None else value)
    at_s = float(frame if wall_s is None else wall_s)
    return Carrier(
        camera="door",
        frame=frame,
        span=Span(at_s, at_s),
        digest=torch.tensor([1.0, number, number * number]),
        keys=torch.full((1, 1, 2), number),
        values=torch.full((1, 1, 2), -number),
        detail=Part(torch.full((1, 1, 2, 2), number), torch.full((1, 1, 2, 2), -number), torch.arange(2)),
        jpeg=b"jpeg%d" % frame,
    )


def state(bank: MemoryBank) -> list[Any]:
    """Everything a bank holds, bit by bit."""
    past = bank.past(0.0)
    detail = [tensor.numpy().tobytes() for item in bank._detail for tensor in (item.part.keys, item.part.values)]
    return [
        past.keys.numpy().tobytes(),
        past.values.numpy().tobytes(),
        bank.spans,
        bank.frames,
        list(bank._order),
        detail,
    ]


@settings(max_examples=60, deadline=None)
@given(
    carriers=st.integers(1, 7),
    detail=st.integers(0, 3),
    method=st.sampled_from(
        [{name: {}} for name in TABLE] + [{"adjacent": {"when_full": how}} for how in ("drop", "extend", "merge")]
    ),
    values=st.lists(st.floats(-4, 4, width=16), max_size=40),
    asks=st.sets(st.integers(0, 40)),
)
def test_any_sequence_keeps_every_invariant(
    carriers: int, detail: int, method: dict[str, Any], values: list[float], asks: set[int]
) -> None:
    bank = small_bank(carriers, detail, method)
    for frame, value in enumerate(values):
        bank.add(carrier(frame, value))
        bank.check_integrity()
        assert len(bank) == min(frame + 1, carriers)
        assert bank.frames[-1] == frame, "the newest is always kept"
        if frame in asks:
            before = state(bank)
            bank.fork(since_s=frame / 2, until_s=frame)
            assert state(bank) == before
    assert bank.absorbed == len(values)
    assert bank.evicted == max(0, len(values) - carriers)
    extends = "extend" in str(method) or "merge" in str(method) or method == {"adjacent": {}}
    if extends and values:
        assert sum(span.count for span in bank.spans) == len(values), "every frame is still counted in some span"


def test_a_view_outlives_what_happens_to_the_bank() -> None:
    bank = small_bank(3, 2)
    for frame in range(3):
        bank.add(carrier(frame))
    view = bank.fork()
    keys, moments = view.past.keys.clone(), view.moments
    for frame in range(3, 9):
        bank.add(carrier(frame))
    assert torch.equal(view.past.keys, keys)
    assert view.moments == moments
    assert [moment.frame for moment in moments] == [0, 1, 2]


def test_a_view_holds_carriers_and_recent_detail_at_their_positions() -> None:
    bank = small_bank(4, 2)
    for frame in range(6):
        bank.add(carrier(frame))
    view = bank.fork()
    assert [moment.frame for moment in view.moments] == [2, 3, 4, 5]
    assert view.past.positions.tolist() == [1, 2, 3, 4, 3, 3, 4, 4]
    assert view.source.tolist() == [0, 1, 2, 3, 2, 2, 3, 3]
    assert view.past.keys[0, 0, :, 0].tolist() == [2, 3, 4, 5, 4, 4, 5, 5]


@pytest.mark.parametrize("method", [{"fifo": {}}, {"adjacent": {"when_full": "merge"}}, {"adjacent": {}}], ids=str)
def test_the_newest_frames_alone(method: dict[str, dict[str, str]]) -> None:
    """Detail of a frame that the newest carrier took in is older than it, and stays out."""
    bank = small_bank(2, 3, method)
    for frame in range(7):
        bank.add(carrier(frame))
        view = bank.fork(newest=1)
        assert view.moments[-1].frame == frame
        assert view.count == 1
        assert view.past.positions.tolist() == [1, 1, 1]
        assert view.past.keys[0, 0, 1:, 0].tolist() == [frame, frame]
    assert bank.fork(newest=3).past.keys[0, 0, -6:, 0].tolist() == [4, 4, 5, 5, 6, 6]
    assert not small_bank(2, 3).fork(newest=1)
    bare = small_bank(3, 0)
    for frame in range(3):
        bare.add(carrier(frame))
    assert [moment.frame for moment in bare.fork(newest=2).moments] == [1, 2]


def test_a_time_range_reads_only_what_touches_it() -> None:
    bank = small_bank(8, 8)
    for frame in range(8):
        bank.add(carrier(frame, wall_s=100.0 + 10 * frame))
    view = bank.fork(since_s=115.0, until_s=140.0)
    assert [moment.frame for moment in view.moments] == [2, 3, 4]
    assert view.past.positions[:3].tolist() == [1, 2, 3], "positions are assigned anew"
    assert (view.held_from_s, view.held_to_s) == (100.0, 170.0)
    assert not bank.fork(since_s=500.0)


@pytest.mark.parametrize(
    ("how", "spans", "value"),
    [
        ("drop", [(1, 1, 1), (9, 9, 1)], 9.0),
        ("extend", [(0, 1, 2), (9, 9, 1)], 9.0),
        ("merge", [(0, 1, 2), (9, 9, 1)], 8.5),
    ],
)
def test_what_becomes_of_the_one_that_leaves(how: str, spans: list[tuple[float, float, int]], value: float) -> None:
    bank = small_bank(2, 0, {"adjacent": {"when_full": how}})
    for frame, number in ((0, 8.0), (1, 9.0), (9, 0.0)):  # 0 and 1 are the most alike: 0 leaves
        bank.add(carrier(frame, number))
    assert [(span.first_s, span.last_s, span.count) for span in bank.spans] == spans
    assert bank.past(0.0).keys[0, 0, :, 0].tolist() == [value, 0.0]


def test_a_still_camera_extends_the_newest_span_only_forwards() -> None:
    bank = small_bank(2)
    bank.extend(5.0)  # nothing is remembered: nothing happens
    bank.add(carrier(0, wall_s=10.0))
    bank.extend(25.0)
    bank.extend(20.0)
    assert bank.spans == [Span(10.0, 25.0, 1)]


def test_out_of_order_frames_are_our_own_bug() -> None:
    bank = small_bank(4)
    bank.add(carrier(3))
    with pytest.raises(AssertionError, match="in order"):
        bank.add(carrier(3))
