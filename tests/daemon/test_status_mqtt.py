"""The status over a broker: what lies there is read, and what does not is said."""

from __future__ import annotations

import random

import pytest

from daemon import status_mqtt
from daemon.connect import Session, make_client
from daemon.demo.broker import free_port
from daemon.settings import MqttSettings
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


async def test_no_broker_is_said() -> None:
    with pytest.raises(StatusError, match=r"no broker: .*nobody listens there"):
        await status_mqtt.fetch(MqttSettings(port=free_port()), random.Random(1))
