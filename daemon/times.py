"""Times as people say them: what stands in an answer where the model wrote a time mark, and where a camera saw nothing.

`12 seconds ago`, `14:02:11`, `yesterday at 14:02`, `3 minutes`. Seconds are said where they matter: of a length under
two minutes, and of a time of today.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from itertools import groupby
from types import MappingProxyType
from typing import Literal

from daemon.messages import Gap
from stream.marks import AGO, CLOCK
from stream.types import Span

MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86_400
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")  # strftime's follow a locale
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
NAMED_DAYS = 6  # days back that a weekday's name says; a seventh would have the name of today
NAMED_GAPS = 3
ERASED = "erased"
REASONS: Mapping[str, str] = MappingProxyType(  # why a camera was not seen; a word that is not here is said as it is
    {
        "unreachable": "unreachable",
        "ended": "the stream had ended",
        "finished": "the recording had ended",
        "frozen": "no new picture came",
        "black": "the picture was black",
        "no_video": "there was no video in the stream",
        "stopped": "it was not being watched",
        "removed": "it was not in the configuration",
        "restart": "nothing was watching",
        "schedule": "outside its schedule",
    }
)


@dataclass(frozen=True, slots=True)
class Speech:
    """How times are said to a user. `zone` None is the machine's. All times are seconds since the epoch."""

    zone: tzinfo | None = None
    hours: Literal["24h", "12h"] = "24h"

    def clock(self, at_s: float, now_s: float) -> str:
        """`14:02:11` of today, `yesterday at 14:02`, `Monday at 14:02`, `12 May at 14:02`, `12 May 2025 at 14:02`."""
        at, now = self._local(at_s), self._local(now_s)
        day = _day(at, now)
        return f"{day} at {self._time(at)}" if day else self._time(at, seconds=True)

    def spoken(self, mark: str, span: Span, now_s: float) -> str:
        """What stands in an answer for `mark` (`stream/marks.py`), given the span it points at.

        A clock mark stands after `at`, so its day comes last: `14:02:11`, `14:02 yesterday`, `14:02 on Monday`.
        """
        if mark == AGO:
            return f"{length(now_s - span.first_s)} ago"
        if mark != CLOCK:
            return length(span.last_s - span.first_s)
        at, now = self._local(span.first_s), self._local(now_s)
        day = _on(_day(at, now))
        return f"{self._time(at)} {day}" if day else self._time(at, seconds=True)

    def between(self, since_s: float | None, until_s: float | None, now_s: float) -> str:
        """`from 14:02 to 14:10`, `yesterday from 14:02 to 14:10`, `from Monday at 22:00 to yesterday at 06:00`,
        `since 14:02`, `until 14:10`; empty when both ends are open. Seconds only where the minute does not tell."""
        now = self._local(now_s)
        if since_s is None or until_s is None:
            word, open_s = ("since", since_s) if since_s is not None else ("until", until_s)
            return "" if open_s is None else f"{word} {self._point(self._local(open_s), now)}"
        since, until = self._local(since_s), self._local(until_s)
        if since.date() != until.date():
            return f"from {self._point(since, now)} to {self._point(until, now, today=True)}"
        exact = self._time(since) == self._time(until)
        first, last = self._time(since, exact), self._time(until, exact)
        day = _on(_day(since, now))
        return (f"{day} " if day else "") + (f"at {first}" if first == last else f"from {first} to {last}")

    def missed(self, outages: Sequence[Gap], now_s: float, *, several: bool = False) -> str:
        """One sentence about times in which cameras were not seen, or whose memory was erased; empty without any.

        `The camera was not seen from 14:02 to 14:10 (unreachable).` The three longest are named, oldest first, and
        the rest counted. Cameras are named where there is more than one, and where `several` were asked about.
        """
        longest = sorted(outages, key=lambda gap: (now_s if gap.until_s is None else gap.until_s) - gap.since_s)
        named = sorted(longest[-NAMED_GAPS:], key=lambda gap: (gap.camera, gap.since_s))
        several = several or len({gap.camera for gap in outages}) > 1
        clauses = []
        for (camera, how), gaps in groupby(named, key=lambda gap: (gap.camera, _how(gap))):
            times = _listed([self._missing(gap, now_s) for gap in gaps])
            if how == ERASED:
                clauses.append(f"what {f'camera {camera} saw' if several else 'was seen'} {times} was erased")
            else:
                clauses.append(f"{f'camera {camera}' if several else 'the camera'} {how} {times}")
        if len(outages) > len(named):
            clauses.append(f"and {len(outages) - len(named)} more")
        text = "; ".join(clauses)
        return f"{text[0].upper()}{text[1:]}." if text else ""

    def _missing(self, gap: Gap, now_s: float) -> str:
        since_s = gap.since_s if gap.since_s > 0 else None  # everything so far was erased
        times = self.between(since_s, gap.until_s, now_s)
        return times if gap.reason == ERASED else f"{times} ({REASONS.get(gap.reason, gap.reason)})"

    def _point(self, at: datetime, now: datetime, today: bool = False) -> str:
        day = _day(at, now) or ("today" if today else "")
        return f"{day} at {self._time(at)}" if day else self._time(at)

    def _time(self, at: datetime, seconds: bool = False) -> str:
        rest = f":{at.minute:02}" + (f":{at.second:02}" if seconds else "")
        if self.hours == "24h":
            return f"{at.hour:02}{rest}"
        return f"{at.hour % 12 or 12}{rest} {'am' if at.hour < 12 else 'pm'}"

    def _local(self, at_s: float) -> datetime:
        return datetime.fromtimestamp(at_s, self.zone)


SPEECH = Speech()  # the machine's zone, a 24-hour clock


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


def _day(at: datetime, now: datetime) -> str:
    """The day of `at` as one says it at `now`; empty for today."""
    days = (now.date() - at.date()).days
    if days == 0:
        return ""
    if days == 1:
        return "yesterday"
    if 1 < days <= NAMED_DAYS:
        return WEEKDAYS[at.weekday()]
    return f"{at.day} {MONTHS[at.month - 1]}" + ("" if at.year == now.year else f" {at.year}")


def _on(day: str) -> str:
    return f"on {day}" if day and day != "yesterday" else day


def _how(gap: Gap) -> str:
    if gap.reason == ERASED:
        return ERASED
    return "has not been seen" if gap.until_s is None else "was not seen"


def _listed(items: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"
