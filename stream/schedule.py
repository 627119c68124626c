"""When is a camera watched? Times of day and days, in the users' time zone, whatever the clocks there do.

A window has one beginning and one end. A time of day that the clock shows twice is the first of both, and one that it
skips is told by the clock as it went before: as calendars do (RFC 5545, 3.3.5).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo

SCHEDULE = "schedule"  # reason of a camera that is not watched because of its schedule
ALL_DAYS = frozenset(range(7))
_DAY_MIN = 24 * 60
_AROUND = range(-2, 2)  # days around now on which a window may have begun that is open now: it lasts a day, and an hour


@dataclass(frozen=True, slots=True)
class Window:
    """From `begin_min` up to, not including, `end_min`, minutes since 00:00 of each of `days` (0 is Monday).

    An end that is not after the beginning lies on the next day; 1440 is the midnight that ends a day.
    """

    begin_min: int
    end_min: int
    days: frozenset[int] = ALL_DAYS

    def __post_init__(self) -> None:
        if not (0 <= self.begin_min < _DAY_MIN and 0 <= self.end_min <= _DAY_MIN and self.days <= ALL_DAYS):
            raise ValueError(f"a window needs 0 <= begin < 1440, 0 <= end <= 1440 and days of 0 to 6, got {self}")

    def on(self, day: date, zone: tzinfo | None) -> tuple[float, float]:
        """Beginning and end of the window that begins on `day`, seconds since the epoch."""
        later = timedelta(days=self.end_min <= self.begin_min)
        return _instant(day, self.begin_min, zone), _instant(day + later, self.end_min, zone)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Watched in any of `windows`; always without one. `zone` None is the machine's."""

    windows: Sequence[Window] = ()
    zone: tzinfo | None = None

    def watched(self, wall_s: float) -> bool:
        """Whether the camera is watched at `wall_s`. Takes some 10 microseconds a window."""
        return not self.windows or any(begin_s <= wall_s < end_s for begin_s, end_s in self._near(wall_s))

    def _near(self, wall_s: float) -> Iterator[tuple[float, float]]:
        today = datetime.fromtimestamp(wall_s, self.zone).date()
        for days in _AROUND:
            day = today + timedelta(days=days)
            yield from (window.on(day, self.zone) for window in self.windows if day.weekday() in window.days)


ALWAYS = Schedule()


def _instant(day: date, at_min: int, zone: tzinfo | None) -> float:
    """Seconds since the epoch when it is `at_min` minutes past 00:00 on `day`'s clock."""
    days, minutes = divmod(at_min, _DAY_MIN)
    at = datetime.combine(day + timedelta(days=days), time(minutes // 60, minutes % 60), zone)
    return at.timestamp()  # fold is 0
