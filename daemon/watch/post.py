"""Standing questions and the rest of the daemon: settings and MQTT in, states, events and pictures out.

<p>/watch/<name>/set --> take --> watchman (engine's thread) --> <p>/watch/<name>/state, <p>/events, <p>/evidence
page, API -----------> write --+                                +-> history, viewers
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime

import structlog
from pydantic import ValidationError

from daemon.core import Core
from daemon.desk import JPEG, JSON, Delivery
from daemon.engine import Engine
from daemon.outbox import Outgoing, Rank
from daemon.outlook import Outlook
from daemon.refusal import refusal
from daemon.settings import NAME_PATTERN, Settings
from daemon.topics import Topics
from daemon.watch.history import History
from daemon.watch.judge import Judge
from daemon.watch.machine import Event
from daemon.watch.spec import MAX_WATCHES, WatchSpec
from daemon.watch.store import Book, Left, Store
from daemon.watch.watchman import Picture, Told, Watch, Watchman
from daemon.wire import EventWire, WatchEventWire, WatchEvidenceWire, WatchStateWire
from stream.errors import ModelError, QueryError

SAVE_EVERY_S = 10.0
MAX_NAME = 64
ECHOES = 16  # of our own commands that may be on their way back
Publish = Callable[[Outgoing], None]


class WatchPost:
    """Make it and call it on the event loop, before the engine starts."""

    def __init__(self, settings: Settings, core: Core, engine: Engine, publish: Publish, topics: Topics) -> None:
        self._settings, self._core, self._engine = settings, core, engine
        self._publish, self.topics = publish, topics
        self._loop = asyncio.get_running_loop()
        self._log = structlog.get_logger("longwatch.watch")
        folder = settings.archive_folder() if settings.archive.enabled else None
        self._store, self.history = Store(folder), History(folder, engine.counters)
        self._written: dict[str, deque[bytes]] = {}  # our own commands, of which the broker has sent none back yet
        book = self._store.load()
        self.given = {name: spec for name, spec in book.given.items() if not self._problem(spec)}
        self.man: Watchman | None = None
        self.renamed: Callable[[], None] = lambda: None  # called when there are other names
        self.on_event: list[Callable[[EventWire], None]] = []  # called with what is told
        self.on_change: list[Callable[[tuple[str, ...]], None]] = []  # called when these were set, changed or removed
        self._begin(engine.outlook, book)

    def _begin(self, outlook: Outlook, book: Book) -> None:
        try:
            judge = Judge.of(self._core.model, self._core.policy.positions)
        except ModelError as error:
            self._log.error("no standing questions", reason=str(error))
            return

        def tell(told: Told) -> None:
            self._loop.call_soon_threadsafe(self._told, told)

        man = Watchman(
            judge,
            self._core.model.question_ids,
            self._settings.watching,
            outlook,
            self._engine.counters,
            tell,
            self._settings.answer.zone,
        )
        specs = self.specs()
        self.man = self._engine.watching = man
        left = {name: item.state for name, item in book.left.items()}
        man.exchange({name: item.spec for name, item in book.left.items()}, left)  # as it was, so that what is
        man.exchange(specs)  # otherwise now ends
        self._states(tuple(left.keys() - specs.keys()))

    # -- in ----------------------------------------------------------------------------------------------------------

    def specs(self) -> dict[str, WatchSpec]:
        """Those of the configuration, and over them those that were given while it ran."""
        return {**self._settings.watch, **self.given}

    def configured(self, name: str) -> bool:
        """Whether the configuration file has a question of this name."""
        return name in self._settings.watch

    def take(self, delivery: Delivery) -> None:
        """A payload on `<p>/watch/<name>/set`; what is wrong with it is said on `<p>/watch/<name>/state`."""
        name = self.topics.watch_of(delivery.topic)
        if self._ours(name, delivery):
            return
        try:
            self.put(name, self.parse(delivery.payload) if delivery.payload.strip() else None)
        except QueryError as error:
            self._log.warning("standing question refused", name=name[:MAX_NAME], reason=str(error))
            self._state(name, str(error))

    def _ours(self, name: str, delivery: Delivery) -> bool:
        """Whether a command is one of `write` that comes back, or one that the broker kept from before it."""
        written = self._written.get(name)
        if written is None:
            return False
        if delivery.payload not in written:
            return delivery.retain
        while written.popleft() != delivery.payload:
            pass
        if not written:
            del self._written[name]
        return True

    def write(self, name: str, spec: WatchSpec | None) -> Future[None] | None:
        """`put` for the page and the API: the broker keeps the same command, else its older one would come back.

        Done when it counts; None: nothing changes. Raises QueryError, and changes nothing.
        """
        done = self.put(name, spec)
        payload = b"" if spec is None else spec.model_dump_json(by_alias=True, exclude_defaults=True).encode()
        self._written.setdefault(name, deque(maxlen=ECHOES)).append(payload)
        if len(self._written) > MAX_WATCHES:  # no broker for long
            del self._written[next(iter(self._written))]
        self._publish(Outgoing(self.topics.watch_set(name), payload, 1, True, Rank.KEEP, JSON, once=True))
        return done

    def put(self, name: str, spec: WatchSpec | None) -> Future[None] | None:
        """Take a question over, or with None give it up: then the configuration's of that name counts again.

        Done when it counts; None: nothing changes. Raises QueryError, and changes nothing.
        """
        if not re.match(NAME_PATTERN, name) or len(name) > MAX_NAME or name.endswith("\n"):
            raise QueryError(f"watch name {name[:MAX_NAME]!r}: 1 to {MAX_NAME} of a-z, 0-9 and _")
        if spec is not None and (problem := self._problem(spec)):
            raise QueryError(problem)
        if spec is not None and name not in self.specs() and len(self.specs()) >= MAX_WATCHES:
            raise QueryError(f"{MAX_WATCHES} standing questions is the most; delete one first")
        if self.given.get(name) == spec:
            self._state(name)
            return None
        if spec is None:
            del self.given[name]
        else:
            self.given[name] = spec
        self._log.info("standing question " + ("deleted" if spec is None else "set"), name=name)
        return self._exchange(name)

    def configure(self, settings: Settings) -> None:
        """From now on these settings count."""
        gone = self.specs().keys()
        self._settings = settings
        if self.man is not None:
            self.man.settings, self.man.zone = settings.watching, settings.answer.zone
        self._exchange(*(gone | self.specs().keys()))

    def _exchange(self, *names: str) -> Future[None] | None:
        man, specs = self.man, self.specs()
        if man is None:
            return None

        def work() -> None:
            man.exchange(specs)
            self._loop.call_soon_threadsafe(self._exchanged, names)

        done = self._engine.call(work)
        self.renamed()
        return done

    def _exchanged(self, names: tuple[str, ...]) -> None:
        self._states(names)
        for follow in self.on_change:
            follow(names)

    def parse(self, payload: bytes) -> WatchSpec:
        """A question as JSON. Raises QueryError that begins with the key it is about."""
        if len(payload) > self._settings.mqtt.max_payload_bytes:
            raise QueryError(f"{len(payload)} bytes; at most {self._settings.mqtt.max_payload_bytes}")
        try:
            return WatchSpec.model_validate_json(payload, strict=True)
        except ValidationError as error:
            raise QueryError(refusal(error, WatchSpec)) from None

    def _problem(self, spec: WatchSpec) -> str:
        """What keeps `spec` from being put here; empty: nothing."""
        unknown = [name for name in spec.cameras if name not in self._settings.cameras]
        if unknown:
            return f"cameras: no camera {unknown[0][:MAX_NAME]!r}; there are {', '.join(self._settings.cameras)}"
        limit = self._settings.answer.max_question_chars
        if len(spec.question) > limit:
            return f"question: {len(spec.question)} characters; at most {limit}"
        return ""

    # -- out ---------------------------------------------------------------------------------------------------------

    def publish_states(self) -> None:
        """Every question's state, retained."""
        self._states(tuple(self.specs()))

    def state(self, name: str, error: str | None = None) -> WatchStateWire:
        """What is known of one question; of an unknown one, only the error."""
        watch = self.man.watches.get(name) if self.man is not None else None
        if watch is None:
            return WatchStateWire(name=name, error=error or (None if self.man else "this model cannot say yes or no"))
        spec, state = watch.spec, watch.state
        return WatchStateWire(
            name=name,
            state="ON" if state.on else "OFF",
            question=spec.question,
            kind=spec.kind,
            severity=spec.severity,
            cameras=spec.cameras,
            enabled=spec.enabled,
            put=watch.put,
            source="mqtt" if name in self.given else "config",
            since=state.event.start_s if state.event is not None else None,
            event=state.event.id if state.event is not None else None,
            probability={camera: round(item.probability, 4) for camera, item in dict(state.readings).items()},
            last_hour=state.last_hour(time.time()),
            evaluated_at=watch.evaluated_s,
            missed=watch.missed,
            error=error,
        )

    def _states(self, names: tuple[str, ...]) -> None:
        for name in names:
            self._state(name)

    def _state(self, name: str, error: str | None = None) -> None:
        known = self.man is not None and name in self.man.watches
        if not known and error is None:
            self._publish(Outgoing(self.topics.watch_state(name), b"", retain=True))
            return
        payload = self.state(name, error).model_dump_json().encode()
        self._publish(Outgoing(self.topics.watch_state(name), payload, 1, known, Rank.KEEP, JSON))

    def _told(self, told: Told) -> None:
        """A transition happened: the pictures, the event, the state."""
        event, spec = told.transition.after, told.watch.spec
        shown = [picture for picture in told.shown if self._may_show(picture)]
        kept: list[tuple[str, float, bytes]] = []
        for number, picture in enumerate(shown):
            if picture in told.fresh:
                topic, jpeg = self.topics.evidence(event.id, number), picture.thumbnail.read()
                self._publish(Outgoing(topic, jpeg, 1, False, Rank.PICTURE, JPEG))
                kept.append((picture.camera, picture.wall_s, jpeg))
        wire = EventWire(
            type=told.transition.type,
            before=self._event(told.name, spec, told.transition.before, shown if told.transition.type == "end" else ()),
            after=self._event(told.name, spec, event, shown),
        )
        payload = wire.model_dump_json().encode()
        self._publish(Outgoing(self.topics.events, payload, 1, False, Rank.KEEP, JSON))
        self._log.info("standing question", name=told.name, type=told.transition.type, cameras=event.cameras)
        self.history.put(wire.type, wire.after, kept)
        for follow in self.on_event:
            follow(wire)
        self._state(told.name)

    def _may_show(self, picture: Picture) -> bool:
        camera = self._settings.cameras.get(picture.camera)
        return bool(picture.thumbnail) and camera is not None and getattr(camera, "pictures", True)

    def _event(self, name: str, spec: WatchSpec, event: Event, shown: list[Picture] | tuple[()]) -> WatchEventWire:
        evidence = tuple(
            WatchEvidenceWire(
                camera=item.camera, t=item.wall_s, iso=_iso(item.wall_s), frame=self.topics.evidence(event.id, number)
            )
            for number, item in enumerate(shown)
        )
        return WatchEventWire(
            id=event.id,
            watch=name,
            question=spec.question,
            severity=spec.severity,
            state="ON" if event.open else "OFF",
            start_time=event.start_s,
            end_time=event.end_s,
            cameras=event.cameras,
            probability=event.top,
            reason=event.reason,
            evidence=evidence,
        )

    def forget(self, camera: str | None, since_s: float, until_s: float) -> None:
        """Pictures of an erased time go, and what its history says."""
        self.history.forget(camera, since_s, until_s)
        if (man := self.man) is not None:
            self._engine.call(lambda: man.forget(camera, since_s, until_s))

    # -- over restarts -----------------------------------------------------------------------------------------------

    async def save_often(self) -> None:
        """Have how far each question has come on disk; and publish it, for `last_hour` and probabilities."""
        while True:
            self.publish_states()
            await asyncio.to_thread(self.save)
            await asyncio.sleep(SAVE_EVERY_S)

    def save(self) -> None:
        """To the disk, if something changed. Blocks."""
        watches: dict[str, Watch] = dict(self.man.watches) if self.man is not None else {}
        left = {name: Left(spec=watch.spec, state=watch.state) for name, watch in watches.items()}
        self._store.save(Book(given=dict(self.given), left=left))

    def close(self) -> None:
        """Save, and let go of the history. The engine has ended. Blocks."""
        self.save()
        self.history.close()


def _iso(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
