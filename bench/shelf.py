"""A real archive beside one stream: what the daemon recalls from, with the daemon's own settings.

Every carrier that a bank absorbs is filed; a question is read over the bank, the archive is searched, and what comes
back is what the daemon would read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from daemon.core import Core
from daemon.filing import filed, setup
from daemon.session import Session
from daemon.settings import ArchiveSettings
from memory.archive import Archive
from memory.recall import Asked
from memory.recall.search import EVER
from memory.view import MemoryView
from stream.types import Carrier

FLUSH_S = 30.0


class Shelf:
    """One archive file, begun anew. `close` removes it."""

    def __init__(self, core: Core, path: Path) -> None:
        self._core, self._path = core, path
        self._archive = Archive.open(path, setup(core.model, ArchiveSettings()))
        self._recaller = core.recaller(self._archive.reader())
        self._waiting = False

    def file(self, carrier: Carrier) -> None:
        """Archive what was absorbed."""
        self._archive.put(filed(carrier, 1.0))
        self._waiting = True

    def views(self, view: MemoryView, texts: Sequence[str]) -> list[MemoryView]:
        """What each of several questions reads, where the bank alone gives `view`."""
        if self._waiting:
            assert self._archive.flush(FLUSH_S), self._archive.state()
            self._waiting = False
        return [self._view(view, text) for text in texts]

    def close(self) -> None:
        """End its threads, remove its files."""
        self._recaller.close()
        self._archive.close()
        for path in self._path.parent.glob(f"{self._path.name}*"):
            path.unlink()

    def _view(self, view: MemoryView, text: str) -> MemoryView:
        model, how = self._core.model, self._recaller.how
        asked = Asked(text)
        if self._recaller.looks:
            session = Session(model, how.positions, [view], model.question_ids(text), 1)
            session.step()
            asked = Asked(text, session.look(0))
        return self._recaller.submit([view], [asked], EVER).result()[0]
