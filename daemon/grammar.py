"""How time is said, one table per language; `daemon/when.py` does the arithmetic.

`pieces` are regular expressions in which `<name>` stands for another piece and a blank for white space. `rules` are
tried in order; a phrase that one has taken is not offered to the next. Another language is another `Grammar`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the day in hours after midnight, and the hours that a clock time said with it may have
    (`2 in the morning` is morning enough). Over 24 is the next day."""

    since_h: float
    until_h: float
    clock_since_h: float
    clock_until_h: float


@dataclass(frozen=True, slots=True, eq=False)
class Grammar:
    """One language's words for time. Keys are lower case, with single blanks."""

    code: str  # the language as dateparser names it
    numbers: Mapping[str, float]
    units: Mapping[str, float]  # how a unit's word begins -> seconds
    parts: Mapping[str, Part]
    days_back: Mapping[str, int]
    fractions: Mapping[str, float]  # of an hour, in minutes
    hours: Mapping[str, tuple[int, ...]]  # times of day with a name
    months: tuple[str, ...]
    last: frozenset[str]  # words that take a part of the day or a period back by one
    this: frozenset[str]  # words that tie one to the present
    edges: Mapping[str, str]  # word of the rule `edge` -> since, after, before, until, at or around
    weekend: str
    week: str
    dress: str  # what is taken off a calendar expression before dateparser reads it
    hint: frozenset[str]  # no range is said without one of these words or digits
    pieces: Mapping[str, str]
    rules: Mapping[str, str]  # with groups `a` and `b` for points, `word` for what decides, `length` for a length

    def pattern(self, text: str) -> str:
        """`text` with all pieces put in, as a regular expression."""
        whole = re.sub(r"(?<!P)<(\w+)>", lambda found: f"(?:{self.pattern(self.pieces[found[1]])})", text)
        return whole.replace(" ", r"\s+")


