"""Puts the standing questions in the engine's thread, after frames were absorbed and when no question of a user waits.

    changed(frames) --gate's score, age--> pending cameras --one forward each--> machines --> told
                                                | share of time used up, or a newer frame came first: missed

What a camera said holds until it is asked again; time alone (debounce, `for_s`) passes in `turn`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Protocol

import structlog

from daemon.metrics import Counters
from daemon.outlook import Outlook
from daemon.watch import machine
from daemon.watch.machine import State, Transition
from daemon.watch.spec import Reads, WatchingSettings, WatchSpec
from memory.bank import MemoryBank
from memory.view import MemoryView
from stream.types import NO_THUMBNAIL, Frame, Thumbnail

TICK_S = 0.2  # time passes for the machines in such steps
BURST_S = 1.0  # what can be spent at once after a quiet time
LOST_S = 60.0  # a camera that was not seen for this long says nothing any more
SAY_EVERY_S = 60.0


class Judges(Protocol):
    """See daemon.watch.judge.Judge."""

    def probabilities(self, view: MemoryView, questions: Sequence[Sequence[int]]) -> list[float]:
        """P(yes) of each question."""
        ...


@dataclass(frozen=True, slots=True)
class Picture:
    """What a camera showed when it became so."""

    camera: str
    wall_s: float
    thumbnail: Thumbnail = NO_THUMBNAIL


@dataclass(slots=True)
class Watch:
    """One standing question as it stands. Written in the engine's thread, read in any."""

    spec: WatchSpec
    ids: Sequence[int]
    state: State = field(default_factory=State)
    put: bool = False  # by its schedule, now
    evaluated_s: float | None = None
    missed: int = 0  # moments that could not be evaluated in time
    pictures: dict[str, Picture] = field(default_factory=dict)  # of cameras that say so
    shown: tuple[Picture, ...] = ()  # of the open event


@dataclass(frozen=True, slots=True)
class Told:
    """A transition and what is needed to publish it. `shown`: the event's pictures, of which `fresh` are new."""

    name: str
    watch: Watch
    transition: Transition
    shown: tuple[Picture, ...]
    fresh: tuple[Picture, ...]


@dataclass(slots=True)
class _Pending:
    wall_s: float
    picture: Picture


