"""What questions read, chosen beside the engine: the archive is on a disk, and a slow disk must not stop the watching.

engine --submit(views, what was asked)--> one thread, one reader --Future[views]--> engine
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from memory.archive import ArchiveError, Reader
from memory.focus import Focus
from memory.focus.apply import focused
from memory.recall import Asked, Recall
from memory.recall.recovered import recovered
from memory.recall.route import PAST
from memory.recall.search import EVER, How, Range, search
from memory.recover import Recovery
from memory.view import MemoryView


@dataclass(frozen=True, slots=True)
class Sight:
    """What is read of the newest frames' visual tokens."""

    method: Focus
    room: int  # tokens
    grid: tuple[int, int]


class Recaller:
    """One method over the banks' views and, where there is one, the archive behind `reader`; then, with `sight`, fewer
    visual tokens."""

    def __init__(
        self, method: Recall, how: How, reader: Reader | None = None, sight: Sight | None = None, back: int = 0
    ) -> None:
        self.method, self.how, self.sight = method, how, sight
        self.back = back  # carriers that come back by their tiny keys, where there is no archive
        self._reader = reader if method.reaches else None
        self._pool = ThreadPoolExecutor(1, "recall") if self._reader is not None else None

    @property
    def looks(self) -> bool:
        """Whether a question is read over the bank before anything is chosen."""
        searches = self.method.looks and self._reader is not None
        return searches or (self.sight is not None and self.sight.method.looks)

    def wants(self, asked: Asked, span: Range) -> bool:
        """Whether a search may change what is read."""
        return span != EVER or self.sight is not None or self.method.wants(asked)

    def submit(self, views: Sequence[MemoryView], asked: Sequence[Asked], span: Range) -> Future[list[MemoryView]]:
        """What each of several cameras' views becomes. `views` hold what the banks have of `span`.

        Fails with ArchiveError when there is an archive and it cannot be opened.
        """
        if self._pool is not None:
            return self._pool.submit(self._search, views, asked, span)
        done: Future[list[MemoryView]] = Future()
        done.set_result(self._search(views, asked, span))
        return done

    def close(self) -> None:
        """End the thread; a search that runs is waited for."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        if self._reader is not None:
            self._reader.close()

    def _search(self, views: Sequence[MemoryView], asked: Sequence[Asked], span: Range) -> list[MemoryView]:
        if self._reader is not None and self._reader.connection() is None:
            raise ArchiveError(f"the archive cannot be opened: {self._reader.last_fault}", "cannot_open")
        how = replace(self.how, range=span)
        try:
            return [self._one(view, item, how) for view, item in zip(views, asked, strict=True)]
        finally:
            if self._reader is not None:
                self._reader.rest()

    def _one(self, view: MemoryView, asked: Asked, how: How) -> MemoryView:
        found = view
        alone = self.method.looks and self._reader is None  # no archive: the bank is all there is
        if not alone and (how.range != EVER or self.method.wants(asked)):
            found = search(self.method, view, asked, self._reader, how)
        if self._reader is None and found.left and PAST.search(asked.text.lower()):
            found = recovered(found, self.back, how, Recovery())
        if self.sight is not None:
            found = focused(self.sight.method, found, asked, self.sight.room, self.sight.grid)
        extent = None if self._reader is None else self._reader.extent(view.camera)
        if extent is None:
            return found
        first_s, last_s, _ = extent
        return replace(
            found,
            held_from_s=first_s if found.held_from_s is None else min(first_s, found.held_from_s),
            held_to_s=last_s if found.held_to_s is None else max(last_s, found.held_to_s),
        )
