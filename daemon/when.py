"""A time range said in a question: `between 2 and 3`, `yesterday`, `in the last hour` -> seconds.

    question -- any time word? --> rules find phrases -- words -> points -> ranges -- joined --> TimeRange

How things are said is a table (`daemon/grammar.py`), what its words mean is in `daemon/points.py`, and what whole
phrases mean is here. What a phrase leaves open is settled so:

1. The future is never meant. A range that has begun reaches until now at most; one that has not begun is none.
2. An hour without am or pm is the most recent one that has begun; on a day other than today, the one by daylight.
3. A weekday's name is never today. A moment (`at 14:02`, `an hour ago`) is a few minutes around it.
4. Several phrases mean what they share, and when they share nothing, the time from the first to the last.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, tzinfo

from daemon.grammar import ENGLISH
from daemon.points import DAY_S, HOUR_S, ONE_DAY, Local, Point, Words, compiled, midnight, months_back, words_of

LONGEST = 2000  # characters of a question that are read
FAR_S = 32_503_680_000.0  # the year 3000: beyond it a clock is broken
DAYLIGHT_H = (7, 19)
WIDE = 3  # `around 14:00` is this much wider than `at 14:00`
Bounds = tuple[float | None, float | None]  # None is open; until None reaches now


@dataclass(frozen=True, slots=True)
class TimeRange:
    """Seconds since the epoch. `since_s` None: since ever; `until_s` None: until now. `text`: the words for it;
    `rest`: the question without them."""

    since_s: float | None
    until_s: float | None
    text: str
    rest: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class _Phrase:
    """Words of the question that a rule took."""

    rule: str
    start: int
    end: int
    words: Mapping[str, str]
    a: Point | None
    b: Point | None


def parse(question: str, now_s: float, zone: tzinfo | None = None) -> TimeRange | None:
    """The time range that `question` says, or None. `now_s`: seconds since the epoch; `zone` None: the machine's.

    Raises nothing, whatever the question says.
    """
    text, grammar = question[:LONGEST], ENGLISH
    if grammar.hint.isdisjoint(words_of(text.lower())) or not 0 <= now_s <= FAR_S:
        return None
    try:
        found = _Reader(Words(grammar, Local(now_s, zone))).read(text)
        return found and replace(found, rest=found.rest + question[LONGEST:])
    except (OverflowError, ValueError, OSError):  # a date before the year 1, or one that the machine's zone cannot hold
        return None


def _without(text: str, phrases: Sequence[_Phrase]) -> str:
    """`text` without the words of `phrases`, which are in their order, and without the commas that set them off."""
    for phrase in reversed(phrases):
        text = f"{text[: phrase.start].rstrip(' ,')} {text[phrase.end :].lstrip(' ,:')}"
    return re.sub(r"\s+(?=[?!.,;])", "", " ".join(text.split()))


def prepare() -> None:
    """Import dateparser and compile the grammar, so that the first question need not wait for it (half a second)."""
    parse("on 12 May 2020 between 2 and 3", 1.6e9, None)


@dataclass(frozen=True, slots=True)
class _Reader:
    """One reading of one question."""

    words: Words

    @property
    def local(self) -> Local:
        """The moment of asking."""
        return self.words.local

    def read(self, text: str) -> TimeRange | None:
        """The range that `text` says."""
        if compiled(self.words.grammar)["future"].search(text):
            return None
        phrases = sorted(self.phrases(text), key=lambda phrase: phrase.start)
        said: list[tuple[float, float]] = []
        for phrase in _placed(phrases):
            since_s, until_s = self.bounds(phrase) or (math.inf, math.inf)
            since_s, until_s = _or(since_s, -math.inf), min(_or(until_s, math.inf), self.local.now_s)
            if since_s <= until_s:
                said.append((since_s, until_s))
        if not said:
            return None
        since_s, until_s = max(item[0] for item in said), min(item[1] for item in said)
        if len(said) > 1 and since_s >= until_s:
            since_s, until_s = min(item[0] for item in said), max(item[1] for item in said)
        first, last = None if since_s == -math.inf else since_s, None if until_s >= self.local.now_s else until_s
        words = " ".join(text[phrase.start : phrase.end].strip(" ,") for phrase in phrases)
        return None if first is None and last is None else TimeRange(first, last, words, _without(text, phrases))

    def phrases(self, text: str) -> Iterator[_Phrase]:
        """What the rules find, rule by rule; words that one has taken are blanked for the next."""
        rules = compiled(self.words.grammar)
        for name in self.words.grammar.rules:
            for found in list(rules[name].finditer(text)) if name != "future" else ():
                text = text[: found.start()] + "\0" * len(found[0]) + text[found.end() :]
                words = {key.rstrip("2"): value for key, value in found.groupdict().items() if value is not None}
                if name != "scale":
                    pair = (None, None) if name == "ago_pair" else (words.get("a"), words.get("b"))
                    a, b = (None if word is None else self.words.point(word) for word in pair)
                    yield _Phrase(name, found.start(), found.end(), words, a, b)

    # ---- points -> seconds

    def moments(self, point: Point, plain: bool = False) -> list[datetime]:
        """What a time of day may mean, in local time. `plain`: it was said beside one of a 24-hour clock."""
        assert point.clock is not None
        options = point.clock.seconds[:1] if plain else point.clock.seconds
        if point.part is not None:
            low_s, high_s = point.part.clock_since_h * HOUR_S, point.part.clock_until_h * HOUR_S
            fit = [
                second
                for option in point.clock.seconds
                for second in (option, option + DAY_S)
                if low_s <= second <= high_s
            ]
            options = tuple(fit) or options
        days = [self.local.today, self.local.today - ONE_DAY] if point.days is None else [point.days[0]]
        return [day + timedelta(seconds=option) for day in days for option in options]

    def likely(self, point: Point) -> datetime | None:
        """The one of a point's moments that is meant: the most recent that has begun. None: none has."""
        begun = [moment for moment in self.moments(point) if self.local.stamp(moment) <= self.local.now_s]
        return max(begun, key=lambda moment: self.rank(point, moment), default=None)

    def rank(self, point: Point, moment: datetime) -> tuple[bool, datetime]:
        """Larger is likelier: on a day that is named and not today, daylight; then the later."""
        named = point.part is None and point.days is not None and point.days[0] != self.local.today
        return named and DAYLIGHT_H[0] <= moment.hour < DAYLIGHT_H[1], moment

    def extent(self, point: Point) -> tuple[float, float] | None:
        """First and last second of a point; the same for a moment. None: it has not begun, or it says nothing."""
        if point.moment_s is not None:
            return point.moment_s, point.moment_s
        if point.timed:
            moment = self.likely(point)
            return None if moment is None else (self.local.stamp(moment), self.local.stamp(moment, late=True))
        if point.days is None:
            return None
        first, last = point.days
        if point.part is not None:
            first, last = first + timedelta(hours=point.part.since_h), first + timedelta(hours=point.part.until_h)
        return self.local.stamp(first), self.local.stamp(last, late=True)

    # ---- phrases -> bounds

    def bounds(self, phrase: _Phrase) -> Bounds | None:
        """What a phrase means in seconds; None: nothing that has begun."""
        words, point = phrase.words, phrase.a
        if phrase.rule == "ago_pair":
            near, far = sorted((self.near(f"{words[key]} {words['unit']}") for key in ("a", "b")), reverse=True)
            return far[0], near[1]
        if phrase.rule == "dates":
            return self.dates(words["first"], phrase.b)
        if phrase.rule == "until_ago":
            return None, self.words.back(words["length"])[0]
        if point is None:
            return self.words.back(words["length"])[0], None
        if phrase.b is not None:
            return self.pair(point, phrase.b)
        return self.edge(self.words.grammar.edges[" ".join(words.get("word", "at").lower().split())], point)

    def dates(self, first: str, last: Point | None) -> Bounds | None:
        """`12 to 14 May`: the first has the month of the last, or the one before."""
        if last is None or last.days is None:
            return None
        day, number = last.days[0], int(re.sub(r"\D", "", first))
        if number > day.day:
            day = months_back(day.replace(day=1), 1)
        return self.local.stamp(day.replace(day=number)), self.local.stamp(last.days[1], late=True)

    def near(self, length: str) -> tuple[float, float]:
        """The moment `length` ago, or the whole day when it is said in days."""
        point = self.words.ago(length, Point())
        return self.extent(point) or (self.local.now_s, self.local.now_s)

    def edge(self, kind: str, point: Point) -> Bounds | None:
        """`since`, `after`, `before`, `until`, `at` or `around` a point."""
        if kind in ("since", "after") and point.clock and point.clock.seconds[0] == 0:
            point = replace(point, clock=replace(point.clock, seconds=(0.0,)))  # a day's midnight is where it begins
        extent = self.extent(point)
        if extent is None:
            return None
        first_s, last_s = extent
        if kind == "since":
            return first_s, None
        if kind == "after":
            frame = self.extent(replace(point, clock=None)) if point.timed else None
            return last_s, None if frame is None else max(frame[1], last_s)
        if kind in ("before", "until"):
            return self.floor(point, first_s), first_s if kind == "before" else last_s
        early_s, late_s = point.clock.slack_s if point.timed and point.clock else (point.slack_s, point.slack_s)
        wide = WIDE if kind == "around" else 1
        return first_s - wide * early_s, last_s + wide * late_s

    def floor(self, point: Point, moment_s: float) -> float | None:
        """Where `before 8` begins: with its day, or part of the day. `before Monday` has no beginning."""
        if not point.timed:
            return None
        frame = self.extent(replace(point, clock=None))
        if frame is not None:
            return min(frame[0], moment_s)
        eve = self.local.at(moment_s) - timedelta(microseconds=1)
        return self.local.stamp(midnight(eve))

    def pair(self, a: Point, b: Point) -> Bounds | None:
        """From `a` to `b`. Of all that two times of day may mean, the shortest that has begun, then the likeliest."""
        if a.timed and b.timed:
            pairs = [
                (first, last)
                for first, last in self.pairs(a, b)
                if first < last and self.local.stamp(first) <= self.local.now_s
            ]
            if pairs:
                first, last = max(pairs, key=lambda pair: (pair[0] - pair[1], self.rank(a if a.placed else b, pair[0])))
                return self.local.stamp(first), self.local.stamp(last, late=True)
        since, until = self.extent(a), self.extent(b)
        if since is None:
            return None
        return since[0], None if until is None or until[1] < since[0] else until[1]

    def pairs(self, a: Point, b: Point) -> Iterator[tuple[datetime, datetime]]:
        """Every reading of two times of day. One that names no day is of the other's, or of the day beside it."""
        assert a.clock is not None
        assert b.clock is not None
        plain = a.clock.plain or b.clock.plain
        for moment in self.moments(b if b.placed and not a.placed else a, plain):
            if a.placed and b.placed:
                yield from ((moment, last) for last in self.moments(b, plain))
            elif b.placed:
                days = [midnight(moment), midnight(moment) - ONE_DAY]
                yield from ((first, moment) for day in days for first in self.moments(_on(a, day), plain))
            else:
                days = [midnight(moment), midnight(moment) + ONE_DAY]
                yield from ((moment, last) for day in days for last in self.moments(_on(b, day), plain))


def _placed(phrases: list[_Phrase]) -> list[_Phrase]:
    """`phrases`, where the one day that stands alone (`yesterday, what passed between 2 and 3?`) is given to the times
    of day that name none."""
    days = [item for item in phrases if item.rule == "bare" and item.a and item.a.placed and not item.a.clock]
    if len(days) != 1 or days[0].a is None:
        return phrases
    day, joined, used = days[0].a, [], False
    long = day.days is None or day.days[1] - day.days[0] > ONE_DAY
    for item in phrases:
        points = [point for point in (item.a, item.b) if point is not None]
        if not points or not all(point.clock is not None and not point.placed for point in points):
            joined.append(item)
        elif not long:  # `at three, last week` says no more than that week
            joined.append(replace(item, a=replace(points[0], days=day.days, part=day.part)))
            used = True
    return [item for item in joined if not (used and item is days[0])]


def _on(point: Point, day: datetime) -> Point:
    return replace(point, days=(day, day + ONE_DAY))


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value
