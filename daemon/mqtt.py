"""The broker's end of the daemon: questions in, answers and states out, connected again for ever.

    broker --question--> _receive -> desk.take -> on_query(query, reply)      (the app's callable)
    broker <--publish--- _send <---- outbox <---------- reply.chunk / reply.answer / publish_*

Everything here runs on one event loop. Nothing a client, a broker or a network does ends `run`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiomqtt
import structlog
from paho.mqtt.subscribeoptions import SubscribeOptions

from daemon.connect import Client, Session, explain, make_client, publish_properties
from daemon.desk import JPEG, JSON, Delivery, Desk, OnQuery, Reply
from daemon.outbox import Outbox, Outgoing, Rank, Ticket
from daemon.settings import Settings
from daemon.wire import CameraState, DaemonStatus
from stream.errors import LongwatchError

__all__ = ["Backoff", "LinkError", "LinkState", "MqttLink", "OnQuery", "Reply"]

WINDOW = 8  # unacknowledged publishes at once: a far broker must not cost one round trip per message
STEADY_S = 10.0  # a connection that lived this long starts the back-off anew


class LinkError(LongwatchError):
    """The broker accepted the connection but not what we need from it."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds between attempts to connect: doubled each time, jittered so that many daemons do not come at once."""

    first_s: float = 1.0
    most_s: float = 30.0

    def delay_s(self, attempt: int, rng: random.Random) -> float:
        """The wait before attempt number `attempt`, counted from 0; between half of the full delay and all of it."""
        return min(self.most_s, self.first_s * 2.0 ** min(attempt, 30)) * rng.uniform(0.5, 1.0)


@dataclass(slots=True)
class LinkState:
    """What the link is doing; read it, do not write it."""

    connected: bool = False
    reason: str = "not started"
    connections: int = 0
    faults: int = 0  # our own bugs, caught and logged


@dataclass(frozen=True, slots=True)
class Listener:
    """Who takes what comes on the topics of one filter; see `MqttLink.listen`."""

    pattern: str
    take: Callable[[Delivery], None]
    kept: bool = False
    qos: int = 1


