"""Erasing while we run: `<p>/forget` in, `<p>/forget/state` out; and what leaves the broker with an erased time.

<p>/forget --parse--> waiting (bounded) --one by one--> Keeper.forget --> banks, snapshots, archive --> erased()
                \\-- error, busy --> <p>/forget/state <-- working, done, error --/
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import structlog
from pydantic import ValidationError

from daemon.desk import JSON, Delivery
from daemon.metrics import Counters
from daemon.options import length
from daemon.outbox import Outgoing
from daemon.payloads import is_id, moment
from daemon.refusal import refusal, shown
from daemon.settings import MqttSettings
from daemon.topics import Topics
from daemon.wire import ForgetStateWire, ForgetWire
from stream.errors import LongwatchError, QueryError
from stream.policy import nearest
from stream.types import NO_THUMBNAIL

if TYPE_CHECKING:
    from daemon.app import App
    from daemon.keeper import Keeper

MOST_WAITING = 8
KEPT_IDS = 64
PATIENCE_S = 3600.0  # a large file is rewritten with zeros; what takes longer goes on, but nobody is told
_OFF = "erasing over MQTT is switched off; use `longwatch forget`, or set mqtt.forget: true and see privacy.md"
_RETAINED = "a retained command is not executed; clear it with an empty retained message, and publish without retain"


@dataclass(frozen=True, slots=True)
class Command:
    """A time to erase. `cameras` empty is all of them; seconds since the epoch."""

    id: str | None
    cameras: tuple[str, ...]
    since_s: float
    until_s: float


class Forgetting:
    """Takes commands over, one after another. Make it and call it on the event loop; `run` is its task.

    They are subscribed to with QoS 0: what was sent while we were away never comes, because `last: 1h` means another
    hour then. An `id` is executed once.
    """

    def __init__(  # noqa: PLR0913
        self,
        settings: MqttSettings,
        keeper: Keeper,
        topics: Topics,
        publish: Callable[[Outgoing], None],
        cameras: Callable[[], Iterable[str]],
        counters: Counters,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._settings, self._keeper, self._topics, self._publish = settings, keeper, topics, publish
        self._cameras, self._counters, self._wall_s = cameras, counters, wall_s
        self._waiting: asyncio.Queue[tuple[Command, bytes | None]] = asyncio.Queue(MOST_WAITING)
        self._told: OrderedDict[str, bytes] = OrderedDict()  # id -> what was last said of it
        self._log = structlog.get_logger("longwatch.forget")

    def take(self, delivery: Delivery) -> None:
        """One payload on `<p>/forget`. What is wrong with it is said, and nothing is erased."""
        command_id = _id_of(delivery.payload[: self._settings.max_payload_bytes])
        try:
            if not self._settings.forget:
                raise QueryError(_OFF)
            if delivery.retain:
                raise QueryError(_RETAINED)
            command = self._parsed(delivery.payload)
        except LongwatchError as error:
            self._refuse(command_id, str(error), delivery.correlation)
            return
        if command.id is not None and command.id in self._told:
            self._send(self._told[command.id], delivery.correlation)
            return
        if self._waiting.full():
            self._refuse(command.id, f"{MOST_WAITING} erasures are waiting; ask again soon", delivery.correlation)
            return
        self._log.warning("asked to erase", cameras=command.cameras, since_s=command.since_s, until_s=command.until_s)
        self._say(command, "working", delivery.correlation)
        self._waiting.put_nowait((command, delivery.correlation))

    async def run(self) -> None:
        """Erase what was asked, for ever."""
        while True:
            command, correlation = await self._waiting.get()
            try:
                carriers = await self.erase(command)
            except TimeoutError:
                self._say(command, "error", correlation, error="not erased yet; it will be when it can: see the log")
            except Exception as error:  # noqa: BLE001 - the task's top; the archive tries again by itself
                self._counters.count("forget_faults")
                if not isinstance(error, LongwatchError | OSError):
                    self._log.exception("not erased")
                self._say(command, "error", correlation, error=f"not erased yet, it is tried again: {error}")
            else:
                self._say(command, "done", correlation, carriers=carriers)

    async def erase(self, command: Command) -> int:
        """Erase for good; how many archived moments went. Raises what `Archive.forget` raises, and TimeoutError."""
        found = [self._keeper.forget(camera, command.since_s, command.until_s) for camera in command.cameras or (None,)]
        async with asyncio.timeout(PATIENCE_S):
            # shielded: the archive's thread would trip over a cancelled future
            return sum([(await asyncio.shield(asyncio.wrap_future(future))).rows for future in found])

    def _parsed(self, payload: bytes) -> Command:
        """Raises QueryError or OptionError."""
        if len(payload) > self._settings.max_payload_bytes:
            raise QueryError(f"{len(payload)} bytes; mqtt.max_payload_bytes allows {self._settings.max_payload_bytes}")
        try:
            wire = ForgetWire.model_validate_json(payload)
        except ValidationError as error:
            raise QueryError(refusal(error, ForgetWire)) from None
        if wire.since is None and wire.until is None and wire.last is None:
            raise QueryError('give a time: `since`, `until` or `last`; {"since": 0} is everything')
        if wire.last is not None and (wire.since is not None or wire.until is not None):
            raise QueryError("`last` says both ends: leave `since` and `until` out")
        now_s, last_s = self._wall_s(), length("last", wire.last)
        until_s = moment("until", wire.until)
        until_s = now_s if until_s is None else until_s
        since_s = moment("since", wire.since) or 0.0 if last_s is None else max(0.0, until_s - last_s)
        if since_s > until_s:
            raise QueryError("`since` lies after `until`")
        if wire.camera is not None and wire.cameras:
            raise QueryError("give `camera` or `cameras`, not both")
        named = wire.cameras if wire.camera is None else [wire.camera]
        known = list(self._cameras())
        for name in named:
            if name not in known:
                raise QueryError(f"unknown camera {shown(name)}; {nearest(name[:64], known)}")
        return Command(wire.id, tuple(dict.fromkeys(named)), since_s, until_s)

    def _refuse(self, command_id: str | None, text: str, correlation: bytes | None) -> None:
        self._log.warning("erasure refused", id=command_id, reason=text)
        wire = ForgetStateWire(id=command_id, state="error", error=f"{text}; nothing was erased", at=self._wall_s())
        self._send(wire.model_dump_json().encode(), correlation)

    def _say(
        self,
        command: Command,
        state: Literal["working", "done", "error"],
        correlation: bytes | None,
        *,
        carriers: int | None = None,
        error: str | None = None,
    ) -> None:
        wire = ForgetStateWire(
            id=command.id,
            state=state,
            cameras=command.cameras,
            since=command.since_s,
            until=command.until_s,
            carriers=carriers,
            error=error,
            at=self._wall_s(),
        )
        payload = wire.model_dump_json().encode()
        if command.id is not None:
            self._told[command.id] = payload
            while len(self._told) > KEPT_IDS:
                self._told.popitem(last=False)
        self._send(payload, correlation)

    def _send(self, payload: bytes, correlation: bytes | None) -> None:
        self._publish(Outgoing(self._topics.forget_state, payload, content_type=JSON, correlation=correlation))


def _id_of(payload: bytes) -> str | None:
    """The id of a command that may be wrong otherwise."""
    try:
        found = json.loads(payload)["id"]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return None
    return found if isinstance(found, str) and is_id(found) else None


def erased(app: App, camera: str | None, since_s: float, until_s: float) -> None:
    """On the loop, after any erasure: answers that may be repeated and what the broker keeps lose that time.

    Of a picture that an earlier run left at the broker we do not know what it shows: it goes too.
    """
    app.erasures += 1
    app.link.desk.ledger.forget(camera, since_s, until_s)
    app.hass.forget(camera, since_s, until_s)
    app.watch.forget(camera, since_s, until_s)
    app.diary.forget()
    for name, post in app.posts.items():
        if camera not in (None, name):
            continue
        frame = post.newest
        if frame is not None and since_s <= frame.wall_s <= until_s:
            post.newest = replace(frame, thumbnail=NO_THUMBNAIL)
        if post.shown_s is None or since_s <= post.shown_s <= until_s:
            app.link.clear_snapshot(name)
