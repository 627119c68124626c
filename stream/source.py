"""One camera, one thread: connect, read, gate, hand over, and after any fault connect again, for ever.

    connecting --first frame--> online --fault--> offline(reason) --back-off--> connecting ...
         `---------------------fault-----------------^                 stop() -> offline(stopped)

Outside its schedule a camera is offline(schedule): its connection is closed, and nothing of it is decoded.
`online` has a reason as well: `frames`, or what `sight.py` says of pictures that show nothing, `black` or `frozen`.

Nothing a camera does ends the thread, and nothing blocks it for longer than about twice `timeout_s`: opening and
reading are bounded by FFmpeg's own timeouts, decoding without result by `stale_after_s`. FFmpeg calls cannot be
interrupted from outside, so the owner's watchdog (`Source.watchdog`) covers what is left.
"""

from __future__ import annotations

import random
import threading
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal, TypeVar

import structlog

from stream.capture import Capture, CaptureConfig, Opener, Picture, VideoInfo, open_capture
from stream.clock import Clock, ClockMap, SystemClock
from stream.doze import Thrift
from stream.errors import CameraError, CameraTimeout, NoVideo, redact
from stream.gate import Gate
from stream.hold import Held, Item, Unseen
from stream.intake import CORRUPT, OPEN, Intake, Privacy
from stream.pace import Pace
from stream.schedule import ALWAYS, SCHEDULE, Schedule
from stream.sight import BLIND, Sight
from stream.types import Frame

T = TypeVar("T")
State = Literal["connecting", "online", "offline"]

HEALTHY_S = 60.0  # online for this long: the next fault is a new one, back-off starts small again
FPS_WINDOW_S = 5.0
NAP_S = 0.2  # how late a packet is looked at while its camera dozes
_BLOCKED_S = 0.005  # longer than this for a packet: it had not come yet
_OUTSIDE_S = 0.5  # how late a schedule is followed
_EXPECTED = frozenset({"stopped", "finished", SCHEDULE})  # ends that nobody needs to look into
_MIN_SPAN_S = 0.5  # no rate can be told from less


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """One camera: what to open and how to treat it. `size` is (H, W) of the model's picture."""

    camera: str
    url: str
    size: tuple[int, int]
    loop: bool = True  # files only
    realtime: bool = True  # files only
    timeout_s: float = 5.0
    stale_after_s: float = 9.0
    options: Mapping[str, str] = field(default_factory=dict)
    first_index: int = 0  # of the first frame: where an earlier reader of this camera stopped
    black_after_s: float = 3.0  # of black pictures; 0: never said
    frozen_after_s: float = 60.0  # of one and the same picture; 0: never said
    thrift: Thrift = field(default_factory=Thrift)
    privacy: Privacy = OPEN
    schedule: Schedule = ALWAYS  # when it is watched at all

    @property
    def capture(self) -> CaptureConfig:
        """The part that opening needs."""
        return CaptureConfig(self.url, self.timeout_s, self.options)


@dataclass(frozen=True, slots=True)
class StateChange:
    """What `on_state` gets. `detail` is one redacted line for people; `reason` a word for machines.

    `wall_s` of `online` is the stamp of the first picture of which the reason is true.
    """

    camera: str
    state: State
    reason: str
    wall_s: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class SourceStats:
    """One consistent reading of a source. `frames_in == kept + sum(skipped.values())`."""

    camera: str
    state: State
    reason: str
    since_wall_s: float  # of this state
    last_wall_s: float | None  # stamp of the newest intact frame
    alive_wall_s: float | None  # the same, or when a packet came that is held because nothing moves
    last_monotonic_s: float | None  # when that was
    fps: float  # of these, per second over the last seconds
    frames_in: int
    kept: int
    skipped: Mapping[str, int]
    reconnects: int  # connections after the first
    crashes: int  # faults of ours inside the thread
    info: VideoInfo  # codec, size and rate that the source sends now

    @property
    def corrupt(self) -> int:
        """Damaged frames and packets; part of `skipped`."""
        return self.skipped.get(CORRUPT, 0)

    def stale(self, now_monotonic_s: float, after_s: float) -> bool:
        """Whether it says `online` but gave no intact frame for `after_s`."""
        last_s = self.last_monotonic_s
        return self.state == "online" and last_s is not None and now_monotonic_s - last_s > after_s