def _listed(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_ONES = _listed("one two three four five six seven eight nine ten eleven twelve")
_WEEKDAYS = _listed("monday tuesday wednesday thursday friday saturday sunday")
_MONTHS = _listed("january february march april may june july august september october november december")
_HINT = _listed(
    "0 1 2 3 4 5 6 7 8 9 mon tue tues wed thu thur thurs fri sat sun jan feb mar apr jun jul aug sep sept oct nov dec"
    " today yesterday tonight overnight morning afternoon evening night noon midday midnight ago weekend half quarter"
    " second seconds minute minutes hour hours day days week weeks month months year years secs mins hrs"
)

# The day or period, then clock, or the other way round; `<start>` may be a bare hour only where a word announces it.
_POINT = (
    r"(?:<day>(?: <part_name>)?(?:<gap><later_part>)?|<part>(?:<gap><day>)?)(?:<gap><clock>(?:<gap><later_part>)?)?"
    r"|<start>(?:<gap><later_part>)?(?:<gap><day>(?: <part_name>)?)?"
)

ENGLISH = Grammar(
    code="en",
    numbers={
        **{word: number for number, word in enumerate(_ONES, start=1)},
        **{"fifteen": 15, "twenty": 20, "twenty-five": 25, "thirty": 30, "forty": 40, "forty-five": 45},
        **{"sixty": 60, "ninety": 90, "a": 1, "an": 1, "half": 0.5, "half a": 0.5, "half an": 0.5},
        **{"quarter of an": 0.25, "a quarter of an": 0.25},
        **{"couple of": 2, "a couple of": 2, "few": 5, "a few": 5, "several": 5},
    },
    units={"s": 1, "min": 60, "h": 3600, "d": 86_400, "w": 604_800, "mo": 2_629_746, "y": 31_556_952},
    parts={
        "morning": Part(5, 12, 0, 12),
        "afternoon": Part(12, 18, 12, 19),
        "evening": Part(17, 23, 16, 24),
        "night": Part(20, 30, 18, 32),
        "tonight": Part(18, 30, 17, 32),
        "overnight": Part(20, 30, 18, 32),
    },
    days_back={"today": 0, "yesterday": 1, "day before yesterday": 2},
    fractions={"half": 30, "quarter": 15, "a quarter": 15},
    hours={"noon": (12,), "midday": (12,), "midnight": (0, 24)},
    months=_MONTHS,
    last=frozenset(("last", "previous", "overnight")),
    this=frozenset(("this", "tonight")),
    edges={
        **{"since": "since", "after": "after", "before": "before", "until": "until", "till": "until"},
        **{"at": "at", "around": "around"},
    },
    weekend="weekend",
    week="week",
    dress=r"\b(?:on|the|of|last|this|past|week)\b|(?<=\d)(?:st|nd|rd|th)\b",
    hint=frozenset((*_HINT, *_ONES, *_WEEKDAYS, *_MONTHS)),
    pieces={
        # numbers and lengths
        "hour_word": "|".join(_ONES),
        "count": (
            r"\d{1,4}(?:\.\d{1,2})?|half an?|(?:a )?quarter of an|(?:a )?(?:couple of|few)|several|half|an?|twenty-five"
            r"|forty-five|fifteen|twenty|thirty|forty|sixty|ninety|<hour_word>"
        ),
        "unit": r"(?:s|secs?|seconds?|mins?|minutes?|h|hrs?|hours?|days?|weeks?|months?|years?)\b",
        "amount": r"<count>(?: and a half)?\s*<unit>(?: and a half)?",
        "amount_parts": r"(?:(?P<count><count>)(?P<half> and a half)?\s*|\b)(?P<unit><unit>)(?P<more> and a half)?",
        "length": r"<amount>(?:,? (?:and )?<amount>)?",
        "ago": r"<length> ago",
        # clock times
        "half_day": r"[ap](?:\.m\.|m\b)",
        "after_hour": (  # a bare number is an hour only when nothing follows that it could count
            r"(?![.:,]\d)(?=\s*(?:$|[?!.,;:)\0–-]| (?:and|to|or|but|until|till|through|before|on|in|at|from|by|with|for"
            r"|during|this|last|that|there|today|yesterday|tonight|the|an?|what|which|who|where|when|how|why|if"
            r"|did|do|does|was|were|is|are|has|have|had|any\w*|some\w*|nothing|please|it|he|she|they|you|we|i|<weekday>)\b))"
        ),
        "exact": (
            r"(?:[01]?\d|2[0-4])[:h][0-5]\d(?::[0-5]\d)?(?:\s*<half_day>)?(?!:?\d)"
            r"|(?:1[0-2]|0?[1-9])\s*<half_day>|(?:\d{1,2}|<hour_word>) ?o['’]?clock\b(?:\s*<half_day>)?"
            r"|(?:half past|(?:a )?quarter (?:past|to)|(?:\d{1,2}|ten|five|twenty|twenty-five) (?:minutes )?past"
            r"|(?:ten|five|twenty|twenty-five) (?:minutes )?to) (?:\d{1,2}|<hour_word>)\b(?:\s*<half_day>|<after_hour>)"
            r"|(?:noon|midday|midnight)\b"
        ),
        "clock": (
            r"<exact>|<hour_word> <half_day>|(?:2[0-4]|1\d|0?\d)(?:\.[0-5]\d(?:\s*<half_day>)?)?<after_hour>"
            r"|(?:<hour_word>)\b<after_word>"
        ),
        "after_word": (  # `one` and `two` are seldom hours
            r"(?=\s*(?:$|[?!,;\0]|\.(?!\d)"
            r"| (?:and|to|or|until|till|on|in the|at night|yesterday|today|this|last|<weekday>)\b))"
        ),
        "clock_parts": (
            r"(?:(?P<by>half|(?:a )?quarter|\d{1,2}|ten|five|twenty|twenty-five)(?: minutes)? (?:past|(?P<to>to)) )?"
            r"(?P<hour>\d{1,2}|<hour_word>)(?:[:h.](?P<minute>\d\d)(?::(?P<second>\d\d))?)?"
            r"(?: ?o['’]?clock)?(?:\s*(?:(?P<am>a)|(?P<pm>p))\.?m)?"
        ),
        # days
        "weekday": r"(?:mon|tues|wednes|thurs|fri|satur|sun)day",
        "named": (
            r"(?:(?:on|last|this|this past|this last) )?<weekday>\b(?: (?:of )?(?:last|this) week\b)?"
            r"|on (?:mon|tues?|wed|thur?s?|fri|sat|sun)\b"
        ),
        "month": "|".join(_MONTHS),
        "month_name": r"<month>|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec",
        "nth": r"(?:3[01]|[12]\d|0?[1-9])(?:st|nd|rd|th)?",
        "date": (
            r"(?:on )?(?:\d{4}-\d\d-\d\d|\d{1,2}[./]\d{1,2}[./]\d{4}"
            r"|(?:the )?<nth>(?: of)? (?:<month_name>)\b\.?(?:,? \d{4}\b|(?!<verb>))"
            r"|(?:<month_name>)\.? (?:the )?<nth>\b(?:,? \d{4}\b|(?!<verb>)<after_hour>))"
        ),
        "verb": r" (?:be|have|not|also|only|still|pass|come|go|stop|then|well|appear|show|stand)\b",  # 12 may pass
        "in_month": r"(?:in|during|last) (?:<month>)\b(?: \d{4}\b)?",
        "period": (
            r"(?:on |at |over |during )?(?:last|this|previous|the previous) (?:week|month|year)(?:end)?\b"
            r"|(?:on|at|over|during) the weekend\b|(?:in|during) <year>"
        ),
        "year": r"(?:19|20|21)\d\d\b(?!-)<after_hour>",
        "back": r"today\b|(?:the )?day before yesterday\b|yesterday\b",
        "day": r"<back>|<period>|<in_month>|<date>|<named>|<ago>",
        "part_name": r"(?:morning|afternoon|evening|night)\b",
        "part": (
            r"(?:(?:early|late|later|earlier) )?(?:this|last|in the|on the|during the|through the|all)"
            r" (?:(?:early|late) )?<part_name>|tonight\b|overnight\b"
        ),
        "later_part": r"<part>|at night\b",  # behind a day or a clock time only: alone it means every night
        # points: a day, a part of it, a clock time, or two or three of them
        "gap": r"(?:T|,? (?:at |around |about |on |of )?)",
        "start": "<clock>",
        "point": _POINT,
        "bare_point": _POINT.replace("<start>", "<exact>|<clock>(?= in the <part_name>| at night\\b)"),
        "now": r"(?:right )?now\b",
        "item": (
            r"(?P<back><back>)|(?P<period><period>|<year>)|(?P<date><date>)"
            r"|(?P<month><in_month>|(?:<month>)\b(?: \d{4}\b)?)|(?P<named><named>)|(?P<ago><ago>)"
            r"|(?P<part><later_part>|<part_name>)|(?P<clock><clock>)|(?P<now><now>)"
        ),
        "last": r"(?:last|past|previous)",
        "lone": r"(?:minute|hour|day|week|month|year)\b",
    },
    rules={
        "future": r"\btomorrow\b|(?<!the\s)\b(?:next|coming) (?:week|month|year|weekend|<weekday>)\b",
        "scale": r"\b(?:scale (?:of|from)|count from|good) (?:\d+ to \d+|<part_name>)",
        "ago_pair": r"\b(?:between )?(?P<a><count>)(?: and | to | or |-)(?P<b><count>) (?P<unit><unit>) ago\b",
        "last": (
            r"(?<!at\s)\b(?:(?:in|over|during|within|for|from) )?(?:the|these) <last>"
            r" (?P<length><length>|<lone>)(?! ago)"
            r"|(?:\b(?:in|over|during|within) <last>|(?:^|(?<=[,:;]\s))last) (?P<length2><length>)(?! ago)"
        ),
        "since_ago": r"\b(?:less than|within|not more than) (?P<length><length>) ago\b",
        "until_ago": r"\b(?:more|longer) than (?P<length><length>) ago\b",
        "dates": (  # 12 to 14 May
            r"(?<![\w.:])(?:(?:between|from|since) )?(?:the )?(?P<first><nth>)(?: (?:and|to|until|till) |\s*[–-]\s*)"
            r"(?P<b><date>)"
        ),
        "range": (
            r"\b(?:between|from|since|after) (?P<a><point>)"
            r"(?:,? (?:and|to|up to|until|till|through|and before) |\s*[–-]\s*)(?P<b><point>|<now>)"
        ),
        "dash": (r"(?<![\w.:])(?P<a><exact>|\d{1,2})(?:\s*[–-]\s*| (?:to|until|till) )(?P<b><exact>(?:<gap><day>)?)"),
        "edge": (
            r"\b(?P<word>since|after|(?<!day\s)before|until|till|around|at)"
            r"(?: about| around| roughly| exactly)? (?P<a><point>|(?:<month>)\b(?: \d{4}\b)?<after_hour>|<year>)"
        ),
        "bare": r"(?<![\w.:])(?P<a><bare_point>)",
    },
)