class Watchman:
    """See the module. Everything but `watches` belongs to the engine's thread (`Engine.call`)."""

    def __init__(  # noqa: PLR0913
        self,
        judge: Judges,
        ids: Callable[[str], Sequence[int]],
        settings: WatchingSettings,
        outlook: Outlook,
        counters: Counters,
        tell: Callable[[Told], None],
        zone: tzinfo | None = None,
    ) -> None:
        self._judge, self._ids, self.settings, self.zone = judge, ids, settings, zone
        self._outlook, self._counters, self._tell = outlook, counters, tell
        self.watches: Mapping[str, Watch] = {}
        self._pending: dict[str, _Pending] = {}
        self._looked: dict[str, tuple[float, Picture]] = {}  # camera -> when it was last asked, and what it showed
        self._credit_s, self._counted_s = BURST_S, outlook.clock.monotonic_s()
        self._ticked_s = 0.0
        self._missed, self._said, self._said_s = 0, 0, 0.0
        self._log = structlog.get_logger("longwatch.watch")

    # -- which questions ---------------------------------------------------------------------------------------------

    def exchange(self, specs: Mapping[str, WatchSpec], states: Mapping[str, State] | None = None) -> None:
        """From now on these are the questions. What is unchanged goes on; of the others an open event ends.

        `states`: how questions that are new here were left, e.g. before a restart.
        """
        now_s = self._outlook.clock.wall_s()
        for name, watch in self.watches.items():
            if specs.get(name) != watch.spec:
                self._close(name, watch, now_s, "changed" if name in specs else "removed")
        kept: dict[str, Watch] = {}
        for name, spec in specs.items():
            old = self.watches.get(name)
            if old is not None and old.spec == spec:
                kept[name] = old
            else:
                kept[name] = Watch(spec, self._ids(spec.question), (states or {}).get(name, State()))
        fresh = kept.keys() - self.watches.keys() or any(kept[name] is not self.watches[name] for name in kept)
        self.watches = kept
        for camera in self._looked if fresh else ():
            self._again(camera)

    # -- frames ------------------------------------------------------------------------------------------------------

    def changed(self, frames: Sequence[Frame]) -> None:
        """These frames were absorbed."""
        for frame in frames:
            looked = self._looked.get(frame.camera)
            fresh = looked is not None and frame.wall_s - looked[0] < self.settings.max_age_s
            if fresh and frame.score < self.settings.least_score:
                self._counters.count("watch_unchanged")
                continue
            if frame.camera in self._pending:
                self._miss(frame.camera)
            self._pending[frame.camera] = _Pending(frame.wall_s, Picture(frame.camera, frame.wall_s, frame.thumbnail))

    @property
    def due(self) -> bool:
        """Whether there is something to compute, and time for it."""
        return bool(self._pending and self.watches) and self._affords()

    def turn(self, banks: Mapping[str, MemoryBank]) -> None:
        """One camera's questions at most, and the time."""
        if not self.watches:
            self._pending.clear()
            return
        now_s = self._outlook.clock.wall_s()
        self._age(banks, now_s)
        if self._pending and self._affords():
            oldest = min(self._pending, key=lambda name: self._looked[name][0] if name in self._looked else 0.0)
            pending, bank = self._pending.pop(oldest), banks.get(oldest)
            began_s = self._outlook.clock.monotonic_s()
            try:
                if bank is not None:
                    self._look(oldest, pending, bank)
            except Exception:  # noqa: BLE001 - a look's top: the next frame is looked at again
                self._counters.count("watch_faults")
                self._log.exception("standing questions could not be evaluated", camera=oldest)
            self._credit_s -= self._outlook.clock.monotonic_s() - began_s
        if abs(now_s - self._ticked_s) >= TICK_S:
            self._ticked_s = now_s
            self._tick(banks, now_s)

    def _affords(self) -> bool:
        """Whether the share of time has room."""
        share, now_s = self.settings.share, self._outlook.clock.monotonic_s()
        self._credit_s = min(BURST_S, self._credit_s + share * (now_s - self._counted_s))
        self._counted_s = now_s
        return share >= 1 or self._credit_s > 0

    def _age(self, banks: Mapping[str, MemoryBank], now_s: float) -> None:
        """A camera whose last look is too old is due without a new frame: it may be longer so than memory knew."""
        for camera, (looked_s, _) in self._looked.items():
            if camera in banks and now_s - looked_s >= self.settings.max_age_s:
                self._again(camera)

    def _again(self, camera: str) -> None:
        """Look without a new frame, if the camera was seen since."""
        looked_s, picture = self._looked[camera]
        newest_s = self._outlook.newest_s(camera)
        if camera not in self._pending and newest_s is not None and newest_s >= looked_s:
            self._pending[camera] = _Pending(newest_s, Picture(camera, newest_s, picture.thumbnail))

    def _look(self, camera: str, pending: _Pending, bank: MemoryBank) -> None:
        """All questions that are due; those that read the same over one fork, in one forward."""
        now_s = pending.wall_s
        due = {
            name: watch
            for name, watch in self.watches.items()
            if watch.spec.on(camera) and watch.spec.at(now_s, self.zone)
        }
        self._looked[camera] = (now_s, pending.picture)
        if not due or not len(bank):
            return
        began_s = self._outlook.clock.monotonic_s()
        found = self._judged(due, bank)
        self._counters.observe("watch_ms", 1000 * (self._outlook.clock.monotonic_s() - began_s))
        self._counters.count("watch_evaluated", len(due))
        for name, probability in found.items():
            watch = due[name]
            watch.put, watch.evaluated_s = True, now_s
            was = watch.state.readings.get(camera)
            at_s = max(now_s, min(watch.state.now_s, self._outlook.clock.wall_s()))  # a late look is no clock set back
            watch.state, told = machine.step(name, watch.spec, watch.state, at_s, {camera: probability})
            if watch.state.readings[camera].so and not (was is not None and was.so):
                watch.pictures[camera] = pending.picture
            self._say(name, watch, told)
            if not watch.state.readings[camera].so:
                watch.pictures.pop(camera, None)

    def _judged(self, due: Mapping[str, Watch], bank: MemoryBank) -> dict[str, float]:
        """P(yes) by name. What has passed misleads a question about now: each reads as much as it says, no more."""
        by_reads: dict[Reads, list[str]] = {}
        for name, watch in due.items():
            by_reads.setdefault(watch.spec.reads, []).append(name)
        found: dict[str, float] = {}
        for reads, names in by_reads.items():
            newest = {"now": 1, "recent": bank.policy.budget.detail_frames or 1, "memory": None}[reads]
            view = bank.fork(now_s=self._outlook.clock.wall_s(), newest=newest)
            found |= zip(names, self._judge.probabilities(view, [due[name].ids for name in names]), strict=True)
        return found

    def _miss(self, camera: str) -> None:
        """A newer frame came before the last one was evaluated."""
        hit = [watch for watch in self.watches.values() if watch.put and watch.spec.on(camera)]
        for watch in hit:
            watch.missed += 1
        self._missed += len(hit)
        self._counters.count("watch_missed", len(hit))
        now_s = self._outlook.clock.monotonic_s()
        if self._missed > self._said and now_s - self._said_s >= SAY_EVERY_S:
            self._log.warning(
                "standing questions could not be evaluated for every frame",
                missed=self._missed - self._said,
                hint="raise watching.share, watch fewer cameras with them, or ask fewer",
            )
            self._said, self._said_s = self._missed, now_s

    # -- time --------------------------------------------------------------------------------------------------------

    def _tick(self, banks: Mapping[str, MemoryBank], now_s: float) -> None:
        lost = {camera for camera in self._looked if camera not in banks or self._unseen(camera, now_s)}
        for name, watch in self.watches.items():
            put = watch.spec.at(now_s, self.zone)
            if not put:
                self._close(name, watch, now_s, "schedule" if watch.spec.enabled else "disabled")
                continue
            watch.put = True
            for camera in [camera for camera in watch.state.readings if camera not in banks or camera in lost]:
                watch.state, told = machine.lose(name, watch.spec, watch.state, now_s, camera)
                watch.pictures.pop(camera, None)
                self._say(name, watch, told)
            if not any(watch.spec.on(camera) for camera in self._pending):  # else what it says may be over
                watch.state, told = machine.step(name, watch.spec, watch.state, now_s, {})
                self._say(name, watch, told)

    def _unseen(self, camera: str, now_s: float) -> bool:
        newest_s = self._outlook.newest_s(camera)
        return newest_s is None or now_s - newest_s > LOST_S

    def _close(self, name: str, watch: Watch, now_s: float, reason: str) -> None:
        if watch.put or watch.state.on or watch.state.readings:
            watch.state, told = machine.close(watch.state, now_s, reason)
            watch.put = False
            watch.pictures.clear()
            self._say(name, watch, told)

    # -- out ---------------------------------------------------------------------------------------------------------

    def _say(self, name: str, watch: Watch, told: Sequence[Transition]) -> None:
        for item in told:
            if item.type == "new":
                watch.shown = ()
            have = {picture.camera for picture in watch.shown}
            seen = [camera for camera in item.after.cameras if camera in watch.pictures and camera not in have]
            fresh = tuple(watch.pictures[camera] for camera in seen)
            watch.shown += fresh
            self._counters.count("watch_events", type=item.type)
            self._tell(Told(name, watch, item, watch.shown, fresh))

    def forget(self, camera: str | None, since_s: float, until_s: float) -> None:
        """Pictures of an erased time go."""

        def erased(picture: Picture) -> bool:
            return camera in (None, picture.camera) and since_s <= picture.wall_s <= until_s

        for watch in self.watches.values():
            watch.pictures = {name: item for name, item in watch.pictures.items() if not erased(item)}
            watch.shown = tuple(item for item in watch.shown if not erased(item))
        for name, (looked_s, picture) in self._looked.items():
            if erased(picture):
                self._looked[name] = looked_s, Picture(name, picture.wall_s)
        for name, pending in self._pending.items():
            if erased(pending.picture):
                pending.picture = Picture(name, pending.wall_s)
