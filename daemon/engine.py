"""One thread owns model and banks. Questions go before frames; all cameras with a frame are absorbed in one batch.

    ask() --> queue --> [ admit | one decode step for every answer in flight | absorb one batch ] --> sinks
    cameras --> mailboxes -------------------------------------------------------^

An answer waits for at most one absorbed batch. While answers are being written frames still get a turn every
`FRAME_TURN_S`, so that memory does not stand still under a flood of questions.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import structlog

from daemon.job import Job, Sinks, Surroundings
from daemon.messages import Gap, Query, Status
from daemon.metrics import Counters
from daemon.session import Session
from daemon.settings import AnswerSettings
from memory.bank import MemoryBank
from memory.view import MemoryView
from stream.clock import Clock, SystemClock
from stream.encoder import Encoder, Work
from stream.mailbox import Mailbox
from stream.types import Frame

FRAME_TURN_S = 0.5
IDLE_S = 0.25  # the longest sleep: spans of still cameras grow at this pace
IN_FLIGHT = 8  # answers written side by side


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the engine asks the cameras' side. Callable from the engine's thread."""

    newest_s: Callable[[str], float | None] = lambda _camera: None  # stamp of the newest intact frame
    gaps: Callable[[str, float | None, float | None], tuple[Gap, ...]] = lambda *_: ()
    beat: Callable[[], None] = lambda: None
    clock: Clock = field(default_factory=SystemClock)


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera's two ends in the engine."""

    mailbox: Mailbox[Frame]
    bank: MemoryBank


class Engine:
    """See the module. `ask`, `notify`, `stop` and `snapshot` may be called from any thread."""

    def __init__(
        self,
        encoder: Encoder,
        cameras: Mapping[str, Camera],
        settings: AnswerSettings,
        outlook: Outlook,
        counters: Counters,
    ) -> None:
        self.encoder, self.cameras, self.settings = encoder, dict(cameras), settings
        self.outlook, self.counters = outlook, counters
        self._log = structlog.get_logger("longwatch.engine")
        self._wake = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._active: list[Job] = []
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
            if not (self._waiting or self._active or self._frames):
                if self._stopping:
                    return False
                self._wake.wait(IDLE_S)
        self.turn()
        return True

    def turn(self) -> None:
        """One turn without waiting. The engine's thread calls it; a replay calls it by hand and starts no thread."""
        with self._wake:
            if self._coming is not None:
                self.cameras, self._coming = self._coming, None
                self._snapshot = {name: item for name, item in self._snapshot.items() if name in self.cameras}
        self._admit()
        self._decode()
        now_s = self.outlook.clock.monotonic_s()
        if not self._active or now_s - self._turn_s > FRAME_TURN_S:
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
        names = [name for name in query.cameras or self.cameras if name in self.cameras]
        now_s = self.outlook.clock.wall_s()
        views = [self.cameras[name].bank.fork(query.since_s, query.until_s, now_s) for name in names]
        job.views = views
        readable = [view for view in views if view]
        if not readable:
            self._finish(job, "no_evidence", _nothing(views))
            return
        model = self.encoder.model
        positions = self.cameras[names[0]].bank.policy.positions
        ids = model.question_ids(query.question)
        room = model.geometry.max_positions - positions.bound(max(view.count for view in readable), 0)
        if len(ids) + self.settings.max_tokens > room:
            text = f"the question has {len(ids)} tokens, at most {max(0, room - self.settings.max_tokens)} fit"
            self._finish(job, "error", text)
            return
        job.session = Session(model, positions, readable, ids, self.settings.max_tokens)
        self._active.append(job)

    def _decode(self) -> None:
        """One step for every answer in flight."""
        for job in list(self._active):
            self._guard(job, lambda job=job: self._step(job))  # type: ignore[misc]

    def _step(self, job: Job) -> None:
        assert job.session is not None
        if self._late(job):
            self._active.remove(job)
            return
        job.session.step()
        if job.first_token_s is None:
            job.first_token_s = self.outlook.clock.monotonic_s()
            self.counters.observe("first_token_ms", 1000 * (job.first_token_s - job.arrived_s))
        if job.query.stream:
            job.stream()
        if job.session.done:
            self._active.remove(job)
            self._finish(job, "ok", job.text())

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
            for carrier in self.encoder.absorb(work):
                self.cameras[carrier.camera].bank.add(carrier)
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

    def _finish(self, job: Job, status: Status, text: str) -> None:
        clock, query = self.outlook.clock, job.query
        names = query.cameras or tuple(self.cameras)
        stamps = [stamp for name in names if (stamp := self.outlook.newest_s(name)) is not None]
        gaps = tuple(gap for name in names for gap in self.outlook.gaps(name, query.since_s, query.until_s))
        around = Surroundings(self.encoder.model.geometry.name, max(stamps, default=None), gaps)
        now = (clock.wall_s(), clock.monotonic_s())
        answer = job.finish(status, text, now, around)
        self.counters.count("answers", status=status)
        self.counters.observe("answer_ms", answer.timing.total_ms)
        job.sinks.answer(answer)


def _nothing(views: list[MemoryView]) -> str:
    """Why there is nothing to answer from."""
    if any(view.held_from_s is not None for view in views):
        return "nothing is remembered of that time"
    return "nothing has been seen yet" if len(views) != 1 else f"camera {views[0].camera} has not been seen yet"
