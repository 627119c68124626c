"""The device in Home Assistant: valid whatever the names, announced again on its birth, and taken back."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment

from daemon.hass import ERASED, Hass, device, last_answer
from daemon.messages import Answer, Evidence, Query
from daemon.mqtt import MqttLink
from daemon.settings import RESERVED_CAMERA_NAMES, Settings, parse
from daemon.topics import Topics
from daemon.wire import LastAnswerWire, WatchStateWire
from stream.types import Span
from tests.brokers import Mosquitto
from tests.daemon.link import FAST, WAIT_S, Caller, calling, echo, until

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "homeassistant/device/longwatch/config"


def check(payload: Any) -> None:
    """Against the schema transcribed from Home Assistant's documentation."""
    text = (ROOT / "docs" / "schemas" / "home_assistant_device.json").read_text(encoding="utf-8")
    jsonschema.Draft202012Validator(json.loads(text)).validate(payload)


def settings_with(*cameras: str, port: int = 1883, enabled: bool = True, **more: Any) -> Settings:
    raw = {
        "cameras": {name: {"url": f"{name}.mp4"} for name in cameras},
        "mqtt": {"port": port},
        "home_assistant": {"enabled": enabled},
    }
    return parse({**raw, **more}, "test")


NAMES = st.from_regex(r"[a-z0-9_]{1,40}", fullmatch=True).filter(lambda name: name not in RESERVED_CAMERA_NAMES)
PREFIXES = st.from_regex(r"[A-Za-z0-9_-]{1,20}(/[A-Za-z0-9_-]{1,20}){0,2}", fullmatch=True)


@settings(max_examples=50, deadline=None)
@given(cameras=st.sets(NAMES, min_size=1, max_size=6), watches=st.sets(NAMES, max_size=6), prefix=PREFIXES)
def test_every_announcement_is_valid(cameras: set[str], watches: set[str], prefix: str) -> None:
    payload = device(settings_with(*cameras), Topics(prefix), sorted(watches))
    check(payload)
    parts = payload["cmps"]
    assert len(parts) == 3 + 2 * len(cameras) + len(watches), "two components got one name"
    assert len({part["unique_id"] for part in parts.values()}) == len(parts)
    topics = [value for part in parts.values() for key, value in part.items() if key.endswith("_topic")]
    assert all(topic.startswith(f"{prefix}/") for topic in topics)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw: raw.pop("o"),
        lambda raw: raw["dev"].pop("ids"),
        lambda raw: raw["cmps"]["ask"].pop("unique_id"),
        lambda raw: raw["cmps"]["ask"].update(p="textbox"),
        lambda raw: raw["cmps"]["ask"].update(max=256),
        lambda raw: raw["cmps"]["ask"].update(command_topic="a/#"),
        lambda raw: raw["cmps"]["last_answer"].pop("state_topic"),
        lambda raw: raw["cmps"]["last_evidence"].pop("image_topic"),
        lambda raw: raw["cmps"]["camera_door_connection"].update(device_class="connection"),
        lambda raw: raw["cmps"]["camera_door_enabled"].update(comand_topic="a"),
    ],
)
def test_the_schema_can_fail(spoil: Any) -> None:
    payload = device(settings_with("door"), Topics("longwatch"))
    check(payload)
    spoil(payload)
    with pytest.raises(jsonschema.ValidationError):
        check(payload)


def test_cameras_that_are_not_watched_are_not_announced() -> None:
    raw = {"cameras": {"door": {"url": "a"}, "yard": {"url": "b", "enabled": False}}}
    parts = device(parse(raw, "test"), Topics("longwatch"))["cmps"]
    assert [name for name in parts if name.startswith("camera_")] == ["camera_door_connection", "camera_door_enabled"]


