"""One thread owns model and banks. Questions go before frames; all cameras with a frame are absorbed in one batch.

    ask() --> [ calls | answering: open, search, one decode step for each | absorb one batch ] --> sinks
                              |  ^                                              ^       |
                              v  |  views                                       |       v
                            recaller (archive)                     mailboxes <- cameras keep (archive)

An answer waits for at most one absorbed batch, which is as large as `patience_s` allows: cameras that waited longest
are in it, so that under overload all lose as many frames. While answers are being written frames still get a turn,
after as much time as the last one took and at least `FRAME_TURN_S`: memory does not stand still under a flood.
The diary comes last: one forward of it, when there is nothing else to do.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol, TypeVar

import structlog

from daemon.answering import Answering
from daemon.job import Job, Sinks
from daemon.messages import Query, Status
from daemon.metrics import Counters
from daemon.outlook import Outlook
from daemon.recaller import Recaller
from daemon.settings import AnswerSettings
from memory.bank import MemoryBank
from stream.encoder import Encoder
from stream.mailbox import Mailbox
from stream.types import Frame

T = TypeVar("T")
Banks = Mapping[str, MemoryBank]
FRAME_TURN_S = 0.5
FOLLOW = 0.2  # how fast the cost of a frame is learned
IDLE_S = 0.25  # the longest sleep: spans of still cameras grow at this pace


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera's two ends in the engine."""

    mailbox: Mailbox[Frame]
    bank: MemoryBank


class Watching(Protocol):
    """Standing questions, put in the engine's thread when nobody waits for an answer."""

    @property
    def due(self) -> bool:
        """Whether `turn` has something to compute, and time for it."""
        ...

    def changed(self, frames: Sequence[Frame]) -> None:
        """These frames were absorbed."""
        ...

    def turn(self, banks: Banks) -> None:
        """A bounded piece of work; must not raise for a fault of one question."""
        ...


