"""The daemon as one device in Home Assistant: announced over MQTT (device discovery), taken back when not wanted.

    homeassistant/device/<object id>/config   retained, ours: the device and its components
    homeassistant/status                      `online` after its restart: we announce ourselves again

Format: home-assistant.io/integrations/mqtt, "Device discovery payload"; as a schema: docs/schemas.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import structlog

from daemon.desk import JPEG, JSON, Delivery
from daemon.messages import Answer, Evidence, Query
from daemon.mqtt import MqttLink
from daemon.outbox import Outgoing, Rank
from daemon.payloads import encode_answer
from daemon.settings import Settings
from daemon.topics import Topics
from daemon.wire import AnswerWire, LastAnswerWire
from stream import __version__

STATE_CHARS = 255  # Home Assistant refuses a longer state, and a longer text in its box
KEPT_WAIT_S = 2.0  # what the broker keeps of us comes at once, or there is nothing
_STATE = "(value_json | default({'state': 'offline', 'reason': 'removed'}))"  # the default: a state that is cleared
CONNECTION = f"{{{{ {{'offline': 'offline', 'paused': None}}.get({_STATE}.state, 'online') }}}}"  # paused: unknown
# Home Assistant keeps its own `state`, and drops an attribute of that name
CAUSE = f"{{{{ {{'camera_state': {_STATE}.state, 'reason': {_STATE}.reason}} | tojson }}}}"
# what changes at every look is left out or rounded: each change of an attribute is a row in its database
FOUND = (
    "{% if value_json is defined %}"
    "{% set sure = value_json.probability.values() | map('round', 1) | list %}"
    "{{ {'question': value_json.question, 'severity': value_json.severity, 'cameras': value_json.cameras,"
    " 'put': value_json.put, 'since': value_json.since, 'event': value_json.event,"
    " 'last_hour': value_json.last_hour, 'error': value_json.error,"
    " 'probability': sure | max if sure else none} | tojson }}"
    "{% else %}{}{% endif %}"
)
ERASED = "the last answer was erased"
JITTER_S = (0.5, 3.0)  # after its restart everybody announces himself

Component = dict[str, Any]


class Hass:
    """Keeps the announcement as the settings say. Make it before the link runs; call it on the event loop."""

    def __init__(
        self, settings: Settings, link: MqttLink, rng: random.Random, jitter_s: tuple[float, float] = JITTER_S
    ) -> None:
        self._link, self._rng, self._jitter_s = link, rng, jitter_s
        self._topics = link.topics
        self._loop = asyncio.get_running_loop()
        self._enabled = settings.home_assistant.enabled
        self._object_id = object_id(self._topics)
        self.topic = f"{settings.home_assistant.discovery_prefix}/device/{self._object_id}/config"
        self._gone: Component = {}  # components that were announced and are no more
        self._sent = b""
        self._heard = asyncio.Event()
        self._later: asyncio.TimerHandle | None = None
        self._shown: Evidence | None = None  # whose picture the broker keeps
        self._told: tuple[Query, Answer] | None = None  # what it shows as the last answer
        self._log = structlog.get_logger("longwatch.hass")
        self.configure(settings)
        link.listen(self.topic, self._take_kept, kept=True)
        if self._enabled:
            link.listen(settings.home_assistant.status_topic, self._take_status, kept=True)

    def configure(self, settings: Settings, watches: Iterable[str] | None = None) -> None:
        """These are the cameras and the standing questions now; `watches` None: those of the settings."""
        self._settings = settings
        self._watches = tuple(settings.watch if watches is None else watches)
        if self._sent:
            self._part_with(json.loads(self._sent)["cmps"])
            self.announce()

    async def run(self) -> None:
        """Announce ourselves, after a look at what was announced before. Ends then."""
        if not self._enabled:
            return
        await self._link.wait_connected()
        with suppress(TimeoutError):
            async with asyncio.timeout(KEPT_WAIT_S):
                await self._heard.wait()
        self.announce()

    def announce(self) -> None:
        """Publish what we are, retained. Components that are no more are named without their contents, which removes
        them; see "Device discovery payload" there."""
        components = device(self._settings, self._topics, self._watches)
        components["cmps"] = {**self._gone, **components["cmps"]}
        self._sent = json.dumps(components).encode()
        self._link.publish(Outgoing(self.topic, self._sent, retain=True, content_type=JSON))
        self._log.info("announced to Home Assistant", components=len(components["cmps"]) - len(self._gone))

    def answered(self, query: Query, answer: Answer) -> None:
        """Show `answer` and its best picture. Only where Home Assistant is wanted: whoever may read it, reads it."""
        if not self._enabled:
            return
        shown = next((item for item in answer.evidence if item.jpeg), None)
        if shown is not None:  # first: whoever reacts to the answer finds its picture there
            self._shown = shown
            self._link.publish(Outgoing(self._topics.last_evidence, shown.jpeg, 1, True, Rank.PICTURE, JPEG))
        self._told = query, answer
        payload = last_answer(query, answer, self._topics)
        self._link.publish(Outgoing(self._topics.last_answer, payload, retain=True, content_type=JSON))

    def hide(self, camera: str) -> None:
        """The broker keeps no picture of `camera`, nor one that an earlier run left: who knows what it shows."""
        if self._enabled and (self._shown is None or self._shown.camera == camera):
            self._shown = None
            self._link.publish(Outgoing(self._topics.last_evidence, b"", retain=True))

    def forget(self, camera: str | None, since_s: float, until_s: float) -> None:
        """A time was erased (`camera` None: of all): the broker keeps no picture of it, and no answer about it.

        What an earlier run left there may be of that time: it goes too. The answer is replaced, not only removed, so
        that Home Assistant shows it no more.
        """
        if not self._enabled:
            return
        shown, told = self._shown, self._told
        if shown is None or (camera in (None, shown.camera) and shown.span.overlaps(since_s, until_s)):
            self.hide(shown.camera if shown is not None else "")
        if told is None or told[1].rests_on(told[0].cameras, camera, since_s, until_s):
            self._told = None
            payload = last_answer(Query("", ""), Answer("", "expired", ERASED), self._topics)
            self._link.publish(Outgoing(self._topics.last_answer, payload, retain=True, content_type=JSON))

    def _take_kept(self, delivery: Delivery) -> None:
        """Our own announcement, of an earlier run or of this one."""
        self._heard.set()
        if not delivery.payload or delivery.payload == self._sent:
            return
        if not self._enabled:
            self._log.info("taken back from Home Assistant", topic=self.topic)
            for topic in (self.topic, self._topics.last_answer, self._topics.last_evidence):
                self._link.publish(Outgoing(topic, b"", retain=True))
        elif not self._sent:
            try:
                self._part_with(json.loads(delivery.payload)["cmps"])
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                self._log.warning("what the broker keeps of us cannot be read; it is replaced", topic=self.topic)

    def _part_with(self, announced: dict[str, Component]) -> None:
        """Of what was `announced`, remember what is no more; what was removed already has no contents."""
        now = device(self._settings, self._topics, self._watches)["cmps"]
        for name, component in announced.items():
            if name not in now and "unique_id" in component:
                self._gone[name] = {"p": component["p"]}
        self._gone = {name: component for name, component in self._gone.items() if name not in now}

    def _take_status(self, delivery: Delivery) -> None:
        """Home Assistant says `online` or `offline`."""
        if delivery.payload == b"online" and self._sent:
            if self._later is not None:
                self._later.cancel()
            self._later = self._loop.call_later(self._rng.uniform(*self._jitter_s), self.announce)


def object_id(topics: Topics) -> str:
    """Names the device; two daemons at one broker have two prefixes."""
    return topics.prefix.replace("/", "_")


def device(settings: Settings, topics: Topics, watches: Iterable[str] = ()) -> dict[str, Any]:
    """The announcement: device, origin, components by name, and what makes all of them unavailable."""
    prefix = object_id(topics)
    components = _parts(settings, topics)
    for name, camera in settings.cameras.items():
        if camera.enabled:
            components.update(_camera(name, topics))
    for name in watches:
        components[f"watch_{name}"] = {
            "p": "binary_sensor",
            "name": _title(name),
            "state_topic": f"{topics.prefix}/watch/{name}/state",
            "value_template": "{{ value_json.state }}",
            "json_attributes_topic": f"{topics.prefix}/watch/{name}/state",
            "json_attributes_template": FOUND,
        }
    for name, component in components.items():
        component["unique_id"] = f"{prefix}_{name}"
    return {
        "dev": {"ids": [prefix], "name": settings.home_assistant.device_name, "mf": "Longwatch", "sw": __version__},
        "o": {"name": "Longwatch", "sw": __version__},
        "avty": [{"topic": topics.available}],
        "cmps": components,
    }


def _parts(settings: Settings, topics: Topics) -> dict[str, Component]:
    """What there is once."""
    return {
        "last_answer": {
            "p": "sensor",
            "name": "Last answer",
            "icon": "mdi:comment-text-outline",
            "state_topic": topics.last_answer,
            "value_template": "{{ value_json.text }}",
            "json_attributes_topic": topics.last_answer,
        },
        "last_evidence": {
            "p": "image",
            "name": "Last evidence",
            "image_topic": topics.last_evidence,
            "content_type": JPEG,
        },
        "ask": {
            "p": "text",
            "name": "Ask",
            "icon": "mdi:comment-question-outline",
            "command_topic": topics.query,
            "min": 1,
            "max": min(STATE_CHARS, settings.answer.max_question_chars),
            "qos": 1,
        },
    }


def _camera(name: str, topics: Topics) -> dict[str, Component]:
    """What there is per camera."""
    return {
        f"camera_{name}_connection": {
            "p": "binary_sensor",
            "name": f"{_title(name)} connection",
            "device_class": "connectivity",
            "entity_category": "diagnostic",
            "state_topic": topics.camera_state(name),
            "value_template": CONNECTION,
            "payload_on": "online",
            "payload_off": "offline",
            "json_attributes_topic": topics.camera_state(name),
            "json_attributes_template": CAUSE,
        },
        f"camera_{name}_enabled": {
            "p": "switch",
            "name": f"{_title(name)} watched",
            "icon": "mdi:cctv",
            "command_topic": topics.enabled_set(name),
            "state_topic": topics.enabled_state(name),
            "qos": 1,
            "retain": True,  # the camera stays off over our restart
        },
    }


def last_answer(query: Query, answer: Answer, topics: Topics) -> bytes:
    """`answer` as `<p>/last_answer` shows it."""
    wire = AnswerWire.model_validate_json(encode_answer(answer, topics))
    line = " ".join(wire.answer.split()) or wire.status
    text = line if len(line) <= STATE_CHARS else f"{line[: STATE_CHARS - 1]}…"
    shown = LastAnswerWire(**wire.model_dump(by_alias=True), question=query.question, text=text)
    return shown.model_dump_json(by_alias=True).encode()


def _title(name: str) -> str:
    return name.replace("_", " ").strip().capitalize() or name
