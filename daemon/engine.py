"""One thread owns model and banks. Questions go before frames; all cameras with a frame are absorbed in one batch.

    ask() --> queue --> [ admit | one decode step for every answer in flight | absorb one batch ] --> sinks
    cameras --> mailboxes --------------^------------------------------------------^      |
                                        +-- views -- recaller (archive) <-- looked for    +--> keep (archive)

An answer waits for at most one absorbed batch. While answers are being written frames still get a turn every
`FRAME_TURN_S`, so that memory does not stand still under a flood of questions.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

import structlog

from daemon import when
from daemon.job import Job, Sinks, Surroundings, nothing
from daemon.messages import Gap, Query, Status
from daemon.metrics import Counters
from daemon.recaller import Recaller
from daemon.session import Session
from daemon.settings import AnswerSettings
from memory.bank import MemoryBank
from memory.recall import Asked
from memory.recall.search import EVER, Range
from memory.view import MemoryView
from stream.clock import Clock, SystemClock
from stream.encoder import Encoder, Work
from stream.mailbox import Mailbox
from stream.types import Carrier, Frame

T = TypeVar("T")
FRAME_TURN_S = 0.5
IDLE_S = 0.25  # the longest sleep: spans of still cameras grow at this pace
IN_FLIGHT = 8  # answers written side by side
SEARCH_S = 5.0  # a disk that takes longer is not waited for: the bank answers alone


class Keep(Protocol):
    """Where carriers go besides the bank. Called in the engine's thread: must hand over and return, never raise."""

    def absorbed(self, carrier: Carrier, score: float) -> None:
        """`carrier` is in its camera's bank now; `score` is the gate's."""
        ...

    def grew(self, camera: str, frame: int, last_s: float) -> None:
        """The span of `camera`'s newest frame reached until `last_s`."""
        ...


class Nowhere:
    """Carriers are kept in the bank alone."""

    def absorbed(self, carrier: Carrier, score: float) -> None:
        """See Keep."""

    def grew(self, camera: str, frame: int, last_s: float) -> None:
        """See Keep."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the engine asks the cameras' side. Callable from the engine's thread."""

    newest_s: Callable[[str], float | None] = lambda _camera: None  # stamp of the newest intact frame
    gaps: Callable[[str, float | None, float | None], tuple[Gap, ...]] = lambda *_: ()
    beat: Callable[[], None] = lambda: None
    keep: Keep = field(default_factory=Nowhere)
    clock: Clock = field(default_factory=SystemClock)


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera's two ends in the engine."""

    mailbox: Mailbox[Frame]
    bank: MemoryBank


