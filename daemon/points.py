"""A day, a part of one, or a time of day, as it was said: words -> Point, on local time.

Local times are naive; `Local.stamp` alone turns them into seconds. dateparser reads dates and weekdays.
"""

from __future__ import annotations

import calendar
import importlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo
from functools import cache
from typing import Any

from daemon.grammar import Grammar, Part

MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86_400.0
SMALL_HOURS_H = 6  # until then, tonight began yesterday
SHORTEST_SLACK_S = 5.0
ONE_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Clock:
    """A time of day as it was said."""

    seconds: tuple[float, ...]  # after midnight: what it may mean; the first is what it says on a 24-hour clock
    slack_s: tuple[float, float]  # how far `at` reaches before and after it
    plain: bool = False  # certainly of a 24-hour clock: so is one that is said beside it


@dataclass(frozen=True, slots=True)
class Point:
    """One point as it was said: any of a day (or several), a part of the day and a time of day; or a moment."""

    days: tuple[datetime, datetime] | None = None  # local midnights
    part: Part | None = None
    clock: Clock | None = None
    moment_s: float | None = None
    slack_s: float = 0.0  # how loosely it is meant: `a week ago` is not that very day

    @property
    def placed(self) -> bool:
        """Whether it says a day or a part of one."""
        return self.days is not None or self.part is not None

    @property
    def timed(self) -> bool:
        """Whether it says a time of day; one of `last week` says nothing more than that week."""
        return self.clock is not None and (self.days is None or self.days[1] - self.days[0] == ONE_DAY)


@dataclass(frozen=True, slots=True)
class Local:
    """The moment of asking, in the asker's time zone. `zone` None: the machine's."""

    now_s: float
    zone: tzinfo | None

    @property
    def now(self) -> datetime:
        """Local time."""
        return self.at(self.now_s)

    @property
    def today(self) -> datetime:
        """The midnight that today began with."""
        return midnight(self.now)

    def at(self, seconds: float) -> datetime:
        """Local time at `seconds` since the epoch."""
        return datetime.fromtimestamp(seconds, self.zone).replace(tzinfo=None)

    def stamp(self, local: datetime, late: bool = False) -> float:
        """Seconds since the epoch. An hour that a clock change repeats is meant as a whole: a range begins with its
        first reading and ends (`late`) with its second. One that is left out is the hour after it."""
        first = local.replace(tzinfo=self.zone, fold=0).timestamp()
        return max(first, local.replace(tzinfo=self.zone, fold=1).timestamp()) if late else first


def words_of(text: str) -> list[str]:
    """The words and single digits of `text`, which is in lower case."""
    return re.findall(r"[a-z]+|\d", text, re.ASCII)


@cache
def compiled(grammar: Grammar) -> Mapping[str, re.Pattern[str]]:
    """The grammar's rules, and what takes their finds apart: `item`, `amount` and `clock`. Takes a quarter second."""
    texts = {**grammar.rules, "item": "<item>", "amount": "<amount_parts>", "clock": "<clock_parts>"}
    return {name: re.compile(grammar.pattern(text), re.IGNORECASE | re.ASCII) for name, text in texts.items()}


