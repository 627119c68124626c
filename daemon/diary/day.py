"""What a day's lines come to: counts and times, and no word that the lines do not bear out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta, tzinfo

from daemon.points import ONE_DAY, Local
from daemon.times import Speech, length
from memory.archive import Line, Outage

BACK = 7  # days that are written when they were missed


@dataclass(frozen=True, slots=True)
class Day:
    """From one local midnight to the next, seconds since the epoch; 23 to 25 hours."""

    since_s: float
    until_s: float


def days(now_s: float, zone: tzinfo | None) -> Iterator[Day]:
    """The last days that are over, oldest first."""
    local = Local(now_s, zone)
    for back in range(BACK, 0, -1):
        first = local.today - back * ONE_DAY
        yield Day(local.stamp(first), local.stamp(first + ONE_DAY))


def summary(lines: Sequence[Line], gaps: Sequence[Outage], day: Day, speech: Speech) -> str:
    """One line for `day`. `lines` begin in it, `gaps` touch it; days' own lines are left out."""
    events = [line for line in lines if line.kind == "event"]
    missed = sum(missed_events(line.text) for line in lines if line.kind == "missed")
    told = [line for line in lines if line.kind != "day"]
    parts = [_events(len(events) + missed)]
    if told:
        ends_s = [line.first_s if line.kind == "event" else line.last_s for line in told]
        last_s = min(max(ends_s), day.until_s - 1)  # one may end after midnight
        parts[0] += f" {speech.between(told[0].first_s, last_s, day.until_s - 1)}"
        parts[0] += _busiest(events, day, speech)
    if missed:
        parts.append(f"{missed} of them could not be described")
    lost_s = _covered_s(gaps, day)
    if lost_s >= 1:
        parts.append(f"not seen for {length(lost_s)}")
    return "; ".join(parts)


def missed_text(events: int) -> str:
    """The line that stands for events of which nothing could be said."""
    return f"{_events(events)} could not be described"


def missed_events(text: str) -> int:
    """How many a line of `missed_text` stands for."""
    found = re.match(r"\d+", text)
    return int(found[0]) if found else 1


def _events(count: int) -> str:
    return "no events" if not count else f"{count} event{'s' * (count != 1)}"


def _busiest(events: Sequence[Line], day: Day, speech: Speech) -> str:
    local = Local(day.since_s, speech.zone)
    hours = Counter(local.at(line.first_s).replace(minute=0, second=0, microsecond=0) for line in events)
    if len(hours) < 2:
        return ""
    hour, count = max(hours.items(), key=lambda item: (item[1], -item[0].timestamp()))
    if count < 2:
        return ""
    since_s, until_s = local.stamp(hour), min(local.stamp(hour + timedelta(hours=1)), day.until_s - 1)
    return f", most {speech.between(since_s, until_s, day.until_s - 1)} ({count})"


def _covered_s(gaps: Sequence[Outage], day: Day) -> float:
    """Seconds of the day that lie in gaps, which may overlap."""
    total_s, reached_s = 0.0, day.since_s
    for gap in sorted(gaps, key=lambda gap: gap.since_s):
        until_s = day.until_s if gap.until_s is None else min(gap.until_s, day.until_s)
        total_s += max(0.0, until_s - max(gap.since_s, reached_s))
        reached_s = max(reached_s, until_s)
    return total_s
