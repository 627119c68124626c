"""Times as people say them: what stands in an answer where the model wrote a time mark.

`12 seconds ago`, `14:02:11`, `3 minutes`. Seconds are said where they matter, under two minutes, and not beyond.
"""

from __future__ import annotations

from datetime import datetime, tzinfo

from stream.marks import AGO, CLOCK
from stream.types import Span

MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86_400


def length(seconds: float) -> str:
    """A length of time in one or two units: `45 seconds`, `3 minutes`, `2 hours 5 minutes`, `4 days`."""
    whole = max(0, round(seconds))
    if whole < 2 * MINUTE_S:
        return _count(whole, "second")
    if whole < 2 * HOUR_S:
        return _count(round(whole / MINUTE_S), "minute")
    if whole < 2 * DAY_S:
        hours, minutes = divmod(round(whole / MINUTE_S), 60)
        return _count(hours, "hour") + (f" {_count(minutes, 'minute')}" if minutes else "")
    return _count(round(whole / DAY_S), "day")


def clock(at_s: float, now_s: float, zone: tzinfo | None = None) -> str:
    """The time of day at `at_s` (Unix seconds), with the date when that is not today. `zone` None is the machine's."""
    at, now = datetime.fromtimestamp(at_s, zone), datetime.fromtimestamp(now_s, zone)
    return f"{at:%H:%M:%S}" if at.date() == now.date() else f"{at:%Y-%m-%d %H:%M:%S}"


def spoken(mark: str, span: Span, now_s: float, zone: tzinfo | None = None) -> str:
    """What stands in an answer for `mark` (`stream/marks.py`), given the span it points at."""
    if mark == AGO:
        return f"{length(now_s - span.first_s)} ago"
    if mark == CLOCK:
        return clock(span.first_s, now_s, zone)
    return length(span.last_s - span.first_s)


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"
