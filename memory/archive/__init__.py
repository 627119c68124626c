"""Every carrier that was ever absorbed, on disk: searchable, restartable, within quotas, and erasable for good.

    engine --put--> inbox --> writer thread --> archive.sqlite <-- Reader <-- recall
                    (bounded)  (batches)        (one file, WAL)    (one per thread)

`Archive` writes and never raises or blocks; `Reader` reads and never writes.
Why SQLite: `docs/decisions/0009-archive.md`.
"""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path

from memory.archive.layout import predicted_bytes
from memory.archive.reader import Reader
from memory.archive.types import (
    ArchiveError,
    ArchiveState,
    Entry,
    Erased,
    Fault,
    Line,
    Outage,
    Quota,
    Row,
    Setup,
    Shape,
)
from memory.archive.writer import Writer

__all__ = [
    "Archive",
    "ArchiveError",
    "ArchiveState",
    "Entry",
    "Erased",
    "Fault",
    "Line",
    "Outage",
    "Quota",
    "Reader",
    "Row",
    "Setup",
    "Shape",
    "predicted_bytes",
]


class Archive:
    """The writing side. Every method may be called from any thread."""

    def __init__(self, path: Path, setup: Setup) -> None:
        self.path = path
        self._writer = Writer(path, setup)

    @classmethod
    def open(cls, path: Path, setup: Setup) -> Archive:
        """Open or begin the file and start the writer's thread. Never raises: see `state` and `Setup.on_fault`.

        A file that cannot be used (no database, damaged, newer, of another model) is set aside under a new name.
        Only one process may write: whoever calls holds the lock of the folder.
        """
        archive = cls(path, setup)
        archive._writer.start()
        return archive

    @classmethod
    def open_as_is(cls, path: Path) -> Archive:
        """Open a file with what it says of itself, whatever model it is of: to erase from it when no daemon runs.

        Raises ArchiveError when there is none or it cannot be read; nothing is set aside then.
        """
        reader = Reader.open(path)
        setup = Setup(reader.shape, reader.identity, reader.dtype, reader.base)
        reader.close()
        return cls.open(path, setup)

    def put(self, entry: Entry) -> None:
        """Archive one carrier. Returns at once; its arrays must not be changed afterwards."""
        self._writer.inbox.put(entry)

    def extend(self, camera: str, frame: int, last_s: float) -> None:
        """The span of `camera`'s newest frame grows to `last_s`; ignored for any other frame."""
        self._writer.inbox.extend(camera, frame, last_s)

    def note_gap(self, outage: Outage) -> None:
        """Store a gap; the same camera and start again updates it (an open one is closed so)."""
        self._writer.inbox.note(outage)

    def tell(self, line: Line) -> bool:
        """A line for the diary, committed together with how far the diary has come; False: too many wait."""
        return self._writer.inbox.tell(line)

    def forget(self, camera: str | None, since_s: float | None, until_s: float | None) -> Future[Erased]:
        """Erase for good what begins in the range; None is all cameras, the beginning, now.

        The result comes when no byte is left in memory (`Setup.on_forget`) and file; an exception when that could not
        be done yet: it is then tried again, also after a restart.
        """
        return self._writer.forget(camera, since_s, until_s)

    def flush(self, timeout_s: float) -> bool:
        """Whether all that was put so far is committed, or given up, within `timeout_s`."""
        return self._writer.inbox.flush(timeout_s)

    def close(self, timeout_s: float = 10.0) -> bool:
        """Write what waits and end the thread; whether that was done within `timeout_s`."""
        self._writer.inbox.stop()
        return self._writer.join(timeout_s)

    def state(self) -> ArchiveState:
        """How the writer is doing."""
        return self._writer.state()

    def reader(self) -> Reader:
        """A new reading side, for one thread."""
        return Reader(self.path)
