"""What the MQTT tests share: a running link and a caller who sees everything."""

from __future__ import annotations

import asyncio
import json
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiomqtt

from daemon.messages import Answer, Query
from daemon.mqtt import Backoff, MqttLink, Reply
from daemon.settings import Settings, parse

WAIT_S = 10.0
FAST = Backoff(0.05, 0.2)
NODELAY = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]


def make_settings(port: int, **mqtt: Any) -> Settings:
    raw = {"cameras": {"door": {"url": "door.mp4"}, "garage": {"url": "garage.mp4"}}, "mqtt": {"port": port, **mqtt}}
    return parse(raw, "test")


def echo(query: Query, reply: Reply) -> None:
    """Answers at once with the question."""
    reply.chunk("you ")
    reply.chunk("asked")
    reply.answer(Answer("ignored", "ok", f"you asked: {query.question}", asked_s=query.received_s))


@asynccontextmanager
async def running(
    settings: Settings, on_query: Callable[[Query, Reply], None] = echo, connected: bool = True
) -> AsyncIterator[MqttLink]:
    link = MqttLink(settings, on_query, random.Random(7), backoff=FAST)
    task = asyncio.create_task(link.run(), name="link")
    try:
        if connected:
            await asyncio.wait_for(link.wait_connected(), WAIT_S)
        yield link
    finally:
        await asyncio.wait_for(link.close(2.0), WAIT_S)
        await asyncio.wait_for(task, WAIT_S)


async def until(condition: Callable[[], Any], what: str = "condition") -> Any:
    """Poll until `condition()` is true and return it."""
    for _ in range(int(WAIT_S / 0.01)):
        if found := condition():
            return found
        await asyncio.sleep(0.01)
    raise AssertionError(f"not within {WAIT_S} s: {what}")


class Caller:
    """A client that keeps every message it got."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self.client = client
        self.seen: list[aiomqtt.Message] = []
        self._more = asyncio.Event()

    async def ask(self, payload: str | bytes, topic: str = "longwatch/query", **more: Any) -> None:
        await self.client.publish(topic, payload, 1, **more)

    def on(self, topic: str) -> list[aiomqtt.Message]:
        return [message for message in self.seen if message.topic.matches(topic)]

    async def next(self, topic: str, count: int = 1) -> aiomqtt.Message:
        """Message number `count` on `topic`, waiting for it."""
        await until(
            lambda: len(self.on(topic)) >= count, f"{count} on {topic}; seen {[str(m.topic) for m in self.seen]}"
        )
        return self.on(topic)[count - 1]

    async def answer(self, topic: str = "longwatch/answer/+", count: int = 1) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((await self.next(topic, count)).payload)
        return found

    async def heard(self, count: int) -> None:
        """Return when `count` messages came, without the delay of polling."""
        while len(self.seen) < count:
            self._more.clear()
            await self._more.wait()

    async def listen(self) -> None:
        async for message in self.client.messages:
            self.seen.append(message)
            self._more.set()


@asynccontextmanager
async def calling(port: int, version5: bool = True, topic: str = "#", **more: Any) -> AsyncIterator[Caller]:
    kind = aiomqtt.ProtocolVersion.V5 if version5 else aiomqtt.ProtocolVersion.V311
    async with aiomqtt.Client("127.0.0.1", port, protocol=kind, socket_options=NODELAY, **more) as client:
        caller = Caller(client)
        task = asyncio.create_task(caller.listen(), name="caller")
        try:
            await client.subscribe(topic, qos=1)
            yield caller
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
