"""The log of gaps: whatever a camera goes through, no time is lost, and none has two reasons."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from daemon.gaps import GapLog
from daemon.messages import Gap
from stream.source import StateChange

STEPS = {
    "frames": StateChange("cam", "online", "frames", 0.0),
    "black": StateChange("cam", "online", "black", 0.0),
    "frozen": StateChange("cam", "online", "frozen", 0.0),
    "ended": StateChange("cam", "offline", "ended", 0.0),
    "refused": StateChange("cam", "offline", "refused", 0.0),
    "retry": StateChange("cam", "connecting", "reconnect", 0.0),
}


def followed(*steps: tuple[float, str]) -> tuple[GapLog, list[Gap]]:
    """A log after these changes, and what it told; the newest picture came when the change says."""
    told: list[Gap] = []
    log = GapLog(told.append)
    for at_s, name in steps:
        known = STEPS[name]
        log.follow(StateChange(known.camera, known.state, known.reason, at_s), at_s)
    return log, told


def spans(log: GapLog) -> list[tuple[float, float | None, str]]:
    return [(gap.since_s, gap.until_s, gap.reason) for gap in log.between("cam", None, None)]


def test_black_is_a_gap_from_its_first_picture_to_the_first_good_one() -> None:
    log, told = followed((1.0, "frames"), (10.0, "black"), (30.0, "frames"))
    assert spans(log) == [(10.0, 30.0, "black")]
    assert told == [Gap("cam", 10.0, None, "black"), Gap("cam", 10.0, 30.0, "black")]


def test_a_camera_that_goes_offline_while_it_is_black_has_both_gaps() -> None:
    log, told = followed(
        (10.0, "black"), (20.0, "ended"), (21.0, "retry"), (22.0, "refused"), (40.0, "frames"), (40.5, "black")
    )
    assert spans(log) == [(10.0, 20.0, "black"), (20.0, 40.0, "refused"), (40.5, None, "black")]
    assert Gap("cam", 10.0, 20.0, "black") in told


def test_frozen_turns_black() -> None:
    log, _ = followed((10.0, "frozen"), (20.0, "frames"), (20.0, "black"), (25.0, "frames"))
    assert spans(log) == [(10.0, 20.0, "frozen"), (20.0, 25.0, "black")]


def test_a_black_gap_of_an_earlier_run_ends_where_the_camera_is_found_gone() -> None:
    log = GapLog()
    log.load(Gap("cam", 10.0, None, "black"))
    log.follow(StateChange("cam", "offline", "refused", 50.0), None)
    assert spans(log) == [(10.0, 50.0, "black"), (50.0, None, "refused")]


@given(st.lists(st.tuples(st.floats(0.1, 9.0), st.sampled_from(sorted(STEPS))), max_size=40))
def test_gaps_lie_one_after_the_other_and_cover_all_that_was_not_seen(moves: list[tuple[float, str]]) -> None:
    times = list(itertools.accumulate(step_s for step_s, _ in moves))
    log, told = followed(*zip(times, (name for _, name in moves), strict=True))
    gaps = log.between("cam", None, None)
    for before, after in itertools.pairwise(gaps):
        assert before.until_s is not None
        assert before.until_s <= after.since_s
    for at_s, (_, name) in zip(times, moves, strict=True):
        if name not in ("frames", "retry"):
            assert any(gap.since_s <= at_s + 0.01 and (gap.until_s is None or gap.until_s > at_s) for gap in gaps)
    last = {gap.since_s: gap for gap in told}
    assert all(last[gap.since_s] == gap for gap in gaps)


def test_what_is_loaded_is_known_and_told_to_nobody() -> None:
    told: list[Gap] = []
    log = GapLog(told.append)
    for gap in (Gap("cam", 1.0, 2.0, "ended"), Gap("cam", 5.0, None, "refused"), Gap("cam", 3.0, 4.0, "erased")):
        log.load(gap)
    assert spans(log) == [(1.0, 2.0, "ended"), (3.0, 4.0, "erased"), (5.0, None, "refused")]
    assert log.reason("cam") == "refused"
    assert told == [], "whoever loads it knows it"
    log.down("cam", 6.0, "refused")
    assert told == [], "still the same"
    log.down("cam", 7.0, "ended")
    log.up("cam", 8.0)
    assert told == [Gap("cam", 5.0, None, "ended"), Gap("cam", 5.0, 8.0, "ended")], "under the start it was loaded with"
    assert log.reason("cam") == ""


def test_changes_are_told_once_each_and_outside_the_lock() -> None:
    told: list[Gap] = []
    log = GapLog()

    def look(gap: Gap) -> None:
        told.append(gap)
        log.between(gap.camera, None, None)  # would wait for ever inside the lock

    log.on_change = look
    log.up("cam", 1.0)
    log.down("cam", 2.0, "ended")
    log.down("cam", 3.0, "ended")
    log.up("cam", 1.5)
    log.up("cam", 4.0)
    assert told == [Gap("cam", 2.0, None, "ended"), Gap("cam", 2.0, 2.0, "ended")], "one without length is closed too"
    assert spans(log) == []


@given(st.lists(st.tuples(st.integers(0, 9), st.none() | st.integers(0, 9)), max_size=12), st.integers(0, 9))
def test_gaps_between_are_those_that_touch_the_range(ends: list[tuple[int, int | None]], at: int) -> None:
    log = GapLog()
    known: list[Gap] = []
    for number, (since, length) in enumerate(ends):
        gap = Gap("cam", float(since), None if length is None else float(since + length), f"r{number}")
        log.load(gap)
        known = [item for item in known if gap.until_s is not None or item.until_s is not None] + [gap]
    found = log.between("cam", float(at), float(at + 2))
    touching = [gap for gap in known if gap.since_s <= at + 2 and (gap.until_s is None or gap.until_s >= at)]
    assert sorted(found, key=str) == sorted(touching, key=str)
    assert [gap.since_s for gap in found] == sorted(gap.since_s for gap in found)
    assert log.between("door", None, None) == ()
