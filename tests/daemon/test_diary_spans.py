"""Every carrier belongs to one event span, however they come and wherever reading begins anew; a day's counts."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from daemon.diary.day import Day, days, missed_events, missed_text, summary
from daemon.diary.spans import SETTLE_S, Cutter, EventSpan
from daemon.times import Speech
from memory.archive import Line, Outage

GAP_S, LONGEST_S = 10.0, 60.0
BERLIN = ZoneInfo("Europe/Berlin")

steps = st.lists(st.sampled_from([0.5, 1.0, 3.0, 9.0, 10.0, 11.0, 400.0, -20.0]), min_size=1, max_size=60)


def cut(times: list[float], begin: int = 0, looks: frozenset[int] = frozenset()) -> list[EventSpan]:
    """Of carriers `begin + 1`.. in order; `looks`: carriers after which somebody asks what is over by now."""
    cutter, found = Cutter("door", GAP_S, LONGEST_S), []
    for number, at_s in enumerate(times[begin:], begin + 1):
        found.append(cutter.add(number, at_s))
        if number in looks:
            found.append(cutter.close(at_s + GAP_S))
    found.append(cutter.close(max(times) + 1e6))
    return [span for span in found if span is not None]


def at(deltas: list[float]) -> list[float]:
    total, found = 1e9, []
    for delta in deltas:
        total += delta
        found.append(total)
    return found


@given(steps, st.frozensets(st.integers(1, 60)))
def test_every_carrier_is_in_one_span_however_they_come(deltas: list[float], looks: frozenset[int]) -> None:
    times = at(deltas)
    spans = cut(times)
    assert cut(times, looks=looks) == spans, "an early look closes nothing that may go on"
    assert sum(span.carriers for span in spans) == len(times)
    assert [span.carrier for span in spans] == sorted({span.carrier for span in spans})
    assert spans[-1].carrier == len(times)
    begin = 0
    for span in spans:
        own = times[begin : span.carrier]
        begin = span.carrier
        assert (span.first_s, span.last_s, span.carriers) == (own[0], own[-1], len(own))
        assert span.last_s - span.first_s <= LONGEST_S
        assert all(0 <= late - early <= GAP_S for early, late in pairwise(own))
    for early, late in pairwise(spans):
        near = 0 <= late.first_s - early.last_s <= GAP_S
        assert not near or late.first_s - early.first_s > LONGEST_S, "cut only where it must be"


@given(steps, st.data())
def test_a_restart_after_any_line_gives_the_same_spans(deltas: list[float], data: st.DataObject) -> None:
    times = at(deltas)
    spans = cut(times)
    mark = data.draw(st.sampled_from([0, *(span.carrier for span in spans)]))
    assert cut(times, mark) == [span for span in spans if span.carrier > mark]


def test_a_span_is_over_when_nothing_came_for_long_enough() -> None:
    cutter = Cutter("door", GAP_S, LONGEST_S, epoch=3)
    assert cutter.add(7, 100.0) is None
    assert cutter.close(100.0 + GAP_S + SETTLE_S) is None
    assert cutter.close(100.1 + GAP_S + SETTLE_S) == EventSpan("door", 100.0, 100.0, 7, 1, 3)
    assert cutter.close(1e9) is None


# -- days


def event(day: str, kind: str = "event", text: str = "a red car", length_s: float = 20.0) -> Line:
    first_s = datetime.fromisoformat(day).replace(tzinfo=BERLIN).timestamp()
    return Line("door", first_s, first_s + length_s, text, kind)  # type: ignore[arg-type]


def day_of(text: str) -> Day:
    now_s = datetime.fromisoformat(text).replace(tzinfo=BERLIN, hour=12).timestamp() + 86_400
    return list(days(now_s, BERLIN))[-1]


def test_days_begin_at_midnight_there_whatever_the_clocks_do() -> None:
    spring = day_of("2026-03-29")
    assert spring.until_s - spring.since_s == 23 * 3600
    assert day_of("2026-10-25").until_s - day_of("2026-10-25").since_s == 25 * 3600
    found = list(days(spring.until_s + 1, BERLIN))
    assert len(found) == 7
    assert found[-1] == spring
    assert all(early.until_s == late.since_s for early, late in pairwise(found))


def test_a_day_is_counts_and_times_and_nothing_else() -> None:
    day, speech = day_of("2026-05-12"), Speech(BERLIN)
    lines = [
        event("2026-05-12T07:02"),
        event("2026-05-12T17:10"),
        event("2026-05-12T17:40:30"),
        event("2026-05-12T22:40"),
    ]
    said = summary(lines, [], day, speech)
    assert said == "4 events from 07:02 to 22:40, most from 17:00 to 18:00 (2)"
    assert summary([], [], day, speech) == "no events"
    assert summary(lines[:1], [], day, speech) == "1 event at 07:02:00"
    noon_s = day.since_s + 43_200
    gaps = [Outage("door", noon_s, noon_s + 600, "black"), Outage("door", noon_s + 300, noon_s + 840, "frozen")]
    lost = [event("2026-05-12T08:00", "missed", missed_text(12), 3600.0)]
    said = summary(lost, [*gaps, Outage("door", day.until_s - 60, None, "ended")], day, speech)
    assert said == ("12 events from 08:00 to 09:00; 12 of them could not be described; not seen for 15 minutes")
    assert summary([event("2026-05-12T23:59:50", length_s=60)], [], day, speech) == "1 event at 23:59:50"


def test_how_many_were_missed_is_said_once() -> None:
    assert missed_text(1) == "1 event could not be described"
    assert missed_events(missed_text(250)) == 250