class Engine:
    """See the module. `ask`, `call`, `notify`, `stop` and `snapshot` may be called from any thread."""

    def __init__(
        self,
        encoder: Encoder,
        recaller: Recaller,
        cameras: Mapping[str, Camera],
        settings: AnswerSettings,
        outlook: Outlook,
        counters: Counters,
    ) -> None:
        self.encoder, self.recaller, self.cameras, self.settings = encoder, recaller, dict(cameras), settings
        self.outlook, self.counters = outlook, counters
        self._log = structlog.get_logger("longwatch.engine")
        self._wake = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._active: list[Job] = []
        self._calls: deque[Callable[[], None]] = deque()
        self._stopping = False
        self._frames = False  # something may lie in a mailbox
        self._coming: dict[str, Camera] | None = None
        self._turn_s = 0.0
        self._snapshot: dict[str, tuple[int, float | None, float | None]] = {}
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    # -- any thread ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread; once."""
        self._thread.start()

    def stop(self, timeout_s: float = 30.0) -> bool:
        """Finish what was asked, then end. False when it did not end in time."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def notify(self) -> None:
        """A frame lies in a mailbox."""
        with self._wake:
            self._frames = True
            self._wake.notify()

    def ask(self, query: Query, sinks: Sinks) -> None:
        """Take a question. When too many wait, it is answered `busy` at once, in the caller's thread."""
        job = Job(query, sinks, self.outlook.clock.monotonic_s(), deadline_s=query.deadline_s)
        with self._wake:
            full = len(self._waiting) >= self.settings.max_queue or self._stopping
            if not full:
                self._waiting.append(job)
                self._wake.notify()
        if full:
            self._finish(
                job, "busy", "stopping" if self._stopping else "too many questions are waiting; ask again soon"
            )

    def call(self, what: Callable[[], T]) -> Future[T]:
        """Run `what` in the engine's thread, between two turns: the only way to touch a bank from outside."""
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(what())
            except Exception as error:  # noqa: BLE001 - handed to whoever asked
                done.set_exception(error)

        with self._wake:
            if self._thread.is_alive():
                self._calls.append(run)
                self._wake.notify()
                return done
        run()  # nobody else touches the banks: before the start, after the end, in a replay
        return done

    def exchange(self, cameras: Mapping[str, Camera]) -> None:
        """From the next turn on these are the cameras; banks that are passed again keep their memory."""
        with self._wake:
            self._coming = dict(cameras)
            self._frames = True
            self._wake.notify()

    @property
    def queued(self) -> int:
        """Questions that wait or are being answered."""
        return len(self._waiting) + len(self._active)

    def snapshot(self) -> dict[str, tuple[int, float | None, float | None]]:
        """Per camera: carriers held, and the time they span (first and last wall second)."""
        return dict(self._snapshot)

    # -- the engine's thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            try:
                if not self._round():
                    return
            except Exception:  # noqa: BLE001 - the thread's top: a bug costs a round, never the daemon
                self.counters.count("engine_faults")
                self._log.exception("engine round failed; it goes on")

    def _round(self) -> bool:
        """Wait for something to do and do one turn; False when stopped and nothing is left to answer."""
        self.outlook.beat()
        with self._wake:
            idle = not (self._waiting or self._calls or self._frames)
            if idle and not self._active and self._stopping:
                return False
            if idle and all(job.waits for job in self._active):
                self._wake.wait(IDLE_S)
        self.turn()
        return True

    def turn(self) -> None:
        """One turn without waiting. The engine's thread calls it; a replay calls it by hand and starts no thread."""
        with self._wake:
            if self._coming is not None:
                self.cameras, self._coming = self._coming, None
                self._snapshot = {name: item for name, item in self._snapshot.items() if name in self.cameras}
        while self._calls:
            self._calls.popleft()()
        self._admit()
        self._decode()
        now_s = self.outlook.clock.monotonic_s()
        if all(job.waits for job in self._active) or now_s - self._turn_s > FRAME_TURN_S:
            self._turn_s = now_s
            if not self._stopping:
                self._absorb()
            else:
                self._frames = False

    def _admit(self) -> None:
        """Start answering: fork the banks of the asked cameras and open a session."""
        while len(self._active) < IN_FLIGHT:
            with self._wake:
                if not self._waiting:
                    return
                job = self._waiting.popleft()
            self._guard(job, lambda job=job: self._open(job))  # type: ignore[misc]

    def _open(self, job: Job) -> None:
        query = job.query
        job.started_s = self.outlook.clock.monotonic_s()
        if self._late(job):
            return
        if query.evidence is None:
            job.query = query = replace(query, evidence=self.settings.evidence)
        # a camera that left while the question waited must not be answered with what others saw
        banks = [self.cameras[name].bank for name in query.cameras or self.cameras if name in self.cameras]
        now_s = self.outlook.clock.wall_s()
        job.text, job.span = self._asked_time(query, now_s)
        job.views = [bank.fork(job.span.since_s, job.span.until_s, now_s) for bank in banks]
        model, room = self.encoder.model, self.recaller.how.limits.room
        job.ids = model.question_ids(job.text)
        fits = model.geometry.max_positions - self.recaller.how.positions.bound(room, 0) - self.settings.max_tokens
        if len(job.ids) > fits:
            self._finish(job, "error", f"the question has {len(job.ids)} tokens, at most {max(0, fits)} fit")
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
        rest = " ".join(query.question.replace(said.text, " ", 1).split())
        return (rest if rest.strip(" ?!.,") else query.question), Range(said.since_s, said.until_s)

    def _session(self, job: Job, views: list[MemoryView]) -> Session:
        """The question put to `views`, which may be empty ones."""
        model, settings = self.encoder.model, self.settings
        return Session(model, self.recaller.how.positions, views, job.ids, settings.max_tokens, settings.speech)

    def _search(self, job: Job, asked: list[Asked]) -> None:
        """Let recall choose what is read; its thread wakes this one when it is done."""
        job.session, job.searching_s = None, self.outlook.clock.monotonic_s()
        job.found = self.recaller.submit(job.views, asked, job.span)
        job.found.add_done_callback(lambda _found: self.notify())

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
        else:
            return False
        job.found = None
        readable = [view for view in job.views if view]
        if readable:
            job.session = self._session(job, readable)
            return True
        self._active.remove(job)
        self._finish(job, "no_evidence", nothing(job.views))
        return False

    def _decode(self) -> None:
        """One step for every answer in flight."""
        for job in list(self._active):
            self._guard(job, lambda job=job: self._step(job))  # type: ignore[misc]

    def _step(self, job: Job) -> None:
        if self._late(job):
            self._active.remove(job)
            return
        if job.found is not None and not self._searched(job):
            return
        assert job.session is not None
        job.session.step()
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
            self._finish(job, *job.said(self._around(job)))
        elif job.query.stream:
            job.stream(self._around(job))

    def _late(self, job: Job) -> bool:
        """Whether nobody waits any more; then it was answered `expired`."""
        late = job.deadline_s is not None and self.outlook.clock.wall_s() > job.deadline_s
        if late:
            self._finish(job, "expired", "the deadline passed before the answer was ready")
        return late

    def _absorb(self) -> None:
        """One frame of every camera that has one, in one batch; still cameras' newest spans grow."""
        self._frames = False
        work: list[Work] = []
        for name, camera in self.cameras.items():
            frame = camera.mailbox.take_nowait()
            if frame is None:
                newest_s = self.outlook.newest_s(name)
                if newest_s is not None:
                    camera.bank.extend(newest_s)
                continue
            self._frames = self._frames or len(camera.mailbox) > 0
            if frame.index <= camera.bank.newest_frame:  # from a reader that was replaced while it handed over
                self.counters.count("frames_stale")
                continue
            now_s = frame.wall_s
            work.append(Work(frame, camera.bank.past(now_s), camera.bank.next_positions(now_s)))
        if work:
            began_s = self.outlook.clock.monotonic_s()
            for item, carrier in zip(work, self.encoder.absorb(work), strict=True):
                bank = self.cameras[carrier.camera].bank
                if bank.newest_last_s is not None:
                    self.outlook.keep.grew(carrier.camera, bank.newest_frame, bank.newest_last_s)
                bank.add(carrier)
                self.outlook.keep.absorbed(carrier, item.frame.score)
            self.counters.observe("absorb_ms", 1000 * (self.outlook.clock.monotonic_s() - began_s))
            self.counters.count("absorbed", len(work))
        for name, camera in self.cameras.items():
            spans = camera.bank.spans
            ends = (spans[0].first_s, spans[-1].last_s) if spans else (None, None)
            self._snapshot[name] = (len(spans), *ends)

    def _guard(self, job: Job, step: Callable[[], None]) -> None:
        """Run a step of one question; a fault costs that question only."""
        try:
            step()
        except Exception:  # noqa: BLE001 - a question's top: it is answered `error`, the others go on
            self.counters.count("question_faults")
            self._log.exception("question failed", id=job.query.id)
            if job in self._active:
                self._active.remove(job)
            self._finish(job, "error", "this question could not be answered; see the daemon's log")

    def _around(self, job: Job) -> Surroundings:
        """What an answer says beside the model's words."""
        query, geometry = job.query, self.encoder.model.geometry
        names = query.cameras or tuple(self.cameras)
        stamps = [stamp for name in names if (stamp := self.outlook.newest_s(name)) is not None]
        return Surroundings(
            model=geometry.name,
            newest_s=max(stamps, default=None),
            gaps=tuple(gap for name in names for gap in self.outlook.gaps(name, job.span.since_s, job.span.until_s)),
            trust=geometry.trust,
            least_support=self.settings.min_support,
            speech=self.settings.speech,
        )

    def _finish(self, job: Job, status: Status, text: str) -> None:
        clock = self.outlook.clock
        answer = job.finish(status, text, (clock.wall_s(), clock.monotonic_s()), self._around(job))
        self.counters.count("answers", status=status)
        self.counters.observe("answer_ms", answer.timing.total_ms)
        job.sinks.answer(answer)