class Backoff:
    """Growing pauses between attempts, with jitter so that cameras behind one switch do not come back at once."""

    def __init__(self, rng: random.Random, first_s: float = 0.5, cap_s: float = 30.0) -> None:
        self._rng, self._first_s, self._cap_s = rng, first_s, cap_s
        self._base_s = first_s

    def next_s(self, healthy_s: float) -> float:
        """The pause after a connection that was online for `healthy_s`: between half the base and the base."""
        if healthy_s >= HEALTHY_S:
            self._base_s = self._first_s
        pause_s = self._base_s * self._rng.uniform(0.5, 1.0)
        self._base_s = min(self._cap_s, self._base_s * 2)
        return pause_s


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a source takes from outside; the defaults are the real world, tests pass their own."""

    clock: Clock = field(default_factory=SystemClock)
    rng: random.Random = field(default_factory=random.Random)
    opener: Opener = open_capture
    first_backoff_s: float = 0.5
    beat: Callable[[], object] = lambda: None  # the thread moves: at every frame, attempt and pause


class Source:
    """The reader thread of one camera.

    `sink` gets every kept frame and `on_state` every change of state, both in the reader's thread (`on_state` also
    in the thread that calls `watchdog`): they must be quick. `gate` belongs to this source alone.
    """

    def __init__(
        self,
        config: SourceConfig,
        gate: Gate,
        sink: Callable[[Frame], object],
        on_state: Callable[[StateChange], object] | None = None,
        around: Surroundings | None = None,
    ) -> None:
        self.config = config
        self._sink = sink
        self._on_state = on_state
        self._around = around or Surroundings()
        self._log = structlog.get_logger("longwatch.source").bind(camera=config.camera)
        self._sight = Sight(config.black_after_s, config.frozen_after_s)
        self._intake = Intake(config.camera, config.size, gate, self._sight, config.thrift, config.privacy)
        self._intake.first_index = config.first_index
        self._clock = self._around.clock
        self._map = ClockMap(self._clock)
        self._backoff = Backoff(self._around.rng, self._around.first_backoff_s)
        self._stop = threading.Event()
        self._lock = threading.Lock()  # guards what snapshots read
        self._arrivals: deque[float] = deque(maxlen=1024)
        now_s = self._clock.wall_s()
        self._stats = SourceStats(
            camera=config.camera,
            state="offline",
            reason="not_started",
            since_wall_s=now_s,
            last_wall_s=None,
            alive_wall_s=None,
            last_monotonic_s=None,
            fps=0.0,
            frames_in=0,
            kept=0,
            skipped={},
            reconnects=0,
            crashes=0,
            info=VideoInfo("", 0, 0, 0.0),
        )
        self._nap_to_s = 0.0  # pts: packets up to it have come already
        self._connections = 0
        self._online_s: float | None = None  # monotonic, since when
        self._thread = threading.Thread(target=self._run, name=f"camera-{config.camera}", daemon=True)

    def start(self) -> None:
        """Start the thread; once."""
        self._thread.start()

    def stop(self, timeout_s: float = 12.0) -> bool:
        """Ask the thread to end and wait for at most `timeout_s`. False when it still hangs in FFmpeg."""
        self._stop.set()
        if self._thread.ident is None:
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        """Whether the thread runs; False after `stop`, and after the end of a file that is not looped."""
        return self._thread.is_alive()

    def stats(self) -> SourceStats:
        """An immutable snapshot, from any thread."""
        now_s = self._clock.monotonic_s()
        with self._lock:
            recent = [at_s for at_s in self._arrivals if now_s - at_s <= FPS_WINDOW_S]
            fps = len(recent) / max(_MIN_SPAN_S, now_s - recent[0]) if recent else 0.0
            return replace(self._stats, fps=fps)

    def watchdog(self) -> bool:
        """Declare the camera `offline (frozen)` when it is stale; True then. The next frame makes it `online`."""
        stale = self.stats().stale(self._clock.monotonic_s(), self.config.stale_after_s)
        if stale:
            self._announce("offline", "frozen", f"no decodable frame for {self.config.stale_after_s:g} s")
        return stale

    def _run(self) -> None:
        """The thread. Camera faults are handled in `_visit`; what comes up to here is our own fault."""
        more: bool | None = True
        while more is not False and not self._stop.is_set():
            more = self._guard(self._visit)
            if more is None:
                self._guard(lambda: self._announce("offline", "crashed", "a bug of ours; see the log"))
                self._stop.wait(self._backoff.next_s(0.0))
        if self._stop.is_set():
            self._guard(lambda: self._announce("offline", "stopped"))

    def _watched(self) -> bool:
        return self.config.schedule.watched(self._clock.wall_s())

    def _guard(self, step: Callable[[], T]) -> T | None:
        """`step()`, or None where it raised: logged and counted. The only place that catches everything."""
        try:
            return step()
        except Exception:  # noqa: BLE001  a thread's top: a bug costs this camera a reconnect, never the process
            with self._lock:
                self._stats = replace(self._stats, crashes=self._stats.crashes + 1)
            self._log.error("camera thread crashed; it goes on", traceback=redact(traceback.format_exc()))
            return None

    def _visit(self) -> bool:
        """One connection from opening to its end, and the pause after it. False when there is nothing to reopen."""
        self._online_s = None
        self._around.beat()
        if not self._watched():
            self._announce("offline", SCHEDULE)
            self._stop.wait(_OUTSIDE_S)
            return True
        try:
            self._connect_and_read()
            fault = self._end()
        except CameraError as error:
            fault = error
        if self._stop.is_set():
            return False
        if not self._watched():  # closed for that, and a fault of that moment is none
            return True
        if fault is None:
            self._announce("offline", "finished", "the file was played to its end")
            return False
        self._announce("offline", fault.reason, str(fault))
        online_s = 0.0 if self._online_s is None else self._clock.monotonic_s() - self._online_s
        self._stop.wait(self._backoff.next_s(online_s))
        return True

    def _connect_and_read(self) -> None:
        """Open and read until the source ends (a looped file: until stopped). Raises CameraError."""
        self._announce("connecting", "start" if self._connections == 0 else "reconnect")
        with self._lock:
            self._stats = replace(self._stats, reconnects=self._connections)
        self._connections += 1
        while not self._stop.is_set() and self._watched():
            self._map.restart()
            with closing(self._around.opener(self.config.capture)) as capture:
                self._read(capture)
            if self.config.capture.kind != "file" or not self.config.loop:
                return

    def _end(self) -> CameraError | None:
        """What it means that the source ended without an error: nothing for a file, a disconnect for a camera."""
        if self.config.capture.kind == "file":
            return None
        return CameraError(f"{self.config.capture.place}: the camera closed the stream", "ended")

    def _read(self, capture: Capture) -> None:
        """Hand over frames until `capture` ends or we are stopped. Raises CameraError."""
        paced = self.config.capture.kind == "file" and self.config.realtime
        pace = Pace(self._clock, self._stop)
        intact = 0
        good_s = self._clock.monotonic_s()
        asked_s = good_s
        for item in self._intake.items(capture, self._clock):
            waited_s = self._clock.monotonic_s() - asked_s
            late = isinstance(item, Picture) and item.arrived_s is not None
            if isinstance(item, Held) and item.dozing:
                self._nap(item, pace if paced else None, waited_s)
            elif paced and not late and not isinstance(item, Unseen):
                pace.wait(item.pts_s)
            if self._stop.is_set() or not self._watched():
                return
            frame = self._intake.accept(item, self._map.stamp) if isinstance(item, Picture) else None
            now_s = self._clock.monotonic_s()
            if isinstance(item, Held) or (isinstance(item, Picture) and item.frame is not None):
                intact, good_s = intact + isinstance(item, Picture), now_s
            self._count(capture, item, now_s)
            if frame is not None:
                self._sink(frame)
            if now_s - good_s > self.config.stale_after_s:
                place, limit_s = self.config.capture.place, self.config.stale_after_s
                raise CameraTimeout(f"{place}: it sends, but nothing decodable for {limit_s:g} s")
            asked_s = self._clock.monotonic_s()
        if not intact:
            raise NoVideo(f"{self.config.capture.place}: it ended without one decodable frame")

    def _nap(self, held: Held, pace: Pace | None, waited_s: float) -> None:
        """Let packets gather while a camera dozes: waking up for each costs more than all else that is done with it.

        Never while one lies there that came before (`waited_s` is short): we would fall behind.
        """
        if held.pts_s is None or self._nap_to_s - NAP_S <= held.pts_s < self._nap_to_s:
            return
        if pace is not None:
            self._nap_to_s = held.pts_s + NAP_S
            pace.wait(self._nap_to_s)
        elif waited_s >= _BLOCKED_S:
            self._nap_to_s = held.pts_s + NAP_S
            self._stop.wait(NAP_S)

    def _count(self, capture: Capture, item: Item, now_s: float) -> None:
        """Bring the snapshot up to date after one picture or packet."""
        intake = self._intake
        self._around.beat()
        picture = isinstance(item, Picture) and item.frame is not None
        news = isinstance(item, Held) or (isinstance(item, Picture) and picture and item.arrived_s is None)
        with self._lock:
            stats = self._stats
            if not isinstance(item, Held):
                skipped = MappingProxyType(dict(intake.skipped))
                stats = replace(stats, frames_in=intake.frames_in, kept=intake.kept, skipped=skipped)
            if picture:
                height, width = intake.picture_size
                info = replace(capture.info, height=height, width=width)
                stats = replace(stats, info=info, last_wall_s=intake.last_wall_s)
            if news:
                self._arrivals.append(now_s)
                alive_s = intake.last_wall_s if picture else self._clock.wall_s()
                stats = replace(stats, alive_wall_s=alive_s, last_monotonic_s=now_s)
            self._stats = stats
        if picture:
            self._announce_sight(now_s)

    def _announce_sight(self, now_s: float) -> None:
        """After an intact picture: the camera is online, and either shows something or says why not."""
        if self._stats.state != "online":
            self._online_s = now_s
            self._sight.restart()  # the time without pictures has a gap of its own
            self._announce("online", "frames", wall_s=self._intake.last_wall_s)
        elif (self._sight.state or "frames") != self._stats.reason:
            detail = f"pictures come, but they are {self._sight.state}" if self._sight.state else ""
            self._announce("online", self._sight.state or "frames", detail, self._sight.since_s)

    def _announce(self, state: State, reason: str, detail: str = "", wall_s: float | None = None) -> None:
        """Note a state, log it and tell the owner; the same state and reason again is no change. `wall_s`: not now."""
        wall_s = self._clock.wall_s() if wall_s is None else wall_s
        with self._lock:
            if (self._stats.state, self._stats.reason) == (state, reason):
                return
            self._stats = replace(self._stats, state=state, reason=reason, since_wall_s=wall_s)
        bad = (state == "offline" and reason not in _EXPECTED) or reason in BLIND
        log = self._log.warning if bad else self._log.info
        log("camera state", state=state, reason=reason, detail=detail)
        if self._on_state is not None:
            self._on_state(StateChange(self.config.camera, state, reason, wall_s, detail))
