"""Questions on their way: opened, looked for, searched, written side by side, finished.

    put --> waiting --admit--> [ looking --> searching --> ] answering --> sinks
                  one forward for all:   ^                 ^

Runs in the engine's thread, but for `put` and `hopeless`. A fault costs the one question that had it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

import structlog
from torch import Tensor

from daemon import when
from daemon.job import Job, Surroundings, nothing
from daemon.messages import Query, Status
from daemon.metrics import Counters
from daemon.outlook import Outlook
from daemon.recaller import Recaller
from daemon.session import Session
from daemon.settings import AnswerSettings
from memory.bank import MemoryBank
from memory.recall import Asked
from memory.recall.search import EVER, Range
from memory.view import MemoryView
from stream.attention import Step
from stream.model import Model
from stream.stages import OFF, Stages

IN_FLIGHT = 8  # answers written side by side
GRACE_S = 0.1  # that frames wait for a search
KNOWN = 8  # answers that must have been timed before a deadline is called hopeless
GAPS = 100  # named in an answer at most, the newest; months have more
SEARCH_S = 5.0  # a disk that takes longer is not waited for: the bank answers alone
T = TypeVar("T")
Banks = Callable[[], Mapping[str, MemoryBank]]


class Answering:
    """All questions of one engine. `wake` tells the engine that a search is done."""

    def __init__(  # noqa: PLR0913
        self,
        model: Model,
        recaller: Recaller,
        settings: AnswerSettings,
        outlook: Outlook,
        counters: Counters,
        banks: Banks,
        wake: Callable[[], None],
        stages: Stages = OFF,
    ) -> None:
        self.model, self.recaller, self.settings = model, recaller, settings
        self.outlook, self.counters = outlook, counters
        self._banks, self._wake, self.stages = banks, wake, stages
        self._log = structlog.get_logger("longwatch.engine")
        self._waiting: deque[Job] = deque()
        self._active: list[Job] = []
        self._times: deque[float] = deque(maxlen=4 * KNOWN)  # that answers took, seconds

    def __len__(self) -> int:
        """Questions that wait or are being answered."""
        return len(self._waiting) + len(self._active)

    @property
    def full(self) -> bool:
        """Whether no more questions are taken."""
        return len(self._waiting) >= self.settings.max_queue

    @property
    def busy(self) -> bool:
        """Whether there is something to compute now."""
        return (bool(self._waiting) and len(self._active) < IN_FLIGHT) or not self.patient

    @property
    def holds_s(self) -> float:
        """How long frames should wait for a search that will soon be done, seconds; 0: they may go.

        Else a question would wait twice for them: when it comes, and again after its search.
        """
        now_s = self.outlook.clock.monotonic_s()
        left = [job.searching_s + GRACE_S - now_s for job in self._active if job.waits]
        return max(0.0, min(left, default=0.0))

    def hopeless(self, job: Job) -> tuple[Status, str] | None:
        """What to say at once to a question whose deadline cannot be met: it passed, or too many are before it."""
        if job.deadline_s is None:
            return None
        left_s = job.deadline_s - self.outlook.clock.wall_s()
        if left_s <= 0:
            return "expired", "the deadline had passed when the question came"
        times = sorted(self._times)
        if len(times) < KNOWN:
            return None
        needs_s = times[len(times) // 2] * (len(self) // IN_FLIGHT)
        if needs_s <= left_s:
            return None
        return "busy", f"{len(self)} questions are before it, about {needs_s:.0f} s; it has {left_s:.0f} s"

    @property
    def patient(self) -> bool:
        """Whether every question that was opened waits for its search: frames may go first."""
        return all(job.waits for job in self._active)

    def put(self, job: Job) -> None:
        """Take a question. The caller has made sure that there is room, and holds the engine's lock."""
        self._waiting.append(job)

    def turn(self) -> None:
        """Open what waits, and one forward for every answer in flight: for new ones it reads the question."""
        self._expire()
        while self._waiting and len(self._active) < IN_FLIGHT:
            job = self._waiting.popleft()
            self._guard(job, self._open)
        ready = [job for job in list(self._active) if self._guard(job, self._ready)]
        steps = [step for job in ready if (step := self._guard(job, self._ask))]
        ready = [job for job in ready if job in self._active]
        if not ready:
            return
        name = "prefill" if any(step.embeds.shape[1] > 1 for step in steps) else "decode"
        try:
            with self.stages.span(name):
                hidden = self.model.forward_all(steps)
        except Exception:  # noqa: BLE001 - whose fault it was is found out one by one
            self.counters.count("forward_faults")
            self._log.exception("a forward for several questions failed; each has one of its own", questions=len(ready))
            for job in ready:
                self._guard(job, self._alone)
            return
        for job, step, own in zip(ready, steps, hidden, strict=True):
            self._guard(job, self._take, step, own)

    def finish(self, job: Job, status: Status, text: str) -> None:
        """Answer `job` and forget it. Any thread."""
        clock = self.outlook.clock
        answer = job.finish(status, text, (clock.wall_s(), clock.monotonic_s()), self._around(job))
        self.counters.count("answers", status=status)
        self.counters.observe("answer_ms", answer.timing.total_ms)
        if job.started_s is not None and status in ("ok", "no_evidence"):
            self._times.append(clock.monotonic_s() - job.started_s)
        job.sinks.answer(answer)

    def _open(self, job: Job) -> None:
        query = job.query
        job.started_s = self.outlook.clock.monotonic_s()
        if self._late(job):
            return
        if query.evidence is None:
            job.query = query = replace(query, evidence=self.settings.evidence)
        # a camera that left while the question waited must not be answered with what others saw
        known = self._banks()
        banks = [known[name] for name in query.cameras or known if name in known]
        now_s = self.outlook.clock.wall_s()
        job.text, job.span = self._asked_time(query, now_s)
        with self.stages.span("fork"):
            job.views = [bank.fork(job.span.since_s, job.span.until_s, now_s) for bank in banks]
        room = self.recaller.how.limits.room
        job.ids = self.model.question_ids(job.text)
        fits = self.model.geometry.max_positions - self.recaller.how.positions.bound(room, 0) - self.settings.max_tokens
        if len(job.ids) > fits:
            self.finish(job, "error", f"the question has {len(job.ids)} tokens, at most {max(0, fits)} fit")
            return
        self._active.append(job)
        if banks and self.recaller.looks:
            whole = job.views if job.span == EVER else [bank.fork(now_s=now_s) for bank in banks]
            job.session, job.looking = self._session(job, whole), True
        else:
            self._search(job, [Asked(job.text)] * len(banks))

    def _asked_time(self, query: Query, now_s: float) -> tuple[str, Range]:
        """The question without the words that say a time, and that time; the payload's own goes first."""
        if query.since_s is not None or query.until_s is not None:
            return query.question, Range(query.since_s, query.until_s)
        said = when.parse(query.question, now_s, self.settings.zone)
        if said is None:
            return query.question, EVER
        rest = said.rest if said.rest.strip(" ?!.,") else query.question
        return rest, Range(said.since_s, said.until_s)

    def _session(self, job: Job, views: list[MemoryView]) -> Session:
        """The question put to `views`, which may be empty ones."""
        settings = self.settings
        return Session(self.model, self.recaller.how.positions, views, job.ids, settings.max_tokens, settings.speech)

    def _search(self, job: Job, asked: list[Asked]) -> None:
        """Let recall choose what is read; its thread wakes this one when it is done."""
        job.session, job.searching_s = None, self.outlook.clock.monotonic_s()
        job.found = self.recaller.submit(job.views, asked, job.span)
        job.found.add_done_callback(lambda _found: self._wake())

    def _searched(self, job: Job) -> bool:
        """Whether a search is over, and there is something to read; else the job waits, or is finished."""
        assert job.found is not None
        if job.found.done():
            fault = job.found.exception()
            if fault is None:
                job.views = job.found.result()
            else:
                self.counters.count("recall_faults")
                self._log.error("the archive could not be searched; the bank answers alone", reason=repr(fault))
        elif self.outlook.clock.monotonic_s() - job.searching_s > SEARCH_S:
            self.counters.count("recall_timeouts")
            self._log.warning("the archive takes too long; the bank answers alone", id=job.query.id)
            job.found.cancel()
        else:
            return False
        job.found = None
        readable = [view for view in job.views if view]
        if readable:
            job.session = self._session(job, readable)
            return True
        self._active.remove(job)
        self.finish(job, "no_evidence", nothing(job.views))
        return False

    def _expire(self) -> None:
        """Answer those that wait in vain; nobody hears later than the next turn that the deadline has passed."""
        for job in [job for job in list(self._waiting) if self._late(job)]:
            self._waiting.remove(job)

    def _ready(self, job: Job) -> bool:
        """Whether the next forward is for this question too."""
        if self._late(job):
            self._active.remove(job)
            if job.found is not None:
                job.found.cancel()  # a search that did not begin would only keep others waiting
            return False
        return job.found is None or self._searched(job)

    def _ask(self, job: Job) -> Step:
        assert job.session is not None
        return job.session.ask()

    def _alone(self, job: Job) -> None:
        step = self._ask(job)
        self._take(job, step, self.model.forward_all([step])[0])

    def _take(self, job: Job, step: Step, hidden: Tensor) -> None:
        """What the forward gave this question."""
        assert job.session is not None
        with self.stages.span("say"):
            job.session.take(step, hidden)
        if job.looking:
            job.looking = False
            looks = [job.session.look(row) for row in range(len(job.session.rows))]
            asked = [Asked(job.text, look) for look in looks]
            if not all(job.views) or any(self.recaller.wants(item, job.span) for item in asked):
                self._search(job, asked)
                return
        if job.first_token_s is None:
            job.first_token_s = self.outlook.clock.monotonic_s()
            self.counters.observe("first_token_ms", 1000 * (job.first_token_s - job.arrived_s))
        if job.session.done:
            self._active.remove(job)
            self.finish(job, *job.said(self._around(job)))
        elif job.query.stream:
            job.stream(self._around(job))

    def _late(self, job: Job) -> bool:
        """Whether nobody waits any more; then it was answered `expired`."""
        late = job.deadline_s is not None and self.outlook.clock.wall_s() > job.deadline_s
        if late:
            self.finish(job, "expired", "the deadline passed before the answer was ready")
        return late

    def _guard(self, job: Job, step: Callable[..., T], *given: object) -> T | None:
        """Run a step of one question; a fault costs that question only, and gives None."""
        try:
            return step(job, *given)
        except Exception:  # noqa: BLE001 - a question's top: it is answered `error`, the others go on
            self.counters.count("question_faults")
            self._log.exception("question failed", id=job.query.id)
            if job in self._active:
                self._active.remove(job)
            self.finish(job, "error", "this question could not be answered; see the daemon's log")
            return None

    def _around(self, job: Job) -> Surroundings:
        """What an answer says beside the model's words."""
        query, geometry = job.query, self.model.geometry
        names = query.cameras or tuple(self._banks())
        stamps = [stamp for name in names if (stamp := self.outlook.newest_s(name)) is not None]
        gaps = [gap for name in names for gap in self.outlook.gaps(name, job.span.since_s, job.span.until_s)]
        return Surroundings(
            model=geometry.name,
            newest_s=max(stamps, default=None),
            gaps=tuple(sorted(gaps, key=lambda gap: gap.since_s)[-GAPS:]),
            trust=geometry.trust,
            least_support=self.settings.min_support,
            speech=self.settings.speech,
            pictures=self.outlook.pictures,
        )