class MqttLink:
    """The connection to the broker. Make it on the event loop, `run` it in a TaskGroup, `close` it to end `run`."""

    def __init__(
        self,
        settings: Settings,
        on_query: OnQuery,
        rng: random.Random,
        wall_s: Callable[[], float] = time.time,
        backoff: Backoff | None = None,
    ) -> None:
        mqtt = settings.mqtt
        self.desk = Desk(settings, on_query, self.publish, rng, wall_s)
        self.topics = self.desk.topics
        self.outbox = Outbox(mqtt.max_outgoing)
        self.state = LinkState()
        self._settings = mqtt
        self._rng = rng
        self._backoff = backoff or Backoff()
        self._log = structlog.stdlib.get_logger("longwatch.mqtt")
        self._wake = asyncio.Event()  # something to send
        self._sent = asyncio.Event()  # something was sent
        self._stop = asyncio.Event()
        self._finished = asyncio.Event()
        self._up = asyncio.Event()
        self._flush_s = 0.0
        self._listeners: list[Listener] = []
        self.publish(Outgoing(self.topics.available, b"online", retain=True))

    # -- for the app ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Connect, serve and connect again until `close`. Cancelling it publishes `offline` at once."""
        try:
            async with asyncio.TaskGroup() as group:
                worker = group.create_task(self._connections(), name="mqtt-connections")
                await self._stop.wait()
                if self.state.connected or self.outbox.urgent:
                    await asyncio.wait([worker], timeout=self._flush_s)
                worker.cancel()
        finally:
            self._set_state(False, "closed")
            self._finished.set()

    async def close(self, flush_s: float = 5.0) -> None:
        """Take no more questions, publish what waits and `offline` within `flush_s` seconds, end `run`."""
        self._flush_s = flush_s
        self._stop.set()
        self._wake.set()
        await self._finished.wait()

    def listen(self, pattern: str, take: Callable[[Delivery], None], *, kept: bool = False, qos: int = 1) -> None:
        """From the next connection on, call `take` with what comes on topics that match `pattern`.

        `kept`: also what the broker keeps there, on each connection, and what we publish there ourselves. A broker
        that denies it is a line in the log: only questions are worth having no connection for. `qos` 0: what is
        sent while we are away never comes.
        """
        self._listeners.append(Listener(pattern, take, kept, qos))

    async def wait_connected(self) -> None:
        """Return when the broker has accepted us and our subscriptions."""
        await self._up.wait()

    def publish(self, message: Outgoing) -> None:
        """Hand over any message; it waits while the broker is away."""
        self.outbox.put(message)
        self._wake.set()

    def publish_camera(self, state: CameraState, snapshot: bytes | None = None) -> None:
        """Publish a camera's state, its availability and, when given, its latest JPEG; all retained."""
        name = state.camera
        available = b"online" if state.state in ("online", "degraded") else b"offline"  # a degraded camera sends
        self.publish(Outgoing(self.topics.camera_available(name), available, retain=True))
        payload = state.model_dump_json().encode()
        self.publish(Outgoing(self.topics.camera_state(name), payload, retain=True, content_type=JSON))
        if snapshot:
            self.publish(Outgoing(self.topics.snapshot(name), snapshot, 0, True, Rank.PICTURE, JPEG))

    def clear_snapshot(self, name: str) -> None:
        """The broker keeps no picture of this camera any more."""
        self.publish(Outgoing(self.topics.snapshot(name), b"", retain=True))

    def retire_camera(self, name: str) -> None:
        """Say that a camera is gone from the configuration: `offline`, and no state or picture any more."""
        self.publish(Outgoing(self.topics.camera_available(name), b"offline", retain=True))
        for topic in (self.topics.camera_state(name), self.topics.snapshot(name)):
            self.publish(Outgoing(topic, b"", retain=True))  # empty clears a retained message

    def publish_status(self, status: DaemonStatus) -> None:
        """Publish the daemon's status, retained."""
        payload = status.model_dump_json().encode()
        self.publish(Outgoing(self.topics.status, payload, retain=True, content_type=JSON))

    # -- connections ---------------------------------------------------------------------------------------------

    async def _connections(self) -> None:
        """One connection after another. The task's top: whatever ends a connection is logged and tried again."""
        attempt = 0
        while not self._stop.is_set() or self.outbox.urgent:
            began_s = time.monotonic()
            try:
                await self._connection()
                if self._stop.is_set():
                    return
            except Exception as error:  # noqa: BLE001 - nothing may end the link; each fault is logged with its reason
                reason = explain(error, self._settings)
                log = self._log.warning if _is_outside(error) else self._log.exception
                self.state.faults += not _is_outside(error)
                log("no broker", reason=reason, attempt=attempt, waiting=len(self.outbox))
                self._set_state(False, reason)
            attempt = 0 if time.monotonic() - began_s > STEADY_S else attempt + 1
            await asyncio.sleep(self._backoff.delay_s(max(attempt - 1, 0), self._rng))

    async def _connection(self) -> None:
        """Serve one connection until it breaks (raises) or until `close` has flushed (returns)."""
        session = Session(self._settings.client_id, True, self.topics.available)
        async with await make_client(self._settings, session) as client:
            try:
                await self._subscribe(client)
                self.outbox.restore()
                self.state.connections += 1
                self._set_state(True, "")
                await self._serve(client)
            except asyncio.CancelledError:
                client.last_words(self.topics.available, "offline")
                raise
            finally:
                self.outbox.restore()
                self._up.clear()

    async def _serve(self, client: Client) -> None:
        async with asyncio.TaskGroup() as group:
            send = group.create_task(self._send(client), name="mqtt-send")
            if not self._stop.is_set():
                receive = group.create_task(self._receive(client), name="mqtt-receive")
                await self._stop.wait()
                receive.cancel()  # unacknowledged questions stay at the broker for our return
            await self._drained()
            self._say_offline()
            await self._drained()
            send.cancel()

    async def _subscribe(self, client: Client) -> None:
        for topic in self.topics.queries:
            if not await self._may(client, Listener(topic, self.desk.take)):
                raise LinkError(f"the broker does not let us subscribe to {topic}; see its ACL for mqtt.username")
        for listener in self._listeners:
            if not await self._may(client, listener):
                self._log.warning("broker denied a subscription", topic=listener.pattern, hint="see the broker's ACL")

    async def _may(self, client: Client, listener: Listener) -> bool:
        """Subscribe; False when the broker denies it."""
        how: dict[str, Any] = {"qos": listener.qos}
        if self._settings.protocol == "5":
            # retained questions only when the subscription is new: each is refused once, not on every connection
            kept = listener.kept
            how = {"options": SubscribeOptions(qos=listener.qos, noLocal=not kept, retainHandling=0 if kept else 1)}
        codes = await client.subscribe(listener.pattern, **how)
        return all(getattr(code, "value", code) < 128 for code in codes)

    async def _drained(self) -> None:
        """Return when all is sent. A broken connection cancels us through the TaskGroup."""
        while len(self.outbox):
            self._sent.clear()
            await self._sent.wait()

    def _say_offline(self) -> None:
        """The cameras too: whoever looks only at a camera's topic must not read `online` for ever."""
        for message in self.outbox.retained():
            if message.topic.endswith("/available"):
                self.publish(dataclasses.replace(message, payload=b"offline"))
        self.publish(Outgoing(self.topics.available, b"offline", retain=True))

    def _set_state(self, connected: bool, reason: str) -> None:
        if connected:
            self._up.set()
            self._log.info("broker connected", host=self._settings.host, port=self._settings.port)
        self.state.connected, self.state.reason = connected, reason

    # -- out -----------------------------------------------------------------------------------------------------

    async def _send(self, client: Client) -> None:
        """Publish what waits, up to WINDOW messages unacknowledged. Ends with the connection."""
        window = asyncio.Semaphore(WINDOW)
        async with asyncio.TaskGroup() as group:
            while True:
                await window.acquire()
                while (ticket := self.outbox.take()) is None:
                    self._wake.clear()
                    await self._wake.wait()
                # tasks start in the order they are made, and a publish is written before its first wait: order holds
                group.create_task(self._publish(client, ticket, window), name="mqtt-publish")

    async def _publish(self, client: Client, ticket: Ticket, window: asyncio.Semaphore) -> None:
        message = ticket.message
        properties = None
        if self._settings.protocol == "5":
            properties = publish_properties(ContentType=message.content_type, CorrelationData=message.correlation)
        refused = client.refused
        try:
            await client.publish(message.topic, message.payload, message.qos, message.retain, properties)
        except ValueError:  # not a topic or payload at all: it must not break every connection to come
            self.state.faults += 1
            self._log.exception("message cannot be published", topic=message.topic, bytes=len(message.payload))
        if client.refused != refused:
            self._log.warning("broker denied a publish", topic=message.topic, hint="see the broker's ACL")
        self.outbox.done(ticket)
        self._sent.set()
        window.release()

    # -- in ------------------------------------------------------------------------------------------------------

    async def _receive(self, client: Client) -> None:
        """Take questions over one by one. The task's top: a fault of ours costs one question, not the link."""
        async for message in client.messages:
            try:
                self._take(message)
            except Exception:  # noqa: BLE001 - see above
                self.state.faults += 1
                self._log.exception("question not taken", topic=str(message.topic), bytes=len(message.payload))
            finally:
                client.acknowledge(message)  # also after a fault: a question that breaks us must not come for ever

    def _take(self, message: aiomqtt.Message) -> None:
        properties = message.properties
        delivery = Delivery(
            topic=str(message.topic),
            payload=message.payload,
            retain=message.retain,
            reply_to=getattr(properties, "ResponseTopic", None),
            correlation=getattr(properties, "CorrelationData", None),
            expiry_s=getattr(properties, "MessageExpiryInterval", None),
        )
        for listener in self._listeners:
            if message.topic.matches(listener.pattern):
                listener.take(delivery)
                return
        if any(message.topic.matches(pattern) for pattern in self.topics.queries):
            self.desk.take(delivery)  # else: from a session of before, when we listened there


def _is_outside(error: BaseException) -> bool:
    """Whether a fault is the world's (broker, network, files) and not ours: no traceback needed."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_outside(inner) for inner in error.exceptions)
    return isinstance(error, aiomqtt.MqttError | LongwatchError | OSError)
