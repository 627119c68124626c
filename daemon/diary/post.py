"""The diary and the rest of the daemon: the scribe is made here, questions about lines are answered, lines published.

<p>/diary --parse--> one thread, one reader --lines--> <p>/diary/<id>, or where the question says
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import structlog
from pydantic import ValidationError

from daemon.core import Core
from daemon.desk import JSON, Delivery
from daemon.diary.finder import Finder
from daemon.diary.reach import reach
from daemon.diary.scribe import Scribe
from daemon.engine import Engine
from daemon.keeper import Keeper
from daemon.outbox import Outgoing
from daemon.refusal import refusal, shown
from daemon.settings import Settings
from daemon.topics import Topics
from daemon.wire import DiaryLineWire, DiaryQueryWire, DiaryWire
from memory.archive import ArchiveError, Line
from memory.archive.diary import DAYS, lines
from memory.recall.search import How, Limits
from stream.errors import LongwatchError, QueryError
from stream.policy import nearest

MOST_WAITING = 32
_RETAINED = "a retained question is not answered; clear it with an empty retained message"
_NO_ARCHIVE = "there is no diary without an archive; see archive.enabled"


class DiaryPost:
    """Make it and call it on the event loop, before the engine starts. Without an archive it only says so."""

    def __init__(  # noqa: PLR0913
        self,
        settings: Settings,
        core: Core,
        engine: Engine,
        keeper: Keeper,
        publish: Callable[[Outgoing], None],
        topics: Topics,
        rng: random.Random,
    ) -> None:
        self._settings, self._engine, self._keeper = settings, engine, keeper
        self._publish, self._topics, self._rng = publish, topics, rng
        self._loop = asyncio.get_running_loop()
        self._log = structlog.get_logger("longwatch.diary")
        self._waiting = 0
        self._reader = keeper.reader()
        self._thread = ThreadPoolExecutor(1, "diary")
        self.scribe: Scribe | None = None
        if self._reader is None:
            return
        positions, room = core.policy.positions, core.policy.budget.carriers
        self.scribe = engine.writing = Scribe(
            core.model,
            positions,
            Finder(self._reader, How(positions, Limits(room))),
            self._thread,
            settings.diary,
            settings.answer,
            engine.outlook,
            engine.counters,
            self._tell,
        )

    def configure(self, settings: Settings) -> None:
        """From now on these settings count."""
        self._settings, scribe = settings, self.scribe

        def work() -> None:
            if scribe is not None:
                scribe.settings, scribe.answer = settings.diary, settings.answer

        self._engine.call(work)

    def forget(self) -> None:
        """Something was erased: no line is made of what was read before."""
        if self.scribe is not None:
            self._engine.call(self.scribe.forget)

    def close(self) -> None:
        """End the thread; the engine has ended. Blocks."""
        self._thread.shutdown(cancel_futures=True)

    def _tell(self, line: Line) -> bool:
        """In the engine's thread: a new line."""
        kept = self._keeper.tell(line)
        if kept and self._settings.diary.publish:
            self._loop.call_soon_threadsafe(self._told, line)
        return kept

    def _told(self, line: Line) -> None:
        payload = wired(line).model_dump_json(by_alias=True).encode()
        self._publish(Outgoing(self._topics.camera_diary(line.camera), payload, content_type=JSON))

    # -- questions ---------------------------------------------------------------------------------------------------

    def take(self, delivery: Delivery) -> None:
        """A payload on `<p>/diary`: what is wrong with it is said where the lines would have gone."""
        query_id, topic = f"{self._rng.getrandbits(64):016x}", None
        try:
            wire = self._parsed(delivery)
            query_id = wire.id or query_id
            wanted = delivery.reply_to or wire.reply_to
            topic = None if wanted is None else self._topics.check_reply(wanted)
            asked = self._asked(wire)
        except LongwatchError as error:
            self._log.warning("a question about the diary was refused", reason=str(error))
            self._say(DiaryWire(id=query_id, error=str(error)), topic, delivery.correlation)
            return
        self._waiting += 1
        asked.add_done_callback(
            lambda found: self._loop.call_soon_threadsafe(self._answer, query_id, topic, delivery.correlation, found)
        )

    def _parsed(self, delivery: Delivery) -> DiaryQueryWire:
        most = self._settings.mqtt.max_payload_bytes
        if len(delivery.payload) > most:
            raise QueryError(f"{len(delivery.payload)} bytes; mqtt.max_payload_bytes allows {most}")
        if delivery.retain:
            raise QueryError(_RETAINED)
        try:
            return DiaryQueryWire.model_validate_json(delivery.payload)
        except ValidationError as error:
            raise QueryError(refusal(error, DiaryQueryWire)) from None

    def _asked(self, wire: DiaryQueryWire) -> Future[list[Line]]:
        """The lines, being read. Raises QueryError."""
        now_s, zone, reader = time.time(), self._settings.answer.zone, self._reader
        since_s, until_s = reach("since", wire.since, now_s, zone), reach("until", wire.until, now_s, zone)
        if since_s is not None and until_s is not None and since_s > until_s:
            raise QueryError("`since` lies after `until`")
        known = list(self._settings.cameras)
        if wire.camera is not None and wire.camera not in known:
            raise QueryError(f"unknown camera {shown(wire.camera)}; {nearest(wire.camera[:64], known)}")
        if reader is None:
            raise QueryError(_NO_ARCHIVE)
        if self._waiting >= MOST_WAITING:
            raise QueryError(f"{MOST_WAITING} questions about the diary are waiting; ask again soon")

        def work() -> list[Line]:
            try:
                kinds = DAYS if wire.summary else None
                return lines(reader, wire.camera, since_s, until_s, wire.search, wire.limit, kinds)
            finally:
                reader.rest()

        return self._thread.submit(work)

    def _answer(self, query_id: str, topic: str | None, correlation: bytes | None, found: Future[list[Line]]) -> None:
        self._waiting -= 1
        if found.cancelled():
            return  # the daemon ends
        fault = found.exception()
        if fault is None:
            wire = DiaryWire(id=query_id, lines=tuple(wired(line) for line in found.result()))
        else:
            if not isinstance(fault, ArchiveError):
                self._engine.counters.count("diary_faults")
                self._log.error("the diary could not be read", reason=repr(fault))
            wire = DiaryWire(id=query_id, error=str(fault))
        self._say(wire, topic, correlation)

    def _say(self, wire: DiaryWire, topic: str | None, correlation: bytes | None) -> None:
        payload = wire.model_dump_json(by_alias=True).encode()
        place = topic or self._topics.diary_answer(wire.id)
        self._publish(Outgoing(place, payload, content_type=JSON, correlation=correlation))


def wired(line: Line) -> DiaryLineWire:
    """`line` as it goes out."""
    return DiaryLineWire(
        camera=line.camera,
        from_=line.first_s,
        to=line.last_s,
        kind=line.kind,
        text=line.text,
        confidence=line.confidence,
        model=line.model,
    )