@dataclass(frozen=True, slots=True)
class Words:
    """Reads the words of a grammar as points, at one moment of asking."""

    grammar: Grammar
    local: Local

    def point(self, text: str) -> Point:
        """What `text`, matched by the piece `point`, says."""
        point, part = Point(), ""
        for found in compiled(self.grammar)["item"].finditer(text):
            kind, words = found.lastgroup, found[0].lower()
            if kind == "clock" and point.clock is None:
                point = replace(point, clock=self.clock(words))
            elif kind == "part":
                part = part or words
            elif kind == "now":
                point = replace(point, moment_s=self.local.now_s)
            elif kind == "ago":
                point = self.ago(words, point)
            elif kind is not None and point.days is None:
                point = replace(point, days=self.days(kind, words))
        return self.parted(point, part) if part else point

    def parted(self, point: Point, words: str) -> Point:
        """`point` with a part of the day: `this morning`, `last night`, `in the evening`, `morning`."""
        said = words_of(words)
        name = said[-1]
        part = self.grammar.parts[name]
        today = self.local.today
        begun = today + timedelta(hours=part.since_h) <= self.local.now
        if point.days is not None:
            return replace(point, part=part)
        if not self.grammar.last.isdisjoint(said):
            day = today - ONE_DAY
        elif not self.grammar.this.isdisjoint(said):
            small = self.local.now.hour < SMALL_HOURS_H and part.until_h > 24
            day = today - timedelta(days=small)
            if not begun and not small:  # `this morning`, said at two in the morning
                part = replace(part, since_h=part.clock_since_h)
        elif point.clock is not None:  # `8 in the evening`: the hour decides which day that was
            return replace(point, part=part)
        else:
            day = today - timedelta(days=not begun)
        return replace(point, part=part, days=(day, day + ONE_DAY))

    def clock(self, words: str) -> Clock:
        """A time of day: `14:02`, `2 pm`, `half past two`, `noon`, `9`."""
        if words in self.grammar.hours:
            named = self.grammar.hours[words]
            return Clock(tuple(hour * HOUR_S for hour in named), (10 * MINUTE_S, 10 * MINUTE_S))
        found = compiled(self.grammar)["clock"].match(words)
        if found is None:
            raise ValueError(f"{words!r} was matched as a time of day and cannot be read as one")
        said = found.groupdict()
        hour = int(self.number(said["hour"]))
        offset_s = self.number(said["minute"]) * MINUTE_S + self.number(said["second"])
        if said["by"] is not None:
            minutes = self.grammar.fractions.get(said["by"], 0) or self.number(said["by"])
            offset_s += -minutes * MINUTE_S if said["to"] else minutes * MINUTE_S
        if said["am"] or said["pm"]:
            hours: tuple[int, ...] = (hour % 12 + (12 if said["pm"] else 0),)
        elif 1 <= hour <= 12 and not said["hour"].startswith("0"):
            hours = (hour, (hour + 12) % 24)
        else:
            hours = (hour,)
        slack_s = (10 * MINUTE_S, 10 * MINUTE_S)
        if said["second"]:
            slack_s = (MINUTE_S / 2, MINUTE_S / 2)
        elif said["minute"] or said["by"]:
            slack_s = (2 * MINUTE_S, 3 * MINUTE_S)  # the minute itself, and two on both sides
        plain = len(hours) == 1 and not (said["am"] or said["pm"])
        return Clock(tuple(value * HOUR_S + offset_s for value in hours), slack_s, plain)

    def number(self, word: str | None) -> float:
        """`12`, `1.5`, `two`, `a couple of`; nothing said is 0."""
        plain = " ".join((word or "0").split())
        return self.grammar.numbers[plain] if plain in self.grammar.numbers else float(plain)

    def back(self, length: str) -> tuple[float, float, float]:
        """The moment `length` ago; the seconds of its smallest unit; and its own, both for want of better months."""
        moment, months, total_s, smallest_s = self.local.now, 0, 0.0, math.inf
        for found in compiled(self.grammar)["amount"].finditer(length):
            unit = max((unit for unit in self.grammar.units if found["unit"].startswith(unit)), key=len)
            unit_s = self.grammar.units[unit]
            count = 1.0 if found["count"] is None else self.number(found["count"].lower())
            count += 0.5 * bool(found["half"] or found["more"])
            smallest_s, total_s = min(smallest_s, unit_s), total_s + count * unit_s
            if unit_s > self.grammar.units["w"]:
                months += round(count * (12 if unit == "y" else 1))
            else:
                moment -= timedelta(seconds=count * unit_s)
        if smallest_s < DAY_S:  # hours have always the same length; days, on the wall, have not
            return self.local.now_s - total_s, smallest_s, total_s
        return self.local.stamp(months_back(moment, months)), smallest_s, total_s

    def ago(self, words: str, point: Point) -> Point:
        """`3 days ago` as a day, `an hour ago` as a moment."""
        moment_s, unit_s, total_s = self.back(words)
        if unit_s < DAY_S:
            return replace(
                point, moment_s=moment_s, slack_s=max(min(unit_s, total_s) / 2, total_s / 4, SHORTEST_SLACK_S)
            )
        day = midnight(self.local.at(moment_s))
        slack_s = 0.0 if unit_s == DAY_S else (unit_s / 2) // DAY_S * DAY_S
        return replace(point, days=(day, day + ONE_DAY), slack_s=slack_s)

    def days(self, kind: str, words: str) -> tuple[datetime, datetime]:
        """The days that a calendar expression means, from a midnight to a midnight. ValueError: there is no such."""
        if kind == "back":
            plain = " ".join(words.split()).removeprefix("the ")
            first = self.local.today - timedelta(days=self.grammar.days_back[plain])
            return first, first + ONE_DAY
        if kind == "period":
            return self.period(words)
        if kind == "month":
            return self.month(words)
        first = _date(re.sub(self.grammar.dress, " ", words), self.local.today, self.grammar.code)
        if kind == "named" and self.grammar.week in words.split():  # `Monday last week`
            back = not self.grammar.last.isdisjoint(words.split())
            first = week_of(self.local.today) + timedelta(days=first.weekday() - 7 * back)
        return first, first + ONE_DAY

    def period(self, words: str) -> tuple[datetime, datetime]:
        """`last week`, `this month`, `at the weekend`, `in 2025`."""
        said = words.split()
        back = not self.grammar.last.isdisjoint(said)
        if said[-1].isdigit():
            return datetime(int(said[-1]), 1, 1), datetime(int(said[-1]) + 1, 1, 1)
        week = week_of(self.local.today)
        if said[-1] == self.grammar.weekend:
            first = week + timedelta(days=5)
            if back or (first > self.local.now and self.grammar.this.isdisjoint(said)):
                first -= timedelta(days=7)
            return first, first + timedelta(days=2)
        unit = max((unit for unit in self.grammar.units if said[-1].startswith(unit)), key=len)
        if unit == "w":
            return week - timedelta(days=7 * back), week + timedelta(days=7 - 7 * back)
        first, months = (
            (self.local.today.replace(day=1), 1) if unit == "mo" else (self.local.today.replace(month=1, day=1), 12)
        )
        return months_back(first, months * back), months_back(first, months * back - months)

    def month(self, words: str) -> tuple[datetime, datetime]:
        """`in May`: the most recent one that has begun; `in May 2025`."""
        said = words.split()
        number = next(self.grammar.months.index(word) + 1 for word in said if word in self.grammar.months)
        first = datetime(int(said[-1]) if said[-1].isdigit() else self.local.today.year, number, 1)
        if first > self.local.now and not said[-1].isdigit():
            first = first.replace(year=first.year - 1)
        return first, months_back(first, -1)


