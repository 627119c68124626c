"""A time range said in a question: which words say one, which do not, and what exactly it is."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from textwrap import dedent
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from daemon.grammar import ENGLISH
from daemon.when import TimeRange, parse, prepare
from stream.train.phrasings import PATTERNS, templates

BERLIN = ZoneInfo("Europe/Berlin")
WEDNESDAY = "2026-06-03T15:30"
NIGHT = "2026-06-03T02:00"
MIDNIGHT = "2026-06-03T00:00"
MONDAY = "2026-06-01T10:00"
SUNDAY = "2026-06-07T22:00"
NEW_YEAR = "2026-01-01T00:30"
SPRING = "2026-03-29T12:00"  # 02:00 was 03:00
AUTUMN = "2026-10-25T12:00"  # 03:00 was 02:00 again
TIDY = " ,.!?"

# (question, now, since, until): local times in Berlin, of now's day when they name none; "" is open
SAID = [
    # a range of hours
    ("how many cars passed between 2 and 3?", WEDNESDAY, "14:00", "15:00"),
    ("how many cars passed between 2 and 3?", "2026-06-03T10:00", "02:00", "03:00"),
    ("how many cars passed between 2 and 3?", NIGHT, "02:00", "02:00"),
    ("how many cars passed between 2 and 3?", "2026-06-03T01:00", "2026-06-02T14:00", "2026-06-02T15:00"),
    ("between 2 and 3, what passed", "2026-06-03T14:20", "14:00", ""),
    ("between two and three", WEDNESDAY, "14:00", "15:00"),
    ("Between 2 pm and 3 pm what did you see?", "2026-06-03T10:00", "2026-06-02T14:00", "2026-06-02T15:00"),
    ("between 2 and 3 pm", "2026-06-03T10:00", "2026-06-02T14:00", "2026-06-02T15:00"),
    ("between 2 and 3 a.m.", WEDNESDAY, "02:00", "03:00"),
    ("from 14:00 to 15:30", "2026-06-03T18:00", "14:00", "15:30"),
    ("from 14:00:10 until 14:00:40", WEDNESDAY, "14:00:10", "14:00:40"),
    ("who came from 14:00-15:00?", WEDNESDAY, "14:00", "15:00"),
    ("what happened 14:00-15:00", WEDNESDAY, "14:00", "15:00"),
    ("what happened 2–3 pm", WEDNESDAY, "14:00", "15:00"),
    ("between 11 and 1", WEDNESDAY, "11:00", "13:00"),
    ("from 9 to 5 pm", "2026-06-03T18:00", "09:00", "17:00"),
    ("from 9 to 17", "2026-06-03T18:00", "09:00", "17:00"),
    ("from 22:00 to 6:00", WEDNESDAY, "2026-06-02T22:00", "06:00"),
    ("from 9 till noon", WEDNESDAY, "09:00", "12:00"),
    ("from 2 pm until now", WEDNESDAY, "14:00", ""),
    ("between half past two and quarter to three", WEDNESDAY, "14:30", "14:45"),
    ("between 2.15 and 3.00", WEDNESDAY, "14:15", "15:00"),
    # days
    ("what happened today?", WEDNESDAY, "00:00", ""),
    ("what happened today?", MIDNIGHT, "00:00", "00:00"),
    ("what came yesterday", WEDNESDAY, "2026-06-02T00:00", "2026-06-03T00:00"),
    ("what was yesterday's first car", MIDNIGHT, "2026-06-02T00:00", "2026-06-03T00:00"),
    ("YESTERDAY?", NEW_YEAR, "2025-12-31T00:00", "2026-01-01T00:00"),
    ("the day before yesterday", WEDNESDAY, "2026-06-01T00:00", "2026-06-02T00:00"),
    ("yesterday and today", WEDNESDAY, "2026-06-02T00:00", ""),
    ("on Monday", WEDNESDAY, "2026-06-01T00:00", "2026-06-02T00:00"),
    ("what passed Monday?", WEDNESDAY, "2026-06-01T00:00", "2026-06-02T00:00"),
    ("on Monday", MONDAY, "2026-05-25T00:00", "2026-05-26T00:00"),
    ("last Sunday", MONDAY, "2026-05-31T00:00", "2026-06-01T00:00"),
    ("on Sunday", SUNDAY, "2026-05-31T00:00", "2026-06-01T00:00"),
    ("on Tue", WEDNESDAY, "2026-06-02T00:00", "2026-06-03T00:00"),
    ("on Monday last week", WEDNESDAY, "2026-05-25T00:00", "2026-05-26T00:00"),
    ("from Monday to Tuesday", WEDNESDAY, "2026-06-01T00:00", "2026-06-03T00:00"),
    ("3 days ago", WEDNESDAY, "2026-05-31T00:00", "2026-06-01T00:00"),
    ("two weeks ago", WEDNESDAY, "2026-05-17T00:00", "2026-05-24T00:00"),
    ("on 12 May", WEDNESDAY, "2026-05-12T00:00", "2026-05-13T00:00"),
    ("on the 12th of May", WEDNESDAY, "2026-05-12T00:00", "2026-05-13T00:00"),
    ("on December 24th", WEDNESDAY, "2025-12-24T00:00", "2025-12-25T00:00"),
    ("on 12 May 2024", WEDNESDAY, "2024-05-12T00:00", "2024-05-13T00:00"),
    ("on 29 February", WEDNESDAY, "2024-02-29T00:00", "2024-03-01T00:00"),
    ("on 2026-05-04", WEDNESDAY, "2026-05-04T00:00", "2026-05-05T00:00"),
    ("on 4.5.2026", WEDNESDAY, "2026-05-04T00:00", "2026-05-05T00:00"),
    ("from 30 December to 2 January", NEW_YEAR, "2025-12-30T00:00", ""),
    ("last week", WEDNESDAY, "2026-05-25T00:00", "2026-06-01T00:00"),
    ("last week", MONDAY, "2026-05-25T00:00", "2026-06-01T00:00"),
    ("this week", SUNDAY, "2026-06-01T00:00", ""),
    ("at the weekend", WEDNESDAY, "2026-05-30T00:00", "2026-06-01T00:00"),
    ("last weekend", SUNDAY, "2026-05-30T00:00", "2026-06-01T00:00"),
    ("last month", NEW_YEAR, "2025-12-01T00:00", "2026-01-01T00:00"),
    ("last year", NEW_YEAR, "2025-01-01T00:00", "2026-01-01T00:00"),
    ("in 2025", WEDNESDAY, "2025-01-01T00:00", "2026-01-01T00:00"),
    ("in May", WEDNESDAY, "2026-05-01T00:00", "2026-06-01T00:00"),
    ("in August", WEDNESDAY, "2025-08-01T00:00", "2025-09-01T00:00"),
    # parts of a day
    ("who was there last night?", WEDNESDAY, "2026-06-02T20:00", "06:00"),
    ("who was there last night?", NIGHT, "2026-06-02T20:00", ""),
    ("overnight", NEW_YEAR, "2025-12-31T20:00", ""),
    ("this morning", WEDNESDAY, "05:00", "12:00"),
    ("early this morning", NIGHT, "00:00", ""),
    ("this afternoon", WEDNESDAY, "12:00", ""),
    ("tonight", NIGHT, "2026-06-02T18:00", ""),
    ("in the evening", WEDNESDAY, "2026-06-02T17:00", "2026-06-02T23:00"),
    ("yesterday morning", WEDNESDAY, "2026-06-02T05:00", "2026-06-02T12:00"),
    ("on Monday evening", WEDNESDAY, "2026-06-01T17:00", "2026-06-01T23:00"),
    ("on the evening of 12 May", WEDNESDAY, "2026-05-12T17:00", "2026-05-12T23:00"),
    # lengths back from now
    ("in the last hour", WEDNESDAY, "14:30", ""),
    ("in the last hour", MIDNIGHT, "2026-06-02T23:00", ""),
    ("the past 10 minutes", WEDNESDAY, "15:20", ""),
    ("within the last half an hour", WEDNESDAY, "15:00", ""),
    ("over the last 2 days", WEDNESDAY, "2026-06-01T15:30", ""),
    ("in the last month", WEDNESDAY, "2026-05-03T15:30", ""),
    ("last 30 seconds", WEDNESDAY, "15:29:30", ""),
    ("in the last 24h", WEDNESDAY, "2026-06-02T15:30", ""),
    ("an hour ago", WEDNESDAY, "14:30-30", "14:30+30"),
    ("half an hour ago", WEDNESDAY, "14:45", "15:15"),
    ("what did you see 20 minutes ago?", WEDNESDAY, "15:05", "15:15"),
    ("an hour and a half ago", WEDNESDAY, "13:30", "14:30"),
    ("between two and three hours ago", WEDNESDAY, "12:30", "13:30"),
    ("2 to 3 days ago", WEDNESDAY, "2026-05-31T00:00", "2026-06-02T00:00"),
    ("more than an hour ago", WEDNESDAY, "", "14:30"),
    ("less than 5 minutes ago", WEDNESDAY, "15:25", ""),
    # since, after, before, until
    ("since 9", WEDNESDAY, "09:00", ""),
    ("since 9", "2026-06-03T08:00", "2026-06-02T21:00", ""),
    ("since noon", WEDNESDAY, "12:00", ""),
    ("since yesterday", WEDNESDAY, "2026-06-02T00:00", ""),
    ("since Monday 8:00", WEDNESDAY, "2026-06-01T08:00", ""),
    ("since 2 hours ago", WEDNESDAY, "13:30", ""),
    ("since May", WEDNESDAY, "2026-05-01T00:00", ""),
    ("after 3 pm", WEDNESDAY, "15:00", ""),
    ("after 3 pm", "2026-06-03T10:00", "2026-06-02T15:00", ""),
    ("yesterday after 3 pm", WEDNESDAY, "2026-06-02T15:00", "2026-06-03T00:00"),
    ("before 8 am", WEDNESDAY, "00:00", "08:00"),
    ("before midnight", WEDNESDAY, "2026-06-02T00:00", "00:00"),
    ("before yesterday", WEDNESDAY, "", "2026-06-02T00:00"),
    ("until noon", WEDNESDAY, "00:00", "12:00"),
    # a moment
    ("what was there at 14:02?", WEDNESDAY, "14:00", "14:05"),
    ("at 14:02:11", WEDNESDAY, "14:01:41", "14:02:41"),
    ("at 2:02 pm", WEDNESDAY, "14:00", "14:05"),
    ("at 3", WEDNESDAY, "14:50", "15:10"),
    ("at 3 o'clock", "2026-06-03T12:00", "02:50", "03:10"),
    ("around noon", WEDNESDAY, "11:30", "12:30"),
    ("at midnight", WEDNESDAY, "2026-06-02T23:50", "00:10"),
    ("at 8 in the evening", WEDNESDAY, "2026-06-02T19:50", "2026-06-02T20:10"),
    ("at 23:59", MIDNIGHT, "2026-06-02T23:57", ""),
    # a day and a time
    ("on Monday between 2 and 3", WEDNESDAY, "2026-06-01T14:00", "2026-06-01T15:00"),
    ("between 2 and 3 on Monday", WEDNESDAY, "2026-06-01T14:00", "2026-06-01T15:00"),
    ("yesterday, how many cars passed between 2 and 3?", WEDNESDAY, "2026-06-02T14:00", "2026-06-02T15:00"),
    ("between yesterday 22:00 and 6 this morning", WEDNESDAY, "2026-06-02T22:00", "06:00"),
    ("between 10 pm and 6 this morning", WEDNESDAY, "2026-06-02T22:00", "06:00"),
    ("yesterday between 8 and 9 pm", WEDNESDAY, "2026-06-02T20:00", "2026-06-02T21:00"),
    ("from Monday 8:00 to 17:00", WEDNESDAY, "2026-06-01T08:00", "2026-06-01T17:00"),
    ("from Monday 8:00 to Tuesday 17:00", WEDNESDAY, "2026-06-01T08:00", "2026-06-02T17:00"),
    ("last night at 2", WEDNESDAY, "01:50", "02:10"),
    ("last night between 11 and 1", WEDNESDAY, "2026-06-02T23:00", "01:00"),
    ("on 12 May 2025 at 14:02", WEDNESDAY, "2025-05-12T14:00", "2025-05-12T14:05"),
    ("May 12 at 3 pm", WEDNESDAY, "2026-05-12T14:50", "2026-05-12T15:10"),
    ("2026-05-12T14:02", WEDNESDAY, "2026-05-12T14:00", "2026-05-12T14:05"),
    ("3 days ago at 14:02", WEDNESDAY, "2026-05-31T14:00", "2026-05-31T14:05"),
    ("last week between 2 and 3", WEDNESDAY, "2026-05-25T00:00", "2026-06-01T00:00"),
    ("did it rain for two hours yesterday?", WEDNESDAY, "2026-06-02T00:00", "2026-06-03T00:00"),
    # clock changes
    ("today", SPRING, "00:00", ""),
    ("yesterday", "2026-03-30T12:00", "2026-03-29T00:00", "2026-03-30T00:00"),  # 23 hours
    ("between 2 and 3", SPRING, "03:00", "03:00"),
    ("from 1:30 to 3:30", SPRING, "01:30", "03:30"),
    ("in the last 11 hours", SPRING, "00:00", ""),
    ("between 2 and 3 at night", AUTUMN, "02:00", "03:00"),  # two hours
    ("from 2:00 to 2:30", AUTUMN, "02:00", "02:30+60"),
    ("in the last 12 hours", AUTUMN, "01:00", ""),
    ("in the last 2 days", AUTUMN, "2026-10-23T12:00", ""),
]

# No range: nothing about time, a length, an order, the future, or words that only look like it
UNSAID = [
    "",
    "?",
    "how many red cars passed",
    "what passed first",
    "what passed last?",
    "did a bus stop for two minutes",
    "what came after the bus",
    "may a person have passed",
    "is it second from the left",
    "what came before the second car?",
    "did anyone stay longer than 5 minutes?",
    "was the gate open for ten minutes",
    "for how many hours was the parcel there?",
    "did it last 5 minutes?",
    "how long did the red car last?",
    "did the rain last two hours?",
    "who came in at the last minute?",
    "how long ago did the bus pass?",
    "what happened not long ago?",
    "is it day or night?",
    "is it night now?",
    "good morning, what do you see?",
    "did 2 cars pass?",
    "did between 2 and 3 cars pass?",
    "were there from 2 to 3 people?",
    "look at 2 cars",
    "what is on camera 2?",
    "what passed after 3 buses?",
    "since 9 cars came, was there a bus?",
    "is the temperature between 2.5 and 3.5 degrees",
    "did a car go at 50 km/h?",
    "on a scale from 1 to 10, how sure are you?",
    "12 may have passed",
    "can 5 may pass?",
    "did they march past the gate",
    "is the sun shining?",
    "did the cat sat on the mat move?",
    "what will happen tomorrow at 3 pm?",
    "does the bus come next Monday?",
    "what comes in 5 minutes?",
    "did it take one second?",
    "what happens at night?",
    "how often does the bus pass on Mondays?",
    "twice a day?",
    "who walked past 2 gates?",
    "what was the previous car?",
    "is the gate half open?",
    "a quarter of the cars were red?",
    "until the bus came, who waited?",
    "from the left to the right?",
    "what came after the first one was gone?",
    "right now?",
    "at the moment?",
    "version 1.2.3",
    "on 31 April",
    "on 99 May",
    "at 25:00",
    "at 14:75",
    "today at 18:00",
    "this evening",
]


def stamp(text: str, now: str) -> float | None:
    """Seconds of a local time, of `now`'s day when it has none; `14:30+60` is an hour later."""
    if not text:
        return None
    found = re.fullmatch(r"(\d{4}-.*T)?([\d:]+)([+-]\d+)?", text)
    assert found is not None
    moment = datetime.fromisoformat((found[1] or now[:11]) + found[2]).replace(tzinfo=BERLIN)
    return moment.timestamp() + 60 * int(found[3] or 0)


