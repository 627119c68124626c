"""Questions about a stretch of street, as people put them, each with its one right answer.

Nothing is asked whose answer depends on a sliver of a thing, on a name that fits two things, or on what is not
remembered any more. Time answers are marks (`stream/marks.py`); what they stand for is in the question.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stream.marks import AGO, CLOCK, MARKS, SPAN
from stream.train import asking_now, asking_past, asking_standing
from stream.train.asking import BLACK, NO, NOT_SEEN, NOTHING, YES, Draft, Moment
from stream.train.phrasings import phrase
from stream.train.truth import Truth

__all__ = [
    "AGO",
    "BLACK",
    "CLOCK",
    "KINDS",
    "NO",
    "NOTHING",
    "NOT_SEEN",
    "SPAN",
    "STANDING",
    "YES",
    "Question",
    "ask",
    "right",
]

_PEOPLE: dict[str, tuple[str, Callable[[Moment], Draft | None]]] = {**asking_now.MAKERS, **asking_past.MAKERS}
_MAKERS = {**_PEOPLE, **asking_standing.MAKERS}
KINDS: dict[str, str] = {kind: family for kind, (family, _) in _PEOPLE.items()}
STANDING: dict[str, str] = {kind: family for kind, (family, _) in asking_standing.MAKERS.items()}
START_TOLERANCE_S, LENGTH_TOLERANCE = 2.0, 0.2


@dataclass(frozen=True, slots=True)
class Question:
    """A question put after frame `step`. Frames count from 0; times are on the street's axis."""

    family: str
    kind: str
    text: str
    answer: str  # with a mark where a time stands
    step: int
    evidence: tuple[int, ...]  # remembered frames that show the answer; () when it rests on nothing
    rests_on: tuple[int, ...]  # these and what must be known to find them, as what came before the thing asked for
    age_s: float  # from the last of them to frame `step`
    span_s: tuple[float, float] | None  # what the mark stands for
    slots: tuple[tuple[str, str], ...]  # the words in the template's places
    template: str  # key of its phrasings


def ask(
    truth: Truth,
    kind: str,
    step: int,
    rng: np.random.Generator,
    held: frozenset[int] | None = None,
    typos: float = 0.0,
) -> Question | None:
    """One question of `kind` after frame `step`; None where it has no clear answer here.

    `held`: frames still remembered, None for all. Every decisive event has at least one of its frames among them.
    """
    family, make = _MAKERS[kind]
    draft = make(Moment(truth, step, rng))
    if draft is None:
        return None
    known = range(step + 1) if held is None else held
    if any(not any(frame in known for frame in frames) for frames in draft.needs):
        return None
    evidence = tuple(frame for frame in draft.evidence if frame in known)
    return Question(
        family=family,
        kind=kind,
        text=phrase(draft.template, dict(draft.slots), rng, typos),
        answer=draft.answer,
        step=step,
        evidence=evidence,
        rests_on=tuple(sorted({*evidence, *(frame for frames in draft.needs for frame in frames if frame in known)})),
        age_s=float(truth.times_s[step] - truth.times_s[evidence[-1]]) if evidence else 0.0,
        span_s=draft.span_s,
        slots=draft.slots,
        template=draft.template,
    )


def rephrase(question: Question, rng: np.random.Generator, typos: float = 0.0) -> str:
    """The same question in other words."""
    return phrase(question.template, dict(question.slots), rng, typos)


def right(question: Question, said: str, span_s: tuple[float, float] | None = None) -> bool:
    """Whether `said` is the answer. With a mark, `span_s` is the time that was put in its place."""
    if _plain(said) != _plain(question.answer):
        return False
    mark = next((mark for mark in MARKS if mark in question.answer), None)
    if mark is None:
        return True
    if span_s is None or question.span_s is None:
        return False
    first_s, last_s = question.span_s
    if mark == SPAN:
        length_s = last_s - first_s
        return abs(span_s[1] - span_s[0] - length_s) <= max(START_TOLERANCE_S, LENGTH_TOLERANCE * length_s)
    return abs(span_s[0] - first_s) <= START_TOLERANCE_S


def _plain(text: str) -> tuple[str, ...]:
    """Case, spaces, a full stop and the order of things joined by `and` do not matter."""
    words = " ".join(text.lower().split()).rstrip(".!")
    return tuple(sorted(words.split(" and ")))
