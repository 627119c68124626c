"""Writes the diary in the engine's thread, one forward a turn, and only when nobody waits for anything.

    poll (its own thread) --spans--> waiting --fork, search--> one forward a turn --> line, with the camera's mark
                                        | more than `backlog`: the older half is one line that says how many

A line that is not finished is begun again: after a restart, after an erasure, and when its span left the backlog.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass

import structlog

from daemon.diary.day import missed_text
from daemon.diary.finder import Finder, Found
from daemon.diary.spans import EventSpan
from daemon.diary.spec import DiarySettings
from daemon.metrics import Counters
from daemon.outlook import Outlook
from daemon.session import Session
from daemon.settings import AnswerSettings
from daemon.trust import judge
from memory.archive import Line
from memory.bank import MemoryBank
from memory.view import MemoryView
from stream.model import Model
from stream.positions import Positions

POLL_S = 2.0
BURST_S = 1.0  # what can be spent at once after a quiet time
DAY_S = 86_400.0
MOST_CHARS = 200
UNCLEAR = "something changed"
NOTHING = frozenset({"", "nothing", "no", "none", "unknown", "not seen"})  # of an event this is no answer
Banks = Mapping[str, MemoryBank]


@dataclass(slots=True)
class _Job:
    """The line that is being written; its span stays at the head of what waits until it is done."""

    span: EventSpan
    found: Future[MemoryView]
    session: Session | None = None
    spent_s: float = 0.0


class Scribe:
    """See the module. Everything belongs to the engine's thread (`Engine.call`)."""

    def __init__(  # noqa: PLR0913
        self,
        model: Model,
        positions: Positions,
        finder: Finder,
        threads: Executor,
        settings: DiarySettings,
        answer: AnswerSettings,
        outlook: Outlook,
        counters: Counters,
        tell: Callable[[Line], bool],
    ) -> None:
        self.model, self.positions, self.settings, self.answer = model, positions, settings, answer
        self._finder, self._threads, self._outlook = finder, threads, outlook
        self._counters, self._tell = counters, tell
        self._waiting: dict[str, deque[EventSpan]] = {}
        self._job: _Job | None = None
        self._poll: Future[Found] | None = None
        self._polled_s = -POLL_S
        self._credit_s, self._counted_s = BURST_S, outlook.clock.monotonic_s()
        self._log = structlog.get_logger("longwatch.diary")

    @property
    def prompt(self) -> str:
        """What is asked of each event."""
        return self.settings.prompt or self.model.geometry.caption

    @property
    def waiting(self) -> int:
        """Spans that have no line yet, of all cameras."""
        return sum(len(spans) for spans in self._waiting.values())

    @property
    def due(self) -> bool:
        """Whether `turn` has something to do now."""
        if self._poll is not None and self._poll.done():
            return True
        if not self.settings.enabled or not self._affords():
            return False
        job = self._job
        return bool(self.waiting) if job is None else job.session is not None or job.found.done()

    def turn(self, banks: Banks) -> None:
        """One forward at most."""
        if not self.settings.enabled:
            self.forget()
            return
        self._look(banks)
        if not self._affords():
            return
        began_s = self._outlook.clock.monotonic_s()
        try:
            self._work(banks)
        except Exception:  # noqa: BLE001 - a line's top: it is given up, the next one is tried
            self._counters.count("diary_faults")
            self._log.exception("a line of the diary could not be written")
            self._give_up()
        took_s = self._outlook.clock.monotonic_s() - began_s
        self._credit_s -= took_s
        if self._job is not None:
            self._job.spent_s += took_s

    def forget(self) -> None:
        """Drop what was read of memory; what has no line yet is read again."""
        self._waiting.clear()
        self._job = None

    # -- spans -------------------------------------------------------------------------------------------------------

    def _look(self, banks: Banks) -> None:
        """Take over what the reading thread found, and have it look again every now and then."""
        if self._poll is not None and self._poll.done():
            poll, self._poll = self._poll, None
            if (fault := poll.exception()) is not None:
                self._counters.count("diary_faults")
                self._log.error("the archive could not be read for the diary", reason=repr(fault))
            else:
                self._sort(poll.result())
        now_s = self._outlook.clock.monotonic_s()
        if self._poll is None and abs(now_s - self._polled_s) >= POLL_S:
            self._polled_s = now_s
            wall_s, settings, speech = self._outlook.clock.wall_s(), self.settings, self.answer.speech
            self._poll = self._threads.submit(self._finder.poll, tuple(banks), wall_s, settings, speech)

    def _sort(self, found: Found) -> None:
        if found.anew:
            self.forget()
        for span in found.spans:
            self._waiting.setdefault(span.camera, deque()).append(span)
        for camera, spans in self._waiting.items():
            if len(spans) > self.settings.backlog:
                self._leave(camera, [spans.popleft() for _ in range(len(spans) - self.settings.backlog // 2)])
        for line in found.days:
            self._put(line)

    def _leave(self, camera: str, spans: list[EventSpan]) -> None:
        """Too many wait: these are only counted, in a line for each day at most."""
        if self._job is not None and self._job.span.camera == camera:
            self._job = None
        self._log.warning(
            "the diary cannot keep up", camera=camera, missed=len(spans), hint="raise diary.share or diary.gap_s"
        )
        while spans:
            count = next((n for n, span in enumerate(spans) if span.last_s - spans[0].first_s > DAY_S), len(spans))
            self._miss(spans[: max(1, count)])
            spans = spans[max(1, count) :]

    def _miss(self, spans: list[EventSpan]) -> None:
        first, last = spans[0], spans[-1]
        self._counters.count("diary_missed", len(spans))
        text = missed_text(len(spans))
        last_s = max(first.first_s, last.last_s)
        self._put(Line(first.camera, first.first_s, last_s, text, "missed", carrier=last.carrier, epoch=first.epoch))

    # -- one line ----------------------------------------------------------------------------------------------------

    def _affords(self) -> bool:
        """Whether the share of time has room."""
        share, now_s = self.settings.share, self._outlook.clock.monotonic_s()
        self._credit_s = min(BURST_S, self._credit_s + share * max(0.0, now_s - self._counted_s))
        self._counted_s = now_s
        return share >= 1 or self._credit_s > 0

    def _work(self, banks: Banks) -> None:
        job = self._job
        if job is None:
            self._begin(banks)
            return
        if job.session is None:
            if not job.found.done():
                return
            view = job.found.result()
            if not view:  # nothing is kept of it any more
                self._give_up()
                return
            job.session = Session(
                self.model,
                self.positions,
                [view],
                self.model.question_ids(self.prompt),
                self.settings.max_tokens,
                self.answer.speech,
            )
        job.session.step()
        if job.session.done:
            self._finish(job)

    def _begin(self, banks: Banks) -> None:
        """Fork the bank for the oldest span, as if the question had come at its end, and have the archive searched."""
        heads = [spans[0] for camera, spans in self._waiting.items() if spans and camera in banks]
        if not heads:
            self._waiting = {camera: spans for camera, spans in self._waiting.items() if camera in banks}
            return
        span = min(heads, key=lambda span: span.first_s)
        fork = banks[span.camera].fork(span.first_s, span.last_s, span.last_s)
        self._job = _Job(span, self._threads.submit(self._finder.view, fork, self.prompt, span))

    def _finish(self, job: _Job) -> None:
        session, trust = job.session, self.model.geometry.trust
        assert session is not None
        said = " ".join(session.text(0).split())[:MOST_CHARS]
        judged = judge(said, session.rows[0].confidence, session.support(0), trust, self.answer.min_support)
        clear = judged.seen and said.lower().rstrip(".!") not in NOTHING
        span = job.span
        line = Line(
            camera=span.camera,
            first_s=span.first_s,
            last_s=span.last_s,
            text=judged.text if clear else UNCLEAR,
            confidence=round(judged.confidence, 4) if clear else None,
            model=self.model.geometry.name,
            carrier=span.carrier,
            epoch=span.epoch,
        )
        self._done(job)
        self._counters.observe("diary_ms", 1000 * job.spent_s)
        if self._put(line):
            self._counters.count("diary_lines")

    def _give_up(self) -> None:
        """The line that is being written cannot be."""
        job = self._job
        if job is not None:
            self._done(job)
            self._miss([job.span])

    def _done(self, job: _Job) -> None:
        self._job = None
        spans = self._waiting.get(job.span.camera)
        if spans and spans[0] is job.span:
            spans.popleft()

    def _put(self, line: Line) -> bool:
        kept = self._tell(line)
        if not kept:
            self._counters.count("diary_dropped")
        return kept