def asked(question: str, now: str = WEDNESDAY) -> TimeRange | None:
    now_s = stamp(now, now)
    assert now_s is not None
    return parse(question, now_s, BERLIN)


@pytest.mark.parametrize(("question", "now", "since", "until"), SAID)
def test_what_is_said(question: str, now: str, since: str, until: str) -> None:
    found = asked(question, now)
    assert found is not None
    until_s = stamp(until, now)
    expected = (stamp(since, now), None if until_s == stamp(now, now) else until_s)
    assert (found.since_s, found.until_s) == expected
    assert all(word.strip(TIDY) in question for word in found.text.split())


@pytest.mark.parametrize("question", UNSAID)
def test_what_is_not_said(question: str) -> None:
    assert asked(question) is None


def test_the_tables_are_long_enough() -> None:
    assert len(SAID) >= 60
    assert len(UNSAID) >= 40


def filled() -> Iterator[str]:
    """Every phrasing of the street's questions, its slots filled in a few ways, in lower and upper case."""
    things = itertools.cycle(["red car", "bus", "person", "second bus", "dog that stopped first", "last bike"])
    for key in PATTERNS:
        for template in templates(key):
            thing, other = next(things), next(things)
            slots = {"a": f"a {thing}", "the": f"the {thing}", "other": f"the {other}", "many": f"{thing}s"}
            text = template.format_map({**slots, "state": "open"})
            yield from (text, f"hey, {text}", text[0].upper() + text[1:], text.upper(), text.rstrip("?"))


