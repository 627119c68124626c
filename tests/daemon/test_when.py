"""A time range said in a question: which words say one, which do not, and what exactly it is."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
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
from tests.daemon.time_phrases import SAID, UNSAID, WEDNESDAY

BERLIN = ZoneInfo("Europe/Berlin")
TIDY = " ,.!?"


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


@pytest.mark.timeout(60)  # a pattern that runs away takes for ever; all of it takes a second
@pytest.mark.parametrize(
    "text", ["since ", "1 ", "between 2 and ", "last ", "a ", "yesterday ", "12 May ", "from 1-", " "]
)
def test_no_text_runs_away(text: str) -> None:
    prepare()
    found = asked(text * 2000)
    assert found is None or found.since_s is None or found.until_s is None or found.since_s <= found.until_s


PLAIN = """between from since after before until at around in on the last past this and to of ago now a an few am pm
week 14:02 2 3 12 24 99 2025 31 2026-02-30 1.2.2026 , - : ? o'clock may tomorrow couple half past quarter night"""
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


@pytest.mark.parametrize(
    ("question", "rest"),
    [
        ("What passed in the last hour?", "What passed?"),
        ("Yesterday, what passed between 2 and 3?", "what passed?"),
        ("What passed between 2 and 3 yesterday, a bus?", "What passed a bus?"),
        ("did a bus, in the last hour, stop for two minutes?", "did a bus stop for two minutes?"),
        ("last night", ""),
        ("yesterday: what passed first?", "what passed first?"),
        ("what passed yesterday?" + " and why" * 300, "what passed?" + " and why" * 300),
    ],
)
def test_the_rest_is_the_question_without_these_words(question: str, rest: str) -> None:
    found = parse(question, 1.7e9, UTC)
    assert found is not None
    assert found.rest == rest