def midnight(local: datetime) -> datetime:
    """The midnight that a local day began with."""
    return local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)


def week_of(local: datetime) -> datetime:
    """The midnight that a week began with: Monday's."""
    return midnight(local) - timedelta(days=local.weekday())


def months_back(local: datetime, months: int) -> datetime:
    """The same day of an earlier month, or its last day when that is shorter."""
    year, month = divmod(local.year * 12 + local.month - 1 - months, 12)
    return local.replace(year=year, month=month + 1, day=min(local.day, calendar.monthrange(year, month + 1)[1]))


def _date(words: str, today: datetime, code: str) -> datetime:
    """The day that `words` name, as dateparser reads them: the most recent one where they leave the year open.

    Raises ValueError when there is no such day (31 April).
    """
    dateparser: Any = importlib.import_module("dateparser")  # 0.3 s, and only a question with a date needs it
    order = "YMD" if re.match(r"\s*\d{4}-", words) else "DMY"
    settings = {"RELATIVE_BASE": today, "PREFER_DATES_FROM": "past", "DATE_ORDER": order}
    found: datetime | None = dateparser.parse(" ".join(words.split()), languages=[code], settings=settings)
    if found is None:
        raise ValueError(f"{words!r} is no day of any calendar")
    return midnight(found.replace(tzinfo=None))