@pytest.mark.parametrize("text", ["", "  \n ", "a car", "x" * 255, "x" * 256, "two\nlines " * 60, "ü" * 300])
def test_the_state_is_one_short_line(text: str) -> None:
    payload = last_answer(Query("a", "what?"), Answer("a", "ok", text), Topics("longwatch"))
    wire = LastAnswerWire.model_validate_json(payload)
    assert 1 <= len(wire.text) <= 255
    assert "\n" not in wire.text
    assert wire.answer == text
    assert wire.question == "what?"


# -- at a broker -----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def announced(settings: Settings) -> AsyncIterator[Hass]:
    """The link with its device, as the app runs them."""
    link = MqttLink(settings, echo, random.Random(7), backoff=FAST)
    hass = Hass(settings, link, random.Random(7), jitter_s=(0.0, 0.01))
    tasks = [asyncio.create_task(link.run()), asyncio.create_task(hass.run())]
    try:
        await asyncio.wait_for(link.wait_connected(), WAIT_S)
        yield hass
    finally:
        await asyncio.wait_for(link.close(2.0), WAIT_S)
        await asyncio.wait_for(asyncio.gather(*tasks), WAIT_S)


def components(caller: Caller) -> dict[str, Any]:
    """Of the newest announcement, which must be valid and retained-to-be."""
    payload = json.loads(caller.on(CONFIG)[-1].payload)
    check(payload)
    found: dict[str, Any] = payload["cmps"]
    return found


async def test_birth_and_a_camera_that_leaves(broker: Mosquitto) -> None:
    async with calling(broker.port) as caller:
        async with announced(settings_with("door", "yard", port=broker.port)) as hass:
            await caller.next(CONFIG)
            assert "camera_yard_enabled" in components(caller)
            await caller.client.publish("homeassistant/status", "offline", 1)
            await caller.client.publish("homeassistant/status", "online", 1)
            await caller.next(CONFIG, 2)
            hass.configure(settings_with("door", port=broker.port))
            await caller.next(CONFIG, 3)
            assert components(caller)["camera_yard_enabled"] == {"p": "switch"}  # which removes it
            assert "unique_id" in components(caller)["camera_door_enabled"]
            hass.configure(settings_with("door", "yard", port=broker.port))
            await caller.next(CONFIG, 4)
            assert "unique_id" in components(caller)["camera_yard_enabled"]
        count = len(caller.on(CONFIG))
        async with announced(settings_with("yard", port=broker.port)):  # a new run remembers what the last one said
            await caller.next(CONFIG, count + 1)
            assert components(caller)["camera_door_connection"] == {"p": "binary_sensor"}
        async with announced(settings_with("yard", port=broker.port)):
            await caller.next(CONFIG, count + 2)
            assert "camera_door_connection" not in components(caller)
        async with announced(settings_with("yard", port=broker.port, enabled=False)):
            await until(lambda: caller.on(CONFIG)[-1].payload == b"")
    async with calling(broker.port, topic=CONFIG) as late:
        await asyncio.sleep(0.2)
        assert late.seen == []  # the broker keeps nothing of us


async def test_what_is_kept_of_us_may_be_anything(broker: Mosquitto) -> None:
    async with calling(broker.port) as caller:
        for kept in ("no JSON", "[]", '{"cmps": []}', '{"cmps": {"a": {"unique_id": "x"}}}', '{"cmps": {"a": 5}}'):
            await caller.client.publish(CONFIG, kept, 1, retain=True)
            count = len(caller.on(CONFIG))
            async with announced(settings_with("door", port=broker.port)):
                await until(lambda count=count: len(caller.on(CONFIG)) > count)  # type: ignore[misc]
                await until(lambda: b"camera_door_enabled" in bytes(caller.on(CONFIG)[-1].payload))


