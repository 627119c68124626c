"""The asking side, and how long a question takes."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable

import pytest

from daemon.ask import NoAnswer, NoBroker, NoDaemon, Question, ask
from daemon.demo.broker import EmbeddedBroker, free_port
from daemon.messages import Answer, Evidence, Query
from daemon.mqtt import Reply
from stream.types import Span
from tests.brokers import Mosquitto
from tests.daemon.link import calling, make_settings, running


def picture(query: Query, reply: Reply) -> None:
    evidence = (Evidence("door", Span(1.0, 2.0, 2), 0.75, b"\xff\xd8picture"),)
    reply.answer(Answer(query.id, "ok", "a parcel", evidence=evidence))


async def test_latency(any_broker: tuple[int, str]) -> None:
    port, protocol = any_broker
    times_ms = []
    async with running(make_settings(port, protocol=protocol)), calling(port, False, "longwatch/answer/+") as caller:
        for index in range(150):
            began_s = time.perf_counter()
            await caller.ask(json.dumps({"question": "who?", "id": f"q{index}", "stream": False}))
            await caller.heard(index + 1)
            times_ms.append((time.perf_counter() - began_s) * 1000)
    times_ms.sort()
    print(f"ask -> answer over {protocol}: p50 {times_ms[75]:.2f} ms, p99 {times_ms[148]:.2f} ms")  # noqa: T201
    assert times_ms[75] < 40.0, "Nagle's algorithm is back"


async def test_ask(any_broker: tuple[int, str]) -> None:
    port, protocol = any_broker
    settings = make_settings(port, protocol=protocol)
    chunks: list[str] = []
    async with running(settings):
        question = Question("who?", ("door",), 1.0, 2.0)
        answer = await ask(settings.mqtt, question, random.Random(1), chunks.append)
    assert answer.text == "you asked: who?"
    assert chunks == ["you ", "asked"]


async def test_ask_brings_the_pictures(broker: Mosquitto) -> None:
    settings = make_settings(broker.port)
    async with running(settings, picture):
        answer = await ask(settings.mqtt, Question("what?"), random.Random(1))
    assert answer.evidence == (Evidence("door", Span(1.0, 2.0, 2), 0.75, b"\xff\xd8picture"),)


async def test_ask_nobody(broker: Mosquitto) -> None:
    settings = make_settings(broker.port)
    with pytest.raises(NoBroker, match="nobody listens"):
        await ask(make_settings(free_port()).mqtt, Question("who?"), random.Random(1))
    with pytest.raises(NoDaemon, match="never wrote longwatch/available"):
        await ask(settings.mqtt, Question("who?"), random.Random(1))
    ignore: Callable[[Query, Reply], None] = lambda query, reply: None  # noqa: E731
    async with running(settings, ignore):
        with pytest.raises(NoAnswer, match=r"within 0\.3 s"):
            await ask(settings.mqtt, Question("who?", timeout_s=0.3), random.Random(1))
    with pytest.raises(NoDaemon, match="is offline"):
        await ask(settings.mqtt, Question("who?"), random.Random(1))


def test_the_embedded_broker_leaves_nothing(
    recwarn: pytest.WarningsRecorder, capfd: pytest.CaptureFixture[str]
) -> None:
    with EmbeddedBroker() as first:
        port = first.port

        async def once() -> None:
            settings = make_settings(port, protocol="3.1.1")
            async with running(settings):
                assert (await ask(settings.mqtt, Question("who?"), random.Random(1))).status == "ok"

        asyncio.run(once())
    EmbeddedBroker(port).start().stop()  # the port is free again
    first.stop()
    assert not recwarn.list
    assert "amqtt" not in "".join(capfd.readouterr())