def test_no_phrasing_of_the_street_says_a_range() -> None:
    questions = list(filled())
    assert len(questions) > 1000
    assert [question for question in questions if asked(question) is not None] == []


@pytest.mark.parametrize("question", ["what passed {}?", "{}: what passed?", "please: did a bus pass {}", "{}"])
@pytest.mark.parametrize("said", ["yesterday", "between 2 and 3", "in the last hour", "at 14:02", "since Monday"])
def test_where_it_stands_in_the_question_does_not_matter(question: str, said: str) -> None:
    plain = asked(said)
    assert plain is not None
    assert asked(question.format(said)) == plain
    assert plain.text == said


def test_the_zone_decides() -> None:
    now_s = datetime(2026, 6, 3, 0, 30, tzinfo=BERLIN).timestamp()
    assert parse("today", now_s, BERLIN) == TimeRange(now_s - 1800, None, "today")
    assert parse("today", now_s, UTC) == TimeRange(now_s - 1800 - 22 * 3600, None, "today")


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Pacific/Apia"])
def test_no_zone_is_that_of_the_machine(zone: str) -> None:
    code = f"""
        from zoneinfo import ZoneInfo
        from daemon.when import parse
        for question in ("on Monday between 2 and 3", "on 12 May", "yesterday", "between 2 and 3 hours ago"):
            found = parse(question, {stamp(WEDNESDAY, WEDNESDAY)}, None)
            print(found is not None and found == parse(question, {stamp(WEDNESDAY, WEDNESDAY)}, ZoneInfo({zone!r})))
    """
    assert elsewhere(code, TZ=zone) == ["True"] * 4


