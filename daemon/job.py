"""One question on its way through the engine: from the queue to its answer.

waiting -> looking (read over the bank) -> searching (archive) -> answering -> finished
           only for methods that look      only for the past
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from daemon.messages import Answer, Evidence, Gap, Query, Status, Timing
from daemon.session import Session
from daemon.times import SPEECH, Speech
from daemon.trust import Judged, judge, shown
from memory.recall.search import EVER, Range
from memory.view import MemoryView
from stream.types import Trust


@dataclass(frozen=True, slots=True)
class Sinks:
    """Where a question's results go. Called in the engine's thread: they must hand over and return."""

    chunk: Callable[[str], None]
    answer: Callable[[Answer], None]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an answer says beside what the model writes."""

    model: str
    newest_s: float | None  # stamp of the newest frame of the asked cameras
    gaps: tuple[Gap, ...]  # of the asked cameras, in the asked time
    trust: Trust | None = None
    least_support: float | None = None  # as configured
    speech: Speech = SPEECH
    pictures: Callable[[str], bool] = lambda _camera: True  # whether pictures of a camera may be shown


@dataclass(slots=True, eq=False)
class Job:
    """A question with its progress. `arrived_s` and the like are monotonic seconds."""

    query: Query
    sinks: Sinks
    arrived_s: float
    started_s: float | None = None
    first_token_s: float | None = None
    deadline_s: float | None = field(default=None)  # wall
    text: str = ""  # the question as the model reads it: without the words that said a time
    ids: list[int] = field(default_factory=list)
    span: Range = EVER  # the asked time
    views: Sequence[MemoryView] = ()  # of every asked camera, what is held of the asked time
    session: Session | None = None
    looking: bool = False  # the session reads the question over the whole bank, for recall
    found: Future[list[MemoryView]] | None = None  # what a search makes of `views`
    searching_s: float = 0.0  # since when
    sent: str = ""

    @property
    def waits(self) -> bool:
        """Whether there is nothing to compute until a search is done."""
        return self.found is not None and not self.found.done()

    def lines(self, around: Surroundings) -> list[Judged]:
        """What each camera's view says so far, in the order of `session.rows`."""
        assert self.session is not None
        session = self.session
        return [
            judge(session.text(number), row.confidence, session.support(number), around.trust, around.least_support)
            for number, row in enumerate(session.rows)
        ]

    def stream(self, around: Surroundings) -> None:
        """Hand on what is new since the last time. A row that may yet be held back is shown when it is whole."""
        assert self.session is not None
        text, rows = "", self.session.rows
        for number, line in enumerate(self.lines(around)):
            whole = rows[number].done
            text += ("\n" if number else "") + self._named(number, line.text if whole or line.supported else "")
            if not whole:
                break  # later rows wait, so that what was streamed stays a beginning of the whole
        self._send(text)

    def said(self, around: Surroundings) -> tuple[Status, str]:
        """Status and text of a session that is done."""
        assert self.session is not None
        judged = self.lines(around)
        text = "\n".join(self._named(number, line.text) for number, line in enumerate(judged))
        read = {row.view.camera for row in self.session.rows}
        for view in self.views:
            if view.camera not in read:
                text += f"\n{view.camera}: {nothing([view])}"
        return ("ok" if any(line.seen for line in judged) else "no_evidence"), text

    def finish(self, status: Status, text: str, now: tuple[float, float], around: Surroundings) -> Answer:
        """The answer to send; `now` is (wall, monotonic) seconds."""
        wall_s, monotonic_s = now
        told = status in ("ok", "no_evidence")
        if told and (missed := self._missed(around, status, wall_s)):
            text = f"{text}{'' if text.endswith(('.', '!', '?')) else '.'} {missed}" if text else missed
        if self.query.stream and self.sent:
            self._send(text)
        held = [view for view in self.views if view.held_from_s is not None]
        judged = self.lines(around) if told and self.session is not None else []
        return Answer(
            id=self.query.id,
            status=status,
            text=text,
            confidence=min((line.confidence for line in judged), default=None),
            evidence=self._evidence(judged, around) if judged else (),
            memory_from_s=min((view.held_from_s or 0.0 for view in held), default=None),
            memory_to_s=max((view.held_to_s or 0.0 for view in held), default=None),
            asked_from_s=self.span.since_s,
            asked_to_s=self.span.until_s,
            carriers=sum(view.count for view in self.views),
            recalled=sum(view.recalled for view in self.views),
            evicted=sum(view.evicted for view in self.views),
            newest_age_s=None if around.newest_s is None else max(0.0, wall_s - around.newest_s),
            gaps=around.gaps,
            asked_s=self.query.received_s,
            answered_s=wall_s,
            timing=self._timing(monotonic_s),
            model=around.model,
        )

    def _named(self, number: int, text: str) -> str:
        """With several cameras each has a line that names it."""
        assert self.session is not None
        return text if len(self.views) == 1 else f"{self.session.rows[number].view.camera}: {text}"

    def _send(self, text: str) -> None:
        if text.startswith(self.sent) and len(text) > len(self.sent):
            self.sinks.chunk(text[len(self.sent) :])
            self.sent = text

    def _missed(self, around: Surroundings, status: Status, now_s: float) -> str:
        """A sentence about gaps, when they matter: a time was asked for and they lie in it, the camera is not seen
        now, or nothing was found and they may be why."""
        gaps = around.gaps
        if self.span == EVER and status != "no_evidence":
            gaps = tuple(gap for gap in gaps if gap.until_s is None)
        return around.speech.missed(gaps, now_s, several=len(self.views) > 1)

    def _timing(self, now_s: float) -> Timing:
        def ms(at_s: float) -> float:
            return round(1000 * (at_s - self.arrived_s), 2)

        started_s = now_s if self.started_s is None else self.started_s
        first = None if self.first_token_s is None else ms(self.first_token_s)
        return Timing(queue_ms=ms(started_s), first_token_ms=first, total_ms=ms(now_s))

    def _evidence(self, judged: Sequence[Judged], around: Surroundings) -> tuple[Evidence, ...]:
        """The most attended moments over all cameras, best first; each camera's part of the answer counts the same.

        A camera that nothing supports has none.
        """
        assert self.session is not None
        count = self.query.evidence or 0
        found = [
            Evidence(
                row.view.camera,
                moment.span,
                weight / len(judged),
                moment.jpeg if around.pictures(row.view.camera) else b"",
                shown(weight, around.trust),
            )
            for number, row in enumerate(self.session.rows)
            if judged[number].seen
            for moment, weight in self.session.evidence(number, count)
        ]
        return tuple(sorted(found, key=lambda item: -item.weight)[:count])


def nothing(views: Sequence[MemoryView]) -> str:
    """Why there is nothing to answer from."""
    if any(view.held_from_s is not None for view in views):
        return "nothing is remembered of that time"
    return "nothing has been seen yet" if len(views) != 1 else f"camera {views[0].camera} has not been seen yet"
