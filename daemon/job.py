"""One question on its way through the engine: from the queue to its answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from daemon.messages import Answer, Evidence, Gap, Query, Status, Timing
from daemon.session import Session
from memory.view import MemoryView


@dataclass(frozen=True, slots=True)
class Sinks:
    """Where a question's results go. Called in the engine's thread: they must hand over and return."""

    chunk: Callable[[str], None]
    answer: Callable[[Answer], None]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an answer says beside its text."""

    model: str
    newest_s: float | None  # stamp of the newest frame of the asked cameras
    gaps: tuple[Gap, ...]


@dataclass(slots=True)
class Job:
    """A question with its progress. `arrived_s` and the like are monotonic seconds."""

    query: Query
    sinks: Sinks
    arrived_s: float
    started_s: float | None = None
    first_token_s: float | None = None
    session: Session | None = None
    views: Sequence[MemoryView] = ()
    sent: str = ""
    deadline_s: float | None = field(default=None)  # wall

    def text(self) -> str:
        """The answer so far. With several cameras each has a line that names it."""
        assert self.session is not None
        if len(self.session.rows) == 1:
            return self.session.text(0)
        lines = []
        for number, row in enumerate(self.session.rows):
            lines.append(f"{row.view.camera}: {self.session.text(number)}")
            if not row.done:
                break  # later rows wait, so that what was streamed stays a beginning of the whole
        return "\n".join(lines)

    def stream(self) -> None:
        """Hand on what is new since the last time."""
        text = self.text()
        if text.startswith(self.sent) and len(text) > len(self.sent):
            self.sinks.chunk(text[len(self.sent) :])
            self.sent = text

    def finish(self, status: Status, text: str, now: tuple[float, float], around: Surroundings) -> Answer:
        """The answer to send; `now` is (wall, monotonic) seconds."""
        wall_s, monotonic_s = now
        held = [view for view in self.views if view.held_from_s is not None]
        done = status == "ok" and self.session is not None
        return Answer(
            id=self.query.id,
            status=status,
            text=text,
            confidence=min(row.confidence for row in self.session.rows) if done and self.session else None,
            evidence=self._evidence() if done else (),
            memory_from_s=min((view.held_from_s or 0.0 for view in held), default=None),
            memory_to_s=max((view.held_to_s or 0.0 for view in held), default=None),
            newest_age_s=None if around.newest_s is None else max(0.0, wall_s - around.newest_s),
            gaps=around.gaps,
            asked_s=self.query.received_s,
            answered_s=wall_s,
            timing=self._timing(monotonic_s),
            model=around.model,
        )

    def _timing(self, now_s: float) -> Timing:
        def ms(at_s: float) -> float:
            return round(1000 * (at_s - self.arrived_s), 2)

        started_s = now_s if self.started_s is None else self.started_s
        first = None if self.first_token_s is None else ms(self.first_token_s)
        return Timing(queue_ms=ms(started_s), first_token_ms=first, total_ms=ms(now_s))

    def _evidence(self) -> tuple[Evidence, ...]:
        """The most attended moments over all cameras, best first; each camera's part of the answer counts the same."""
        assert self.session is not None
        count = self.query.evidence or 0
        found = [
            Evidence(row.view.camera, moment.span, weight / len(self.session.rows), moment.jpeg)
            for number, row in enumerate(self.session.rows)
            for moment, weight in self.session.evidence(number, count)
        ]
        return tuple(sorted(found, key=lambda item: -item.weight)[:count])