def elsewhere(code: str, **environment: str) -> list[str]:
    """What `code` prints in a process of its own, word by word."""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", dedent(code)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.split()


def test_the_date_library_waits_until_a_date_is_said() -> None:
    code = """
        import sys
        from daemon.when import parse, prepare
        parse("how many cars passed?", 1.7e9)
        parse("between 2 and 3", 1.7e9)
        print("dateparser" in sys.modules)
        prepare()
        print("dateparser" in sys.modules)
    """
    assert elsewhere(code) == ["False", "True"]


def fastest(question: str, rounds: int) -> float:
    """The shortest of `rounds` readings, seconds: the machine may be busy."""
    prepare()
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        asked(question)
        best = min(best, time.perf_counter() - start)
    return best


def test_it_costs_next_to_nothing() -> None:
    assert fastest("what colour was the car that passed after the bus stopped in front of the gate?", 200) < 50e-6
    assert max(fastest(question, 10) for question, *_ in SAID) < 20e-3


@pytest.mark.parametrize(
    "text", ["since ", "1 ", "between 2 and ", "last ", "a ", "yesterday ", "12 May ", "from 1-", " "]
)
def test_no_text_takes_long(text: str) -> None:
    assert fastest(text * 2000, 2) < 1.0


PLAIN = """between from since after before until at around in on the last past this and to of ago now a an few am pm week
14:02 2 3 12 24 99 2025 31 2026-02-30 1.2.2026 , - : ? o'clock may tomorrow couple half past quarter night"""
WORDS = [*re.split(r"\s", PLAIN), *sorted(ENGLISH.hint)]


