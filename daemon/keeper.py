"""What outlives the process: the archive, the banks' snapshots, the gaps; all in one folder, held by one daemon.

    engine --absorbed--> archive                     writer thread of its own
    engine --state, every minute and at the end--> banks/<camera>.bank
    start:  snapshot, then the archive's carriers after it --> bank; gaps; the next frame's number

Whatever the disk does, the daemon goes on watching and answering from its banks: a fault is said once and counted.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from daemon.core import Core
from daemon.engine import Engine
from daemon.filing import filed, setup, unfiled
from daemon.gaps import GapLog
from daemon.messages import Gap
from daemon.metrics import Counters
from daemon.settings import Settings
from memory import snapshot
from memory.archive import Archive, ArchiveState, Erased, Fault, Line, Outage, Reader, salvage
from memory.archive.types import OnForget
from memory.bank import MemoryBank
from stream.clock import SystemClock
from stream.errors import ConfigError, SnapshotError
from stream.types import Carrier

REPLAYED = 8  # times the bank's size: archived carriers that are replayed into a bank without a snapshot
ERASED, RESTART = "erased", "restart"  # reasons of gaps
LOADED_GAPS = 1000
READY_S = 120.0  # at most, until the cameras are set up and an erasure can reach their banks
ENGINE_S = 120.0
UNREAD_FRAMES = 1 << 20  # numbers left free where a damaged archive may hold frames that cannot be seen yet


@dataclass(frozen=True, slots=True)
class Kept:
    """A camera as it was left."""

    bank: MemoryBank
    next_frame: int
    last_s: float | None  # until when it was watched, as far as is known; None: never


class Keeper:
    """See the module. Implements `daemon.engine.Keep`. With `archive.enabled: false` it keeps nothing."""

    def __init__(self, settings: Settings, core: Core, gaps: GapLog, counters: Counters) -> None:
        self._core, self._gaps, self._counters = core, gaps, counters
        self._settings, self._clock = settings, SystemClock()
        self._log = structlog.get_logger("longwatch.keeper")
        self._folder = settings.archive_folder() if settings.archive.enabled else None
        self._lock_file: int | None = None
        self._archive: Archive | None = None
        self._reader: Reader | None = None
        self._engine: Engine | None = None
        self._erased: OnForget | None = None
        self._ready = threading.Event()
        self._saving = threading.Lock()  # from taking a state to having it on disk: an erasure must not overtake it
        self._readers: list[Reader] = []
        self._unreadable = 0  # reads that failed, of all readers, as far as it was said
        self._replaced = False  # the archive was set aside: what it holds is brought over, if at all, bit by bit
        self._unsavable: set[str] = set()
        self._failed: dict[str, str] = {}  # camera -> why its bank could not be saved last time

    # -- life ------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Take the folder and begin to write. Raises ConfigError when another daemon has it; no other fault does."""
        if self._folder is None:
            return
        try:
            self._take(self._folder)
        except OSError as error:
            self._counters.count("archive_faults")
            self._log.error(
                "nothing can be kept: memory will not survive a restart",
                folder=str(self._folder),
                reason=error.strerror,
            )
        self._archive = Archive.open(
            self._folder / "archive.sqlite",
            replace(setup(self._core.model, self._settings.archive), on_fault=self._fault, on_forget=self._forget),
        )
        self._reader = self.reader()

    def attach(self, engine: Engine, erased: OnForget) -> None:
        """From now on erasures reach the banks of `engine`, and `erased` is told; `save` asks for their state."""
        self._engine, self._erased = engine, erased
        self._ready.set()

    def close(self) -> None:
        """Save every bank, commit what waits, let go of the folder. The engine has ended."""
        self.save()
        self._ready.set()
        for reader in self._readers:  # before the archive: whoever closes last empties the log, which only it can
            reader.close()
        if self._archive is not None and not self._archive.close():
            waiting = self._archive.state().queued
            self._log.error("the archive did not finish in time; carriers that waited are lost", waiting=waiting)
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    def reader(self) -> Reader | None:
        """A reading side of the archive for one more thread; None where there is none."""
        if self._archive is None:
            return None
        self._readers.append(self._archive.reader())
        return self._readers[-1]

    def state(self) -> ArchiveState | None:
        """How the archive is doing; None where there is none."""
        return self._archive.state() if self._archive is not None else None

    def look(self) -> None:
        """Say it when something in the archive cannot be read. Any thread, every now and then."""
        found = sum(reader.faults + reader.broken for reader in self._readers)
        if found > self._unreadable:
            self._counters.count("archive_unreadable", found - self._unreadable)
            if not self._unreadable:  # every question about that time would say it again
                why = next((reader.last_fault for reader in self._readers if reader.last_fault), "a checksum is wrong")
                self._log.error("parts of the archive cannot be read; answers leave them out", reason=why)
            self._unreadable = found

    # -- start -----------------------------------------------------------------------------------------------------

    def restore(self, camera: str) -> Kept:
        """`camera`'s bank as it was saved, and what was archived since; an empty one where there is nothing.

        What cannot be used is said and set aside. Takes milliseconds, some hundred for a large model.
        """
        bank = self._core.bank(camera)
        if self._folder is None or self._reader is None:
            return Kept(bank, 0, None)
        bank = self._load(camera, bank)
        reader, size = self._reader, bank.policy.budget.carriers
        known, faults = bank.newest_frame, reader.faults
        for entry in reader.tail(camera, known, REPLAYED * size):
            bank.add(unfiled(entry, bank))
        bank.seal()
        newest = reader.newest(camera)
        frames = [bank.newest_frame, *([newest.frame] if newest else [])]
        ends = [item for item in (bank.newest_last_s, newest.span.last_s if newest else None) if item is not None]
        last_s = max(ends, default=None)
        for outage in reader.outages(camera, None, None)[-LOADED_GAPS:]:
            self._know(Gap(outage.camera, outage.since_s, outage.until_s, outage.reason))
        if last_s is not None:
            now_s = self._clock.wall_s()
            if last_s > now_s:
                self._counters.count("clock_jumps")
                self._log.warning(
                    "the clock is behind what memory holds: was it set back?",
                    camera=camera,
                    behind_s=round(last_s - now_s, 1),
                )
            elif not self._gaps.reason(camera):
                self._gaps.down(camera, last_s, RESTART)
            self._log.info(
                "memory restored",
                camera=camera,
                carriers=len(bank),
                model=bank.geometry.name,
                from_archive=sum(frame > known for frame in bank.frames),
                ended_s_ago=round(now_s - last_s, 1),
            )
        self.look()
        hidden = self._replaced or reader.faults > faults or salvage.underway(reader)
        reader.rest()
        return Kept(bank, max(frames) + 1 + (UNREAD_FRAMES if hidden else 0), last_s)

    def _load(self, camera: str, bank: MemoryBank) -> MemoryBank:
        path = self._path(camera)
        try:
            bank.restore(self._grown(snapshot.load(path, self._core.model.identity)))
        except SnapshotError as error:
            if error.reason == "missing":
                return bank
            self._counters.count("snapshot_faults")
            try:
                aside = snapshot.set_aside(path, self._clock.wall_s())
                self._log.error(
                    "a saved bank cannot be used and was set aside", camera=camera, reason=str(error), now=aside.name
                )
            except SnapshotError as stuck:
                self._unsavable.add(camera)  # saving would overwrite what was never read
                self._log.error(
                    "a saved bank cannot be used, nor set aside; this camera's bank will not be saved",
                    camera=camera,
                    reason=f"{error}; {stuck}",
                )
            return self._core.bank(camera)
        return bank

    def _grown(self, state: snapshot.State) -> snapshot.State:
        """With the newest span as long as the archive knows: it went on growing after it was saved."""
        if self._reader is None or not state.frames or state.frames[-1] != state.newest_frame:
            return state
        span = state.spans[-1]
        rows = self._reader.rows(state.camera, span.last_s, span.last_s)
        last_s = max([span.last_s, *(row.span.last_s for row in rows if row.frame == state.newest_frame)])
        return replace(state, spans=(*state.spans[:-1], replace(span, last_s=last_s)))

    # -- while it runs ---------------------------------------------------------------------------------------------

    def absorbed(self, carrier: Carrier, score: float) -> None:
        """See Keep: into the archive."""
        if self._archive is not None:
            self._archive.put(filed(carrier, score))

    def grew(self, camera: str, frame: int, last_s: float) -> None:
        """See Keep."""
        if self._archive is not None:
            self._archive.extend(camera, frame, last_s)

    def gap(self, gap: Gap) -> None:
        """A gap began, ended, or got another reason. Any thread."""
        if self._archive is not None:
            self._archive.note_gap(Outage(gap.camera, gap.since_s, gap.until_s, gap.reason))

    def tell(self, line: Line) -> bool:
        """A line of the diary; False: it is not kept."""
        return self._archive is not None and self._archive.tell(line)

    def save(self) -> None:
        """Every bank to its file. Blocks: not for the event loop. Never raises."""
        if self._folder is None or self._engine is None:
            return
        with self._saving:
            try:
                states = self._ask(lambda _bank: None)
            except TimeoutError:
                self._counters.count("snapshot_faults")
                self._log.error("banks not saved: the engine is busy with something else", waited_s=ENGINE_S)
                return
            self._write(states)

    def _write(self, states: Sequence[snapshot.State]) -> None:
        for state in states:
            if state.camera in self._unsavable:
                continue
            fault = ""
            try:
                snapshot.save(state, self._path(state.camera), self._core.model.identity)
            except SnapshotError as error:
                fault = str(error)
                self._counters.count("snapshot_faults")
            if fault != self._failed.get(state.camera, ""):
                self._failed[state.camera] = fault
                say = self._log.error if fault else self._log.info
                say("bank not saved" if fault else "banks are saved again", camera=state.camera, reason=fault)

    def _ask(self, change: Callable[[MemoryBank], object], camera: str | None = None) -> list[snapshot.State]:
        """In the engine's thread: `change` the bank of `camera` (None: of all) and take the states of all."""
        engine = self._engine
        assert engine is not None, "attach() comes first"
        now_s = self._clock.wall_s()

        def work() -> list[snapshot.State]:
            states = []
            for name, item in engine.cameras.items():
                if camera in (None, name):
                    change(item.bank)
                if item.bank.newest_last_s is not None:
                    self.grew(name, item.bank.newest_frame, item.bank.newest_last_s)
                states.append(item.bank.state(now_s))
            return states

        return engine.call(work).result(ENGINE_S)

    # -- erasing ---------------------------------------------------------------------------------------------------

    def forget(self, camera: str | None, since_s: float, until_s: float) -> Future[Erased]:
        """Erase for good, see `Archive.forget`; where there is no archive, what memory holds. Never cancel it."""
        if self._archive is not None:
            return self._archive.forget(camera, since_s, until_s)
        done: Future[Erased] = Future()

        def work() -> None:
            try:
                self._forget(camera, since_s, until_s)
            except (SnapshotError, TimeoutError) as error:
                done.set_exception(error)
            else:
                done.set_result(Erased(0, 0))

        threading.Thread(target=work, name="forget", daemon=True).start()
        return done

    def _forget(self, camera: str | None, since_s: float, until_s: float) -> None:
        """What memory and snapshots hold of a range. In the archive's thread, before it erases its own."""
        if not self._ready.wait(READY_S) or self._engine is None:
            raise SnapshotError("cameras are not set up yet; the erasure is tried again", "unreadable")
        with self._saving:
            states = self._ask(lambda bank: bank.forget(since_s, until_s), camera)
            self._engine.call(self._core.encoder.forget).result(ENGINE_S)
            touched = [state for state in states if camera in (None, state.camera)]
            if self._folder is not None:
                self._write(touched)
            stale = {name for name in self._unsavable if self._path(name).exists()}
            stale |= {name for name, fault in self._failed.items() if fault}
            if failed := sorted(stale & {state.camera for state in touched}):
                text = f"banks of {', '.join(failed)} cannot be saved: their old files still hold what is to be erased"
                raise SnapshotError(f"{text}; it is tried again", "unwritable")
            live = {state.camera for state in states}
            for path in sorted((self._folder / "banks").glob("*.bank")) if self._folder is not None else ():
                if path.stem not in live and camera in (None, path.stem):
                    snapshot.scrub(path, since_s, until_s)
        if self._erased is not None:
            self._erased(camera, since_s, until_s)
        for name in [camera] if camera is not None else sorted(live):
            self._know(Gap(name, since_s, min(until_s, self._clock.wall_s()), ERASED))
        self._log.info("erased", camera=camera or "all", since_s=since_s, until_s=until_s)

    def _know(self, gap: Gap) -> None:
        """Once: a camera may come back into the configuration, and an erasure may be tried again."""
        if gap not in self._gaps.between(gap.camera, gap.since_s, gap.since_s):
            self._gaps.load(gap)

    # -- parts -----------------------------------------------------------------------------------------------------

    def _take(self, folder: Path) -> None:
        """Make the folder ours. Raises ConfigError or OSError."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # pictures of people: nobody else's to read
        (folder / "banks").mkdir(exist_ok=True, mode=0o700)
        self._lock_file = lock(folder)

    def _take_late(self) -> None:
        """At the start the disk could not be written; `longwatch forget` must know that a daemon runs."""
        assert self._folder is not None
        try:
            self._take(self._folder)
        except ConfigError as error:
            self._log.error("another process writes into our folder", reason=str(error))
        except OSError:
            return  # still so: said at the start

    def _fault(self, fault: Fault) -> None:
        """In the archive's thread: say it."""
        self._replaced = self._replaced or fault.reason == "set_aside"
        if fault.ok:
            if self._lock_file is None:
                self._take_late()
            self._log.warning("archive", state=fault.reason or "ok", detail=fault.detail)
            return
        self._counters.count("archive_faults")
        self._log.error(
            "the archive cannot be written; watching and answering go on", state=fault.reason, detail=fault.detail
        )

    def _path(self, camera: str) -> Path:
        assert self._folder is not None
        return self._folder / "banks" / f"{camera}.bank"


def lock(folder: Path) -> int:
    """A file descriptor that holds `folder` until it is closed, or this process ends however.

    Raises ConfigError when another process has it, OSError when it cannot be written.
    """
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ConfigError(
            f"archive.folder: another longwatch uses {folder}; stop it, or give each a folder of its own"
        ) from None
    return descriptor
