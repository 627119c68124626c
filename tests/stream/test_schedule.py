"""When a camera is watched: over midnight, over changes of the clock; and what a source does outside that time."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.gate import make
from stream.schedule import ALWAYS, Schedule, Window
from stream.source import Source, SourceConfig, Surroundings
from tests.fakes import FakeClock, FakeOpener, picture
from tests.stream.test_source import SECRET, SIZE, Watch, until

BERLIN = ZoneInfo("Europe/Berlin")
DAY = Window(8 * 60, 18 * 60)
MON, SUN = frozenset({0}), frozenset({6})


def at(text: str, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).timestamp()


def changes(windows: list[Window], since: str, hours: int) -> list[str]:
    """UTC times, to the minute, at which it begins (`+`) and ends (`-`) to be watched."""
    schedule, found, before = Schedule(windows, BERLIN), [], False
    for minute in range(hours * 60):
        now_s = at(since) + 60 * minute
        watched = schedule.watched(now_s)
        if watched != before:
            stamp = datetime.fromtimestamp(now_s, ZoneInfo("UTC")).strftime("%d %H:%M")
            found.append(f"{'+' if watched else '-'}{stamp}")
        before = watched
    return found


CASES = {
    "by day": ([DAY], "2026-11-20T00:00", 48, ["+20 07:00", "-20 17:00", "+21 07:00", "-21 17:00"]),
    "over midnight": ([Window(1320, 360)], "2026-11-20T12:00", 24, ["+20 21:00", "-21 05:00"]),
    "begins on Sunday, ends on Monday": ([Window(1320, 360, SUN)], "2026-11-21T00:00", 72, ["+22 21:00", "-23 05:00"]),
    "until midnight": ([Window(1320, 1440, SUN)], "2026-11-21T00:00", 72, ["+22 21:00", "-22 23:00"]),
    "a whole day": ([Window(0, 0, SUN)], "2026-11-21T00:00", 72, ["+21 23:00", "-22 23:00"]),
    "two that touch": (
        [Window(60, 120, MON), Window(120, 180, MON)],
        "2026-11-22T12:00",
        30,
        ["+23 00:00", "-23 02:00"],
    ),
    "summer begins: an hour is missing": ([Window(60, 240)], "2026-03-29T00:00", 12, ["+29 00:00", "-29 02:00"]),
    "summer begins: from a time that is skipped": (
        [Window(150, 300)],
        "2026-03-29T00:00",
        12,
        ["+29 01:30", "-29 03:00"],
    ),
    "summer begins: all of it is skipped": ([Window(135, 180)], "2026-03-29T00:00", 12, []),
    "summer ends: an hour more": ([Window(60, 240)], "2026-10-25T00:00", 12, ["+24 23:00", "-25 03:00"]),
    "summer ends: until the first of both": ([Window(60, 150)], "2026-10-25T00:00", 12, ["+24 23:00", "-25 00:30"]),
    "summer ends: from the first of both": ([Window(150, 240)], "2026-10-25T00:00", 12, ["+25 00:30", "-25 03:00"]),
}


@pytest.mark.parametrize(("windows", "since", "hours", "expected"), CASES.values(), ids=CASES.keys())
def test_windows(windows: list[Window], since: str, hours: int, expected: list[str]) -> None:
    assert changes(windows, since, hours) == expected


@given(
    st.integers(0, 1439),
    st.integers(0, 1440),
    st.frozensets(st.integers(0, 6)),
    st.integers(0, 14 * 1440 - 1),
)
def test_where_no_clock_changes_it_is_what_the_clock_says(
    begin: int, end: int, days: frozenset[int], minute: int
) -> None:
    local = datetime(2026, 6, 1) + timedelta(minutes=minute)  # a Monday
    at_min = local.hour * 60 + local.minute
    if begin < end:
        expected = local.weekday() in days and begin <= at_min < end
    else:
        yesterday = (local.weekday() - 1) % 7
        expected = (local.weekday() in days and at_min >= begin) or (yesterday in days and at_min < end)
    assert Schedule([Window(begin, end, days)], BERLIN).watched(local.replace(tzinfo=BERLIN).timestamp()) == expected


def test_no_window_is_always_and_senseless_ones_are_refused() -> None:
    assert ALWAYS.watched(0.0)
    assert not Schedule([Window(0, 1440, frozenset())]).watched(0.0)
    for begin, end, days in ((-1, 5, MON), (1440, 5, MON), (0, 1441, MON), (0, 60, frozenset({7}))):
        with pytest.raises(ValueError, match="a window needs"):
            Window(begin, end, days)


def test_outside_its_schedule_a_camera_is_not_even_connected() -> None:
    clock, watch = FakeClock(at("2026-11-20T17:59:58")), Watch()
    opener = FakeOpener(
        [picture(0), lambda: clock.move(1), picture(1), lambda: clock.move(1), picture(2), picture(3)],
        [picture(at_) for at_ in range(5)],
    )
    schedule = Schedule([DAY], BERLIN)
    around = Surroundings(clock=clock, rng=random.Random(0), opener=opener, first_backoff_s=0.01)
    config = SourceConfig("cam", SECRET, SIZE, schedule=schedule)
    source = Source(config, make([{"all": {}}]), watch.frames.append, watch.changes.append, around)
    source.start()
    try:
        until(watch.seen(("online", "frames"), ("offline", "schedule")))
        assert len(watch.frames) == 2
        assert all(capture.closed for capture in opener.opened)
        clock.move(3600.0)
        assert not source.watchdog()
        assert source.alive
        assert len(opener.opened) == 1
        clock.move(at("2026-11-21T08:00") - clock.wall_s())
        until(watch.seen(("offline", "schedule"), ("connecting", "reconnect"), ("online", "frames")))
        assert [state for state in watch.states[:5] if state[0] == "offline"] == [("offline", "schedule")]
    finally:
        assert source.stop()


def test_a_fault_of_the_moment_in_which_it_ends_is_none() -> None:
    clock, watch = FakeClock(at("2026-11-20T17:59:59")), Watch()
    opener = FakeOpener([picture(0), lambda: clock.move(2), OSError("gone")])
    around = Surroundings(clock=clock, rng=random.Random(0), opener=opener, first_backoff_s=0.01)
    config = SourceConfig("cam", SECRET, SIZE, schedule=Schedule([DAY], BERLIN))
    source = Source(config, make([{"all": {}}]), watch.frames.append, watch.changes.append, around)
    source.start()
    until(watch.seen(("offline", "schedule")))
    assert source.stop()
