"""The status as the broker holds it: retained messages of the daemon and its cameras."""

from __future__ import annotations

import asyncio
import contextlib
import random

import aiomqtt
from pydantic import ValidationError

from daemon.connect import Client, Session, explain, make_client
from daemon.overview import Overview
from daemon.settings import MqttSettings
from daemon.status import STATES_S, TIMEOUT_S, StatusError
from daemon.topics import Topics
from daemon.wire import CameraState, DaemonStatus


async def fetch(settings: MqttSettings, rng: random.Random) -> Overview:
    """What lies on `<p>/status` and `<p>/<cam>/state`. Raises StatusError."""
    topics = Topics(settings.prefix, settings.reply_prefixes)
    place = f"{settings.host}:{settings.port}"
    try:
        client = await make_client(settings, Session(f"{settings.client_id}-status-{rng.getrandbits(64):016x}"))
        async with asyncio.timeout(TIMEOUT_S):
            await client.__aenter__()
    except (aiomqtt.MqttError, OSError) as error:  # TimeoutError is an OSError
        raise StatusError(f"no broker: {explain(error, settings)}") from error
    try:
        found = await _read(client, topics)
    except aiomqtt.MqttError as error:
        raise StatusError(f"the broker went away: {explain(error, settings)}") from error
    finally:
        with contextlib.suppress(aiomqtt.MqttError):
            await client.__aexit__(None, None, None)
    found.pop(topics.forget_state, None)  # it only looks like a camera's
    presence = found.pop(topics.available, b"").decode("utf-8", "replace")
    if presence != "online":
        way_out = f"{topics.available} says {presence!r}" if presence else f"nothing ever wrote {topics.available}"
        raise StatusError(f"the broker at {place} answers, the daemon does not: {way_out}; start it")
    try:
        status = DaemonStatus.model_validate_json(found.pop(topics.status))
        states = [CameraState.model_validate_json(payload) for payload in found.values() if payload]
    except (KeyError, ValidationError) as error:
        raise StatusError(f"the broker at {place} holds no status that can be read; ask again in 10 s") from error
    return Overview(status=status, cameras=tuple(sorted(states, key=lambda state: state.camera)))


async def _read(client: Client, topics: Topics) -> dict[str, bytes]:
    """Topic -> newest payload of what is retained."""
    found: dict[str, bytes] = {}
    for topic in (topics.available, topics.status, topics.camera_state("+")):
        await client.subscribe(topic, qos=1)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(STATES_S):
            async for message in client.messages:
                client.acknowledge(message)
                found[str(message.topic)] = bytes(message.payload)
    return found