class Writing(Protocol):
    """The diary, written in the engine's thread when there is nothing else to do."""

    @property
    def due(self) -> bool:
        """Whether `turn` has something to compute, and time for it."""
        ...

    def turn(self, banks: Banks) -> None:
        """One forward at most: a question that comes waits for no more; must not raise for a fault of one line."""
        ...


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
        self.encoder, self.cameras = encoder, dict(cameras)
        self.outlook, self.counters = outlook, counters
        self._answers = Answering(
            encoder.model, recaller, settings, outlook, counters, self._banks, self.notify, encoder.stages
        )
        self.watching: Watching | None = None  # set before the start, like the next one
        self.writing: Writing | None = None
        self._log = structlog.get_logger("longwatch.engine")
        self._wake = threading.Condition()
        self._calls: deque[Callable[[], None]] = deque()
        self._stopping = self._ended = False
        self._frames = False  # something may lie in a mailbox
        self._coming: dict[str, Camera] | None = None
        self._took_s = 0.0  # the last absorbed batch
        self._answering_s = 0.0  # spent on answers since then
        self._frame_s = 0.0  # what one of its frames took
        self._taken = 0  # frames of all cameras
        self._served: dict[str, int] = {}  # per camera: the number of its newest one
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
        """Take a question. A hopeless one is answered `busy` or `expired` at once, in the caller's thread."""
        job = Job(query, sinks, self.outlook.clock.monotonic_s(), deadline_s=query.deadline_s)
        with self._wake:
            refused: tuple[Status, str] | None = self._answers.hopeless(job)
            if self._stopping:
                refused = "busy", "stopping"
            elif self._answers.full:
                refused = "busy", "too many questions are waiting; ask again soon"
            if refused is None:
                self._answers.put(job)
                self._wake.notify()
        if refused is not None:
            self._answers.finish(job, *refused)

    def call(self, what: Callable[[], T]) -> Future[T]:
        """Run `what` in the engine's thread, between two turns: the only way to touch a bank from outside."""
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(what())
            except Exception as error:  # noqa: BLE001 - a task's top: it is handed to whoever asked
                self.counters.count("call_faults")
                self._log.warning("a call failed", reason=repr(error))
                done.set_exception(error)

        with self._wake:
            if self._thread.ident is not None and not self._ended:
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
    def running(self) -> bool:
        """Questions can be answered."""
        return self._thread.is_alive() and not self._stopping

    @property
    def queued(self) -> int:
        """Questions that wait or are being answered."""
        return len(self._answers)

    def configure(self, settings: AnswerSettings) -> None:
        """From the next question on."""
        self._answers.settings = settings

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
            holds_s = self._answers.holds_s
            idle = not (self._calls or self._answers.busy or (self._frames and not holds_s) or self._watches(holds_s))
            idle = idle and not (self.writing is not None and self._nobody_waits and self.writing.due)
            if idle and not len(self._answers) and self._stopping:
                self._ended = True  # a call from now on is run by whoever makes it
                return False
            if idle:
                self._wake.wait(min(IDLE_S, holds_s or IDLE_S))
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
        began_s = self.outlook.clock.monotonic_s()
        self._answers.turn()
        self._answering_s += self.outlook.clock.monotonic_s() - began_s
        free = self._answers.patient and not self._answers.holds_s
        if free or self._answering_s > max(FRAME_TURN_S, self._took_s):
            self._answering_s = 0.0
            if not self._stopping:
                self._absorb()
            else:
                self._frames = False
        if self.watching is not None and not self._answers.busy and not self._answers.holds_s:
            self.watching.turn(self._banks())
        if self.writing is not None and self._nobody_waits:
            self.writing.turn(self._banks())

    @property
    def _nobody_waits(self) -> bool:
        """Neither a question, nor a frame, a call or a standing question."""
        waiting = self._calls or len(self._answers) or self._frames or self._stopping
        return not waiting and not (self.watching is not None and self.watching.due)

    def _watches(self, holds_s: float) -> bool:
        """Whether a standing question is to be put now."""
        return self.watching is not None and not holds_s and not self._stopping and self.watching.due

    def _absorb(self) -> None:
        """One frame of every camera that has one, in one batch; still cameras' newest spans grow."""
        self._frames = False
        frames = self._take_frames()
        if frames:
            began_s = self.outlook.clock.monotonic_s()
            self._absorb_all(frames)
            self._took_s = self.outlook.clock.monotonic_s() - began_s
            per_frame_s = self._took_s / len(frames)
            self._frame_s += (per_frame_s - self._frame_s) * (FOLLOW if self._frame_s else 1.0)
            self.counters.observe("absorb_ms", 1000 * self._took_s)
            self.counters.count("absorbed", len(frames))
            if self.watching is not None:
                self.watching.changed(frames)
        for name, camera in self.cameras.items():
            spans = camera.bank.spans
            first_s = min((span.first_s for span in spans), default=None)  # a merged span may reach back before others
            ends = first_s, max((span.last_s for span in spans), default=None)
            self._snapshot[name] = (len(spans), *ends)

    def _take_frames(self) -> list[Frame]:
        """The next batch: of the cameras that have a frame those that waited longest, as many as patience allows."""
        patience_s = self._answers.settings.patience_s
        most = len(self.cameras) if self._frame_s <= 0 else max(1, int(patience_s / self._frame_s))
        frames: list[Frame] = []
        for name in sorted(self.cameras, key=lambda name: self._served.get(name, 0)):
            camera = self.cameras[name]
            if len(frames) == most and len(camera.mailbox):
                self._frames = True
                continue
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
            self._taken += 1
            self._served[name] = self._taken
            frames.append(frame)
        return frames

    def _absorb_all(self, frames: Sequence[Frame]) -> None:
        banks = [self.cameras[frame.camera].bank for frame in frames]
        work = [bank.work(frame) for bank, frame in zip(banks, frames, strict=True)]
        made = self.encoder.absorb(work)
        with self.encoder.stages.span("remember"):
            for bank, frame, carrier in zip(banks, frames, made, strict=True):
                if bank.newest_last_s is not None:
                    self.outlook.keep.grew(carrier.camera, bank.newest_frame, bank.newest_last_s)
                bank.add(carrier)
                self.outlook.keep.absorbed(carrier, frame.score)

    def _banks(self) -> dict[str, MemoryBank]:
        return {name: camera.bank for name, camera in self.cameras.items()}
