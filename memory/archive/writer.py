"""The writer's thread: commits what waits in batches, keeps the house in between, and outlives every fault.

    inbox -> encode -> commit -> pools, checkpoint, erasures, salvage -> inbox -> ...

A fault (disk full, read-only, locked, ...) keeps the batch, announces the state once and tries again. A file that is
damaged or not ours is set aside and a new one begun, into which a damaged one's readable rows are brought over.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from memory.archive import erase, schema
from memory.archive.encoder import Encoder
from memory.archive.erase import Erasure
from memory.archive.inbox import Inbox, Taken
from memory.archive.salvage import Salvage, begin, resume
from memory.archive.store import Change, Store
from memory.archive.types import ArchiveError, ArchiveState, Erased, Fault, Setup

LOG_BYTES = 4 << 20  # checkpoint above
POLL_S = 1.0
_FAULTS = (sqlite3.OperationalError, OSError, ArchiveError)  # of the world; and a DatabaseError that is just that
PRUNE_S = 60.0  # age, when nothing comes
HOUSE_S = 0.05  # at most, before the inbox is looked at again
ASIDE_S = 60.0  # a file that breaks again so soon is not the file's fault
ERASE_RETRY_S = 30.0
TIMES = 1_000


class Writer:
    """One file, one thread. `inbox` is filled by others."""

    def __init__(self, path: Path, setup: Setup) -> None:
        self._path, self._setup = path, setup
        self.inbox = Inbox(setup.queue, setup.batch, setup.commit_every_s)
        self._asked: deque[tuple[str | None, float | None, float | None, Future[Erased]]] = deque()
        self._futures: dict[int, Future[Erased]] = {}
        self._encoder = Encoder(setup)
        self._store: Store | None = None
        self._salvage: Salvage | None = None
        self._inode = (0, 0)
        self._aside_s = -ASIDE_S
        self._next_poll_s = self._next_prune_s = self._next_erase_s = 0.0
        self._lock = threading.Lock()
        self._ended = False
        self._state = ArchiveState()
        self._times: deque[float] = deque(maxlen=TIMES)
        self._thread = threading.Thread(target=self._run, name="archive", daemon=True)

    def start(self) -> None:
        """Open the file, if that is possible now, and begin."""
        try:
            self._open()
        except (sqlite3.Error, OSError, ArchiveError) as error:
            self._trouble(error)
        self._thread.start()

    def join(self, timeout_s: float) -> bool:
        """Whether the thread has ended after a stop."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def forget(self, camera: str | None, since_s: float | None, until_s: float | None) -> Future[Erased]:
        """See `Archive.forget`."""
        future: Future[Erased] = Future()
        with self._lock:
            if not self._ended:
                self._asked.append((camera, since_s, until_s, future))
                self.inbox.wake()
                return future
        future.set_exception(ArchiveError("archive: it is closed; nothing was erased", "closed"))
        return future

    def state(self) -> ArchiveState:
        """A copy of all counts."""
        with self._lock:
            times, state = sorted(self._times), self._state
        at = [times[int(share * (len(times) - 1))] if times else 0.0 for share in (0.5, 0.99)]
        encoder = self._encoder
        return replace(
            state,
            queued=len(self.inbox),
            dropped=state.dropped + self.inbox.dropped,
            broken=state.broken + encoder.broken,
            unreadable_jpegs=encoder.unreadable_jpegs,
            commit_ms_p50=at[0],
            commit_ms_p99=at[1],
        )

    def _run(self) -> None:
        taken: Taken | None = None
        changes: Sequence[Change] = ()
        busy = False
        while True:
            if taken is None:
                taken = self.inbox.take(0.0 if busy else POLL_S)
                changes = self._encoder.prepare(taken)
            last = self.inbox.stopped and len(self.inbox) == 0
            try:
                if self._store is None:
                    self._open()
                self._commit(taken, changes)
                taken = None
                self._recovered()
                if last:
                    break
                busy = self._keep_house()
            except Exception as error:  # noqa: BLE001 - the thread's top: announced, and tried again
                problem = error
                if taken is not None and not (isinstance(problem, _FAULTS) or type(problem) is sqlite3.DatabaseError):
                    self._give_up(taken)
                    taken = None
                self._trouble(problem)
                if self.inbox.stopped:
                    break
                self.inbox.pause(self._setup.retry_s)
        self._close()
        with self._lock:
            self._ended = True
        self._fail_futures(ArchiveError("archive: it was closed before the range was erased", "closed"))

    def _open(self) -> None:
        """Raises sqlite3.Error, OSError or ArchiveError; a file that cannot be used is set aside first."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            db = schema.open_file(self._path, self._setup)
        except (sqlite3.DatabaseError, ArchiveError) as error:
            reason = error.reason if isinstance(error, ArchiveError) else schema.reason_of(error)
            if reason not in ("corrupt", "not_ours", "newer", "other_model"):
                raise
            self._replace_file(str(error), None if reason == "corrupt" else 1)
            db = schema.open_file(self._path, self._setup)
        self._salvage, first_id = resume(db, self._path)
        self._store = Store(db, self._setup, first_id)
        self._encoder.use(self._store)
        found = self._path.stat()
        self._inode = (found.st_dev, found.st_ino)
        self._note(bytes=self._store.bytes)

    def _recovered(self) -> None:
        """After a fault the file counts as well when something was written to it."""
        if self._state.ok:
            return
        assert self._store is not None
        self._store.db.execute("INSERT OR REPLACE INTO meta VALUES('recovered_s', ?)", (self._setup.clock.wall_s(),))
        self._announce(Fault(True, "", f"{self._path}: written again"))

    def _replace_file(self, why: str, first_id: int | None) -> None:
        """Set the file aside; `first_id` None: bring over what can be read."""
        now_s = time.monotonic()
        if now_s - self._aside_s < ASIDE_S:
            raise ArchiveError(f"{why}; again so soon that another new file would not help", "corrupt")
        self._aside_s = now_s
        known = self._store.next_id if self._store is not None else None
        self._close()
        aside = schema.set_aside(self._path, self._setup.clock.wall_s())
        self._announce(Fault(True, "set_aside", f"{self._path} cannot be used ({why}); set aside as {aside.name}"))
        if first_id is None:
            db = schema.open_file(self._path, self._setup)
            begin(db, aside, known)
            db.close()

    def _commit(self, taken: Taken, changes: Sequence[Change]) -> None:
        if taken:
            assert self._store is not None
            start_s = time.perf_counter()
            wrote = self._store.write(changes, self._setup.clock.wall_s())
            took_ms = 1e3 * (time.perf_counter() - start_s)
            self._times.append(took_ms)
            state = self._state
            self._note(
                commit_ms_last=took_ms,
                written=state.written + wrote.rows,
                pruned=state.pruned + wrote.pruned,
                dropped=state.dropped + wrote.refused,
                bytes=self._store.bytes,
            )
        self.inbox.done(taken)

    def _keep_house(self) -> bool:
        """Everything that may wait for a quiet moment; whether there is more of it."""
        assert self._store is not None
        until_s = time.monotonic() + HOUSE_S
        more = self._settle()
        while more and len(self.inbox) == 0 and time.monotonic() < until_s:
            more = self._settle()
        if self._salvage is not None:
            self._bring_over(self._salvage)
            more = True
        self._checkpoint()
        now_s = time.monotonic()
        if self._asked or now_s >= self._next_poll_s:
            self._next_poll_s = now_s + POLL_S
            self._poll(now_s)
        return more

    def _settle(self) -> bool:
        assert self._store is not None
        more, pruned = self._store.settle()
        if pruned:
            self._note(pruned=self._state.pruned + pruned, bytes=self._store.bytes)
        return more

    def _poll(self, now_s: float) -> None:
        assert self._store is not None
        found = self._path.stat()
        if (found.st_dev, found.st_ino) != self._inode:
            raise ArchiveError(f"{self._path} was replaced by another file", "cannot_open")
        while self._asked:
            camera, since_s, until_s, future = self._asked.popleft()
            until_s = erase.newest_s(self._store.db, self._setup.clock.wall_s()) if until_s is None else until_s
            asked_s = self._setup.clock.wall_s()
            self._futures[erase.request(self._store.db, asked_s, camera, since_s or 0.0, until_s)] = future
            self._next_erase_s = 0.0
        if now_s >= self._next_erase_s:
            for what in erase.pending(self._store.db):
                self._try_forget(what)
        if now_s >= self._next_prune_s:
            self._next_prune_s = now_s + PRUNE_S
            wrote = self._store.write((), self._setup.clock.wall_s())
            self._note(pruned=self._state.pruned + wrote.pruned, bytes=self._store.bytes)

    def _try_forget(self, what: Erasure) -> None:
        """A failure is announced and tried again later; meanwhile frames go on being written."""
        future = self._futures.pop(what.id, None)
        try:
            found = self._forget(what)
        except Exception as error:
            if isinstance(error, sqlite3.Error | OSError):
                if future is not None:
                    self._futures[what.id] = future
                raise
            problem = error  # of `on_forget`, or a reader that holds the log
            self._next_erase_s = time.monotonic() + ERASE_RETRY_S
            self._announce(Fault(True, "erase_failed", f"a range is not erased yet: {problem}; tried again"))
            if future is not None:
                future.set_exception(problem)
        else:
            if future is not None:
                future.set_result(found)

    def _forget(self, what: Erasure) -> Erased:
        """Memory first, then what waits is written, then the file loses it all."""
        assert self._store is not None
        self._setup.on_forget(what.camera, what.since_s, what.until_s)
        self._commit_waiting()
        rows, trimmed = erase.erase_rows(self._store, what, self._commit_waiting)
        erase.empty_log(self._store.db)
        self._close()
        try:
            erase.scrub_file(self._path)
        finally:
            self._open()
        erase.finish(self._store.db, what.id, self._setup.clock.wall_s(), rows)
        self._note(bytes=self._store.bytes)
        return Erased(rows, trimmed, tuple(item.name for item in schema.aside_files(self._path)))

    def _commit_waiting(self) -> None:
        while taken := self.inbox.take_now():
            self._commit(taken, self._encoder.prepare(taken))

    def _bring_over(self, salvage: Salvage) -> None:
        assert self._store is not None
        found = salvage.step(self._store.db)
        if found is None:
            self._announce(Fault(True, "salvaged", f"{salvage.saved} carriers brought over from {salvage.path.name}"))
            salvage.close()
            salvage.finish(self._store.db)
            self._salvage = None
            return
        wrote = self._store.write(found, self._setup.clock.wall_s())
        salvage.keep_place(self._store.db)
        self._note(salvaged=self._state.salvaged + wrote.rows, bytes=self._store.bytes)

    def _checkpoint(self) -> None:
        assert self._store is not None
        with suppress(FileNotFoundError):
            if self._path.with_name(self._path.name + "-wal").stat().st_size > LOG_BYTES:
                start_s = time.perf_counter()
                self._store.db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                took_ms = 1e3 * (time.perf_counter() - start_s)
                self._note(checkpoint_ms_max=max(self._state.checkpoint_ms_max, took_ms))

    def _trouble(self, error: Exception) -> None:
        """Say it once; a damaged file is replaced, anything else is tried again with a fresh connection."""
        reason = error.reason if isinstance(error, ArchiveError) else schema.reason_of(_as_io(error))
        if reason == "cannot_open" and self._path.parent.is_dir() and not schema.writable(self._path):
            reason = "read_only"
        if reason in ("corrupt", "not_ours") and self._store is not None:
            try:
                self._replace_file(str(error), None)
            except (sqlite3.Error, OSError, ArchiveError) as worse:
                self._announce(Fault(False, "corrupt", f"{self._path}: {error}; it cannot be set aside: {worse}"))
            return
        self._close()
        self._fail_futures(ArchiveError(f"{self._path}: {error}; the range is erased when it can be written", reason))
        self._announce(Fault(False, reason, f"{self._path}: {error}"))

    def _announce(self, fault: Fault) -> None:
        event = fault.ok and fault.reason != ""
        if event or (fault.ok, fault.reason) != (self._state.ok, self._state.reason):
            if not event:
                self._note(ok=fault.ok, reason=fault.reason)
            self._setup.on_fault(fault)

    def _note(self, **values: float | int | bool | str) -> None:
        with self._lock:
            self._state = replace(self._state, **values)  # type: ignore[arg-type]

    def _give_up(self, taken: Taken) -> None:
        """The batch itself is refused by the database: written again it would be refused again."""
        self._note(broken=self._state.broken + len(taken.entries))
        self.inbox.done(taken)

    def _fail_futures(self, error: ArchiveError) -> None:
        waiting = [*self._futures.values(), *(future for _, _, _, future in self._asked)]
        self._futures.clear()
        self._asked.clear()
        for future in waiting:
            future.set_exception(error)

    def _close(self) -> None:
        if self._salvage is not None:
            self._salvage.close()
            self._salvage = None
        if self._store is not None:
            with suppress(sqlite3.Error):
                self._store.db.close()
            self._store = None


def _as_io(error: Exception) -> sqlite3.Error | OSError:
    return error if isinstance(error, sqlite3.Error | OSError) else OSError(str(error))
