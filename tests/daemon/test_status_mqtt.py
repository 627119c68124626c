"""The status over a broker: what lies there is read, and what does not is said."""

from __future__ import annotations

import asyncio
import io
import random

import pytest
from rich.console import Console

from daemon import status, status_mqtt
from daemon.connect import Session, make_client
from daemon.demo.broker import free_port
from daemon.settings import MqttSettings, Settings, parse
from daemon.status import StatusError
from tests.brokers import Mosquitto
from tests.daemon.looks import make_overview


async def put(settings: MqttSettings, topic: str, payload: str) -> None:
    client = await make_client(settings, Session("writer"))
    async with client:
        await client.publish(f"longwatch/{topic}", payload, 1, retain=True)


async def test_states_are_found_and_their_absence_is_said(broker: Mosquitto) -> None:
    settings, rng = MqttSettings(port=broker.port), random.Random(1)
    with pytest.raises(StatusError, match="nothing ever wrote longwatch/available; start it"):
        await status_mqtt.fetch(settings, rng)
    seen = make_overview()
    await put(settings, "available", "online")
    with pytest.raises(StatusError, match="holds no status that can be read"):
        await status_mqtt.fetch(settings, rng)
    await put(settings, "status", seen.status.model_dump_json())
    for camera in seen.cameras:
        await put(settings, f"{camera.camera}/state", camera.model_dump_json())
    found = await status_mqtt.fetch(settings, rng)
    assert (found.status, found.cameras, found.broker) == (seen.status, seen.cameras, None)
    await put(settings, "available", "offline")
    with pytest.raises(StatusError, match="longwatch/available says 'offline'; start it"):
        await status_mqtt.fetch(settings, rng)


def at(broker: Mosquitto | None) -> Settings:
    """A configuration whose HTTP port is nobody's."""
    port = free_port() if broker is None else broker.port
    raw = {"cameras": {"door": {"url": "x"}}, "http": {"port": free_port()}, "mqtt": {"port": port}}
    return parse(raw, "test")


async def test_the_broker_is_asked_where_http_does_not_answer(broker: Mosquitto) -> None:
    settings, seen = at(broker), make_overview()
    await put(settings.mqtt, "available", "online")
    await put(settings.mqtt, "status", seen.status.model_dump_json())
    await put(settings.mqtt, "door/state", seen.cameras[0].model_dump_json())
    await put(settings.mqtt, "forget/state", '{"v": 1, "id": "f1", "state": "done", "at": 5}')
    found = await asyncio.to_thread(status.fetch, settings)
    assert (found.status, found.cameras) == (seen.status, seen.cameras[:1])
    (problem,) = status.problems(found)
    assert f"{settings.http.url}/overview: Connection refused" in problem
    with io.StringIO() as target:
        assert await asyncio.to_thread(status.run, settings, console=Console(file=target, width=200)) == 1
        assert "door" in target.getvalue()


def test_where_neither_answers_both_are_said() -> None:
    with pytest.raises(StatusError, match=r"/overview: Connection refused; .*; no broker: .*nobody listens there"):
        status.fetch(at(None))


async def test_no_broker_is_said() -> None:
    with pytest.raises(StatusError, match=r"no broker: .*nobody listens there"):
        await status_mqtt.fetch(MqttSettings(port=free_port()), random.Random(1))
