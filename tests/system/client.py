"""A caller that keeps every message, survives broker restarts, and waits for what should come."""

from __future__ import annotations

import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

WAIT_S = 60.0  # for anything that should come at once: the machine may be busy


@dataclass(frozen=True)
class Got:
    """One message, in the order of arrival."""

    topic: str
    payload: bytes
    retain: bool
    correlation: bytes | None
    at_s: float = field(default_factory=time.monotonic)  # monotonic

    def json(self) -> Any:
        return json.loads(self.payload)


class Caller:
    """An MQTT client with a persistent session: a publish waits for the broker's return, and so do our answers."""

    _numbers = itertools.count()

    def __init__(self, port: int, version5: bool = True) -> None:
        self.version5 = version5
        self.seen: list[Got] = []
        self.errors: list[str] = []
        self._news = threading.Condition()
        self._up = threading.Event()
        self._port = port
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"caller-{next(self._numbers)}",
            protocol=paho.MQTTv5 if version5 else paho.MQTTv311,
            **({} if version5 else {"clean_session": False}),
        )
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = lambda *_: self._up.clear()
        self._client.on_message = self._on_message
        self._client.on_socket_open = lambda _c, _u, sock: sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._client.reconnect_delay_set(1, 2)
        self._client.max_inflight_messages_set(100)

    def __enter__(self) -> Self:
        more: dict[str, Any] = {}
        if self.version5:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = 3600
            more = {"clean_start": False, "properties": properties}
        self._client.connect("127.0.0.1", self._port, keepalive=10, **more)
        self._client.loop_start()
        assert self._up.wait(WAIT_S), "the broker does not take us"
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, client: paho.Client, *_: object) -> None:
        client.subscribe("#", 1)
        self._up.set()

    def _on_message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        correlation = getattr(message.properties, "CorrelationData", None)
        got = Got(message.topic, message.payload, message.retain, correlation)
        with self._news:
            self.seen.append(got)
            self._news.notify_all()

    # -- looking and waiting -----------------------------------------------------------------------------------------

    def on(self, topic: str, since: int = 0) -> list[Got]:
        """What came on a topic (or filter), from message number `since` on."""
        with self._news:
            return [got for got in self.seen[since:] if paho.topic_matches_sub(topic, got.topic)]

    def mark(self) -> int:
        """The number of the next message, for `since`."""
        with self._news:
            return len(self.seen)

    def wait(
        self, topic: str, fits: Callable[[Got], bool] = lambda _: True, since: int = 0, timeout_s: float = WAIT_S
    ) -> Got:
        """The first message on `topic` from number `since` on that fits, waiting for it."""
        end_s = time.monotonic() + timeout_s
        at = since
        with self._news:
            while True:
                for got in itertools.islice(self.seen, at, None):
                    if paho.topic_matches_sub(topic, got.topic) and fits(got):
                        return got
                at = len(self.seen)
                left_s = end_s - time.monotonic()
                if left_s <= 0:
                    last = [got.payload[:200] for got in self.seen if paho.topic_matches_sub(topic, got.topic)][-3:]
                    raise AssertionError(f"not within {timeout_s:g} s on {topic}; the last there: {last}")
                self._news.wait(left_s)

    def says(self, topic: str, payload: str, since: int = 0, timeout_s: float = WAIT_S) -> Got:
        """The first message on `topic` with exactly this payload."""
        return self.wait(topic, lambda got: got.payload == payload.encode(), since, timeout_s)

    # -- asking ------------------------------------------------------------------------------------------------------

    def publish(self, topic: str, payload: str | bytes, wait: bool = True, retain: bool = False, **v5: Any) -> None:
        """QoS 1; returns when the broker has acknowledged it. `v5`: properties by their names in paho."""
        properties = None
        if v5:
            properties = Properties(PacketTypes.PUBLISH)
            for name, value in v5.items():
                setattr(properties, name, value)
        info = self._client.publish(topic, payload, 1, retain, properties)
        if wait:
            info.wait_for_publish(WAIT_S)
            assert info.is_published(), f"the broker did not acknowledge {topic}"

    def ask(self, query_id: str, question: str = "what is visible now?", wait: bool = True, **more: Any) -> None:
        """A JSON question to `longwatch/query`."""
        self.publish("longwatch/query", json.dumps({"id": query_id, "question": question, **more}), wait)

    def answers(self, query_id: str) -> list[Any]:
        """Every answer to an id so far, on its usual topic."""
        return [got.json() for got in self.on(f"longwatch/answer/{query_id}")]

    def answer(self, query_id: str, timeout_s: float = WAIT_S) -> Any:
        """The first answer to an id."""
        return self.wait(f"longwatch/answer/{query_id}", timeout_s=timeout_s).json()

    def text(self, topic: str) -> str:
        """The chunks below an answer's topic, put together. Their numbers must be 0, 1, 2, ..."""
        chunks = [got.json() for got in self.on(f"{topic}/chunk")]
        assert [chunk["seq"] for chunk in chunks] == list(range(len(chunks)))
        return "".join(chunk["text"] for chunk in chunks)

    def state(self, camera: str, fits: Callable[[Any], bool] = lambda _: True, **more: Any) -> Any:
        """The first state of a camera that fits; by default whatever was published last."""
        return self.wait(f"longwatch/{camera}/state", lambda got: fits(got.json()), **more).json()

    def payloads(self) -> Iterator[bytes]:
        with self._news:
            yield from (got.topic.encode() + b" " + got.payload for got in self.seen)
