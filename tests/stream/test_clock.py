"""Arrival is the truth, pts only spacing: whatever a camera sends, time goes forward and never ahead."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.clock import ClockMap, Stamp, SystemClock
from tests.fakes import FakeClock

LAG_S = 1.0
ULP_S = 1e-6  # float64 of the epoch resolves 0.24 us

steps = st.floats(1e-4, 20.0)
stamps = st.one_of(
    st.none(), st.floats(-1e6, 1e6), st.sampled_from([math.nan, math.inf, 0.0, 2**32 / 90_000, -(2**33) / 90_000])
)


@given(st.lists(st.tuples(steps, stamps, st.booleans()), min_size=1, max_size=60))
def test_any_pts(events: list[tuple[float, float | None, bool]]) -> None:
    clock = FakeClock()
    mapped = ClockMap(clock, LAG_S)
    last_wall_s, last = -math.inf, None
    for step_s, pts_s, reconnect in events:
        clock.move(step_s)
        if reconnect:
            mapped.restart()
        stamp = mapped.stamp(pts_s)
        assert stamp.wall_s > last_wall_s
        assert clock.wall_s() - LAG_S - ULP_S <= stamp.wall_s <= clock.wall_s() + ULP_S
        if last is None or stamp.segment != last.segment:
            assert stamp.pts_s == 0.0
        else:
            assert stamp.pts_s >= last.pts_s
        last_wall_s, last = stamp.wall_s, stamp


@given(st.lists(st.floats(0.0, 0.3), min_size=5, max_size=80))
def test_jitter_of_the_network_is_evened_out(delays_s: list[float]) -> None:
    clock = FakeClock()
    mapped = ClockMap(clock, LAG_S)
    walls = []
    for index, delay_s in enumerate([0.0, *delays_s]):  # the first frame comes without delay
        clock.now_s = max(clock.now_s + 1e-4, index * 0.1 + delay_s)
        walls.append(mapped.stamp(5000.0 + index * 0.1).wall_s - 1_700_000_000.0)
    assert walls == pytest.approx([index * 0.1 for index in range(len(walls))], abs=0.02)  # the leak is all


def test_wrap_and_jump_keep_the_spacing() -> None:
    clock = FakeClock()
    mapped = ClockMap(clock)
    wrap_s = 2**32 / 90_000
    out = []
    for index in range(10):
        clock.move(0.1)
        out.append(mapped.stamp((wrap_s - 0.45 + index * 0.1) % wrap_s + (3600 if index == 8 else 0)))
    assert [stamp.pts_s for stamp in out] == pytest.approx([index * 0.1 for index in range(10)], abs=1e-3)
    assert {stamp.segment for stamp in out} == {0}


def test_slow_camera_crystal_does_not_build_up_lag() -> None:
    clock = FakeClock()
    mapped = ClockMap(clock)
    for index in range(50_000):  # 200 parts per million slow, for 14 hours
        clock.move(1.0002)
        stamp = mapped.stamp(float(index))
    assert clock.wall_s() - stamp.wall_s < 0.01


def test_wall_clock_set_back_keeps_order_and_spacing() -> None:
    clock = FakeClock()
    mapped = ClockMap(clock)
    walls = []
    for index in range(100):
        clock.move(1.0)
        clock.skew_s -= 20.0 if index == 10 else 0.0
        walls.append(mapped.stamp(float(index)).wall_s)
    gaps = [b - a for a, b in itertools.pairwise(walls)]
    assert min(gaps) == pytest.approx(0.5)
    assert walls[-1] == pytest.approx(clock.wall_s())  # and it has caught up


def test_restart_counts_segments() -> None:
    mapped = ClockMap(FakeClock())
    assert [mapped.restart(), mapped.restart()] == [0, 1]
    assert mapped.stamp(77.0).segment == 1


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="got 0"):
        ClockMap(SystemClock(), 0)


def test_what_was_held_is_stamped_as_if_it_had_not_been() -> None:
    pts_s = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    clock, late = FakeClock(), FakeClock()
    told, held = ClockMap(clock), ClockMap(late)
    on_time: list[Stamp] = []
    for at_s in pts_s:
        on_time.append(told.stamp(at_s))
        clock.move(0.1)
    first = held.stamp(pts_s[0])
    late.move(3.0)
    later = [first, *(held.stamp(at_s, at_s) for at_s in pts_s[1:])]
    assert [stamp.wall_s for stamp in later] == pytest.approx([stamp.wall_s for stamp in on_time])
    assert [stamp.pts_s for stamp in later] == pytest.approx([stamp.pts_s for stamp in on_time])
