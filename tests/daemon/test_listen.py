"""What else the link listens to: listeners get theirs, the desk gets questions, and nothing else is anybody's."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from daemon.desk import Delivery
from daemon.mqtt import MqttLink
from tests.brokers import Mosquitto
from tests.daemon.link import FAST, WAIT_S, calling, echo, make_settings, until


async def test_listeners_get_their_topics_and_the_desk_its_own(any_broker: tuple[int, str]) -> None:
    port, protocol = any_broker
    got: list[Delivery] = []
    async with calling(port, protocol == "5") as caller:
        await caller.client.publish("other/kept", "before", 1, retain=True)
        link = MqttLink(make_settings(port, protocol=protocol), echo, random.Random(7), backoff=FAST)
        link.listen("other/kept", got.append, kept=True)
        link.listen("other/+/live", got.append)
        task = asyncio.create_task(link.run())
        try:
            await asyncio.wait_for(link.wait_connected(), WAIT_S)
            await until(lambda: got)
            assert (got[0].payload, got[0].retain) == (b"before", True)
            await caller.client.publish("other/a/live", "now", 1)
            await until(lambda: [item.payload for item in got if item.topic == "other/a/live"] == [b"now"])
            await caller.ask("who?")
            assert (await caller.answer())["answer"] == "you asked: who?"
            assert {item.topic for item in got} == {"other/kept", "other/a/live"}
        finally:
            await link.close(2.0)
            await task


async def test_what_an_old_session_still_brings_is_nobodys(broker: Mosquitto) -> None:
    async with calling(broker.port) as caller:
        for listens in (True, False):
            link = MqttLink(make_settings(broker.port), echo, random.Random(7), backoff=FAST)
            if listens:
                link.listen("other/live", lambda _: None)
            task = asyncio.create_task(link.run())
            await asyncio.wait_for(link.wait_connected(), WAIT_S)
            await caller.client.publish("other/live", "is this a question?", 1)
            await caller.ask(f'{{"question": "who?", "id": "q{listens}"}}')
            await caller.answer(f"longwatch/answer/q{listens}")
            assert not [message for message in caller.on("longwatch/answer/+") if b"this" in bytes(message.payload)]
            await link.close(2.0)
            await task


async def test_a_denied_listener_does_not_cost_the_connection(tmp_path: Path) -> None:
    acl = "user daemon\ntopic readwrite longwatch/#\n"
    broker = Mosquitto(tmp_path, {"daemon": "secret"}, acl=acl).start()
    try:
        settings = make_settings(broker.port, username="daemon", password="secret")
        link = MqttLink(settings, echo, random.Random(7), backoff=FAST)
        link.listen("homeassistant/status", lambda _: None)
        task = asyncio.create_task(link.run())
        await asyncio.wait_for(link.wait_connected(), WAIT_S)
        await link.close(2.0)
        await task
    finally:
        broker.stop()
