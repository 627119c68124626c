"""What the diary reads of the archive: spans that are over and not told of, days without a line, a span's memory.

One thread at a time calls it, and it is not the engine's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from daemon.diary.day import Day, days, summary
from daemon.diary.spans import SETTLE_S, Cutter, EventSpan
from daemon.diary.spec import DiarySettings
from daemon.times import Speech
from memory.archive import Line, Reader
from memory.archive.diary import kept, lines
from memory.recall import Asked
from memory.recall.search import How, Range, search
from memory.recall.uniform import Uniform
from memory.view import MemoryView

READ = 4096  # carriers of a camera at once
BEGIN_S = 3600.0  # a diary begins so long before it was first switched on
EVENTS = 100_000  # of one day


@dataclass(frozen=True, slots=True)
class Found:
    """What is new. `anew`: something was erased; everything that was found earlier counts no more."""

    anew: bool = False
    spans: tuple[EventSpan, ...] = ()
    days: tuple[Line, ...] = ()


@dataclass(slots=True)
class _Place:
    """How far a camera has been read."""

    carrier: int
    cutter: Cutter
    told: set[float] = field(default_factory=set)  # days that need no line any more, by their start


class Finder:
    """See the module."""

    def __init__(self, reader: Reader, how: How) -> None:
        self._reader, self._how = reader, how
        self._places: dict[str, _Place] = {}
        self._epoch = -1
        self._rules: tuple[float, float] | None = None

    def poll(self, cameras: Iterable[str], now_s: float, settings: DiarySettings, speech: Speech) -> Found:
        """Everything since the last call."""
        reader = self._reader
        try:
            if not kept(reader):
                return Found()
            epoch = self._erasures()
            rules = (settings.gap_s, settings.longest_s)
            anew = epoch != self._epoch or rules != self._rules
            if anew:
                self._places.clear()
                self._epoch, self._rules = epoch, rules
            spans: list[EventSpan] = []
            told: list[Line] = []
            for camera in cameras:
                place = self._place(camera, now_s, settings)
                spans += self._spans(camera, place, now_s)
                told += self._days(camera, place, now_s, settings, speech)
            if self._erasures() != epoch:  # meanwhile: what was read may be of before or after
                self._epoch = -1
                return Found(anew=True)
            return Found(anew, tuple(spans), tuple(told))
        finally:
            reader.rest()

    def view(self, fork: MemoryView, prompt: str, span: EventSpan) -> MemoryView:
        """What bank and archive hold of `span`; an empty view where it is nothing any more."""
        how = How(self._how.positions, self._how.limits, Range(span.first_s, span.last_s))
        try:
            return search(Uniform(), fork, Asked(prompt), self._reader, how)
        finally:
            self._reader.rest()

    def _erasures(self) -> int:
        """Number of the last erasure that is done: of none before it anything is left."""
        query = (
            "SELECT coalesce((SELECT min(id) - 1 FROM erasures WHERE done_s IS NULL),"
            " (SELECT max(id) FROM erasures), 0)"
        )
        return next((int(number) for (number,) in self._reader.select(query, ())), 0)

    def _place(self, camera: str, now_s: float, settings: DiarySettings) -> _Place:
        if camera not in self._places:
            cutter = Cutter(camera, settings.gap_s, settings.longest_s, self._epoch)
            self._places[camera] = _Place(self._begin(camera, now_s), cutter)
        return self._places[camera]

    def _mark(self, camera: str) -> int | None:
        found = self._reader.select("SELECT carrier FROM diary_marks WHERE camera = ?", (camera,))
        return next((int(carrier) for (carrier,) in found), None)

    def _begin(self, camera: str, now_s: float) -> int:
        """The carrier after which reading begins."""
        mark = self._mark(camera)
        if mark is not None:
            return mark
        query = "SELECT id FROM frames WHERE camera = ? AND first_s < ? ORDER BY first_s DESC LIMIT 1"
        old = self._reader.select(query, (self._reader.camera_id(camera), now_s - BEGIN_S))
        return next((int(row_id) for (row_id,) in old), 0)

    def _spans(self, camera: str, place: _Place, now_s: float) -> list[EventSpan]:
        query = "SELECT id, first_s FROM frames WHERE camera = ? AND id > ? ORDER BY id LIMIT ?"
        key = (self._reader.camera_id(camera), place.carrier, READ)
        faults, rows = self._reader.faults, list(self._reader.select(query, key))
        found = []
        for carrier, at_s in rows:
            place.carrier = carrier
            found.append(place.cutter.add(carrier, at_s))
        if len(rows) < READ and self._reader.faults == faults:
            found.append(place.cutter.close(now_s))
        return [span for span in found if span is not None]

    def _days(self, camera: str, place: _Place, now_s: float, settings: DiarySettings, speech: Speech) -> list[Line]:
        """Lines of days that are over and fully told of."""
        settled_s = now_s - settings.gap_s - SETTLE_S
        missing = [day for day in days(now_s, speech.zone) if day.since_s not in place.told]
        missing = [day for day in missing if day.until_s <= settled_s]
        if not missing:
            return []
        known = self._reader.select("SELECT first_s FROM diary WHERE camera = ? ORDER BY first_s LIMIT 1", (camera,))
        began_s = next((first_s for (first_s,) in known), None)
        if began_s is None:
            return []
        found = []
        for day in missing:
            there = lines(self._reader, camera, day.since_s, day.until_s, limit=EVENTS)
            mine = [line for line in there if day.since_s <= line.first_s < day.until_s]
            if day.until_s <= began_s or any(line.kind == "day" for line in mine):
                place.told.add(day.since_s)
            elif not self._untold(camera, day):
                gaps = self._reader.outages(camera, day.since_s, day.until_s)
                text = summary(mine, gaps, day, speech)
                found.append(Line(camera, day.since_s, day.until_s, text, "day", epoch=self._epoch))
                place.told.add(day.since_s)
        return found

    def _untold(self, camera: str, day: Day) -> bool:
        """Whether there are carriers of that day or before without a line."""
        query = "SELECT 1 FROM frames WHERE camera = ? AND id > ? AND first_s < ? LIMIT 1"
        key = (self._reader.camera_id(camera), self._mark(camera) or 0, day.until_s)
        return any(self._reader.select(query, key))