@settings(max_examples=300, deadline=None)
@given(
    text=st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join) | st.text(max_size=60),
    now_s=st.floats() | st.floats(0, 4e9) | st.just(0.0),
    zone=st.sampled_from([BERLIN, UTC, None, ZoneInfo("America/New_York"), ZoneInfo("Australia/Lord_Howe")]),
)
@example("9999 years ago", 1e9, BERLIN)
@example("since 9999 months ago", 0.0, BERLIN)
@example("in the last 9999 weeks", 0.0, None)
@example("İ yesterday ſ", 1e9, BERLIN)
@example("١٢ May", 1e9, BERLIN)
def test_any_text_at_any_time(text: str, now_s: float, zone: ZoneInfo | None) -> None:
    """Nothing is raised; a range is ordered, says one end at least, and never lies in the future."""
    found = parse(text, now_s, zone)
    if found is None:
        return
    since_s = found.until_s if found.since_s is None else found.since_s
    until_s = now_s if found.until_s is None else found.until_s
    assert since_s is not None
    assert since_s <= until_s <= now_s
    assert found.text
    assert parse(text, now_s, zone) == found


@settings(max_examples=200, deadline=None)
@given(
    now=st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(BERLIN)),
    first=st.integers(1, 12),
    hours=st.integers(1, 6),
)
def test_hours_are_the_most_recent_ones_that_have_begun(now: datetime, first: int, hours: int) -> None:
    last = (first + hours - 1) % 12 + 1
    found = parse(f"what passed between {first} and {last}?", now.timestamp(), BERLIN)
    assert found is not None
    assert found.since_s is not None
    assert 0 <= now.timestamp() - found.since_s <= 14 * 3600  # 12, and a clock change
    begin = datetime.fromtimestamp(found.since_s, BERLIN)
    assert begin.hour % 12 in (first % 12, (first + 1) % 12)  # the hour that spring leaves out is the next one