async def test_the_last_answer_and_its_picture(broker: Mosquitto) -> None:
    async with calling(broker.port) as caller, announced(settings_with("door", port=broker.port)) as hass:
        shown = Evidence("door", Span(10.0, 20.0, 2), 0.75, b"\xff\xd8picture")
        hass.answered(Query("a", "what?"), Answer("a", "ok", "a parcel", evidence=(shown,)))
        wire = LastAnswerWire.model_validate_json((await caller.next("longwatch/last_answer")).payload)
        assert (wire.question, wire.text, wire.status) == ("what?", "a parcel", "ok")
        names = [str(message.topic) for message in caller.seen]
        assert names.index("longwatch/last_evidence") < names.index("longwatch/last_answer")
        hass.forget("door", 100.0, 200.0)
        hass.forget("yard", 0.0, 200.0)
        hass.forget("door", 20.0, 200.0)  # touches it
        await caller.next("longwatch/last_evidence", 2)
        assert [message.payload for message in caller.on("longwatch/last_evidence")] == [b"\xff\xd8picture", b""]
        wire = LastAnswerWire.model_validate_json((await caller.next("longwatch/last_answer", 2)).payload)
        assert (wire.question, wire.text, wire.evidence) == ("", ERASED, ())


async def test_a_picture_of_an_earlier_run_goes_with_any_erased_time(broker: Mosquitto) -> None:
    async with calling(broker.port) as caller:
        await caller.client.publish("longwatch/last_evidence", b"\xff\xd8old", 1, retain=True)
        async with announced(settings_with("door", port=broker.port)) as hass:
            hass.forget("door", 1.0, 2.0)
            await until(lambda: caller.on("longwatch/last_evidence")[-1].payload == b"")
            wire = LastAnswerWire.model_validate_json((await caller.next("longwatch/last_answer")).payload)
            assert wire.text == ERASED


async def test_without_home_assistant_answers_are_not_shown_around(broker: Mosquitto) -> None:
    quiet = settings_with("door", port=broker.port, enabled=False)
    async with calling(broker.port) as caller, announced(quiet) as hass:
        hass.answered(Query("a", "what?"), Answer("a", "ok", "a parcel"))
        await caller.ask("who?")
        await caller.answer()
        assert not caller.on("longwatch/last_answer")
        assert not caller.on(CONFIG)


@pytest.mark.parametrize(
    ("state", "shown"), [("online", "online"), ("degraded", "online"), ("offline", "offline"), ("paused", "None")]
)
def test_a_camera_that_is_paused_is_not_called_disconnected(state: str, shown: str) -> None:
    """As Home Assistant renders it: `None` is unknown there, neither on nor off."""
    part = device(settings_with("door"), Topics("longwatch"))["cmps"]["camera_door_connection"]
    assert part["state_topic"] == "longwatch/door/state"
    value: dict[str, Any] = {"state": state, "reason": "schedule", "fps": 3}
    environment = ImmutableSandboxedEnvironment()
    assert environment.from_string(part["value_template"]).render(value_json=value) == shown
    attributes = environment.from_string(part["json_attributes_template"]).render(value_json=value)
    assert json.loads(attributes) == {"camera_state": state, "reason": "schedule"}
    assert environment.from_string(part["value_template"]).render() == "offline", "its state was cleared"


def test_a_standing_question_does_not_fill_the_database_of_home_assistant() -> None:
    """Each change of an attribute is a row there, and every look at a frame gives other numbers."""
    part = device(settings_with("door"), Topics("longwatch"), ["gate"])["cmps"]["watch_gate"]
    template = ImmutableSandboxedEnvironment().from_string(part["json_attributes_template"])

    def shown(**more: Any) -> Any:
        wire = WatchStateWire(name="gate", state="OFF", question="is the gate open?", **more)
        return json.loads(template.render(value_json=json.loads(wire.model_dump_json())))

    first = shown(probability={"door": 0.112, "yard": 0.72}, evaluated_at=10.0, missed=1)
    assert (first["probability"], first["question"], first["since"]) == (0.7, "is the gate open?", None)
    assert first == shown(probability={"door": 0.324, "yard": 0.691}, evaluated_at=20.0, missed=3)
    assert first != shown(probability={"door": 0.112, "yard": 0.92})
    assert shown()["probability"] is None
