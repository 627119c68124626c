"""Everything the daemon publishes in a short run fits the JSON Schema of its topic; so does what it accepts."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.system.client import Got
from tests.system.rig import Clips, Rig

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
OURS, DOCS = ROOT / "daemon" / "schemas", ROOT / "docs" / "schemas"
ONLINE, SWITCH = {"enum": ["online", "offline"]}, {"enum": ["ON", "OFF"]}
JPEG = "jpeg"
# a schema file, files of which one must fit, a schema of the text, or a picture
KINDS: tuple[tuple[str, Path | tuple[Path, ...] | dict[str, Any] | str], ...] = (
    (r"longwatch/(\w+/)?available", ONLINE),
    (r"longwatch/\w+/enabled/(set|state)", SWITCH),
    (r"longwatch/watch/\w+/set", OURS / "watch.json"),
    (r"longwatch/watch/\w+/state", OURS / "watch_state.json"),
    (r"longwatch/events", (OURS / "event.json", OURS / "frigate.json")),
    (r"longwatch/status", OURS / "status.json"),
    (r"longwatch/(street|road)/state", OURS / "state.json"),
    (r"longwatch/(street|road)/snapshot", JPEG),
    (r"longwatch/evidence/[^/]+/\d+", JPEG),
    (r"longwatch/answer/[^/]+", OURS / "answer.json"),
    (r"longwatch/answer/[^/]+/chunk", OURS / "chunk.json"),
    (r"longwatch/(\w+/)?query", OURS / "query.json"),
    (r"longwatch/forget", OURS / "forget.json"),
    (r"longwatch/forget/state", OURS / "forget_state.json"),
    (r"longwatch/last_answer", OURS / "last_answer.json"),
    (r"longwatch/last_evidence", JPEG),
    (r"homeassistant/device/longwatch/config", DOCS / "home_assistant_device.json"),
)
FOREIGN = ("frigate/events", "homeassistant/status")  # what this test publishes for others


def check(got: Got) -> str:
    """The pattern of its topic, after its payload was checked."""
    pattern, kind = next((item for item in KINDS if re.fullmatch(item[0], got.topic)), (None, None))
    assert pattern is not None, f"{got.topic} is in no table of topics"
    assert kind is not None
    if not got.payload:  # clears a retained one
        return pattern
    if kind == JPEG:
        assert (got.payload[:2], got.payload[-2:]) == (b"\xff\xd8", b"\xff\xd9"), got.topic
    elif isinstance(kind, Path | tuple):
        text = got.payload.decode()
        plain = got.topic.endswith("query") and not text.startswith("{")
        files = [kind] if isinstance(kind, Path) else kind
        checks = [jsonschema.Draft202012Validator(json.loads(file.read_text(encoding="utf-8"))) for file in files]
        payload = {"question": text} if plain else json.loads(text)
        if not any(each.is_valid(payload) for each in checks):
            checks[0].validate(payload)
    else:
        jsonschema.validate(got.payload.decode(), kind)
    return pattern


def frigate_event(kind: str, camera: str) -> str:
    now_s = time.time()
    end_s = now_s if kind == "end" else None
    after = {"id": f"{now_s:.6f}-abc", "camera": camera, "label": "car", "top_score": 0.8, "start_time": now_s - 5.0}
    return json.dumps({"type": kind, "before": after, "after": {**after, "end_time": end_s, "false_positive": False}})


def test_every_payload_fits_its_schema(rig: Rig, clips: Clips) -> None:
    caller = rig.caller
    rig.camera("street", clips.street)
    rig.camera("road", clips.road)
    rig.more = {
        "mqtt": {"port": rig.broker.port, "forget": True},
        "home_assistant": {"enabled": True},
        "frigate": {"enabled": True, "cameras": {"front": "street"}, "ask": "what is the {label} doing?"},
    }
    rig.start("street", "road")
    caller.wait("homeassistant/device/longwatch/config")

    caller.publish("longwatch/watch/car/set", '{"question": "is there a car?", "cameras": ["street"]}')
    caller.wait("longwatch/watch/car/state")
    caller.publish("longwatch/query", "what is visible now?")  # the ask box
    told = caller.wait("longwatch/last_answer").json()
    assert told["question"] == "what is visible now?"
    caller.ask("a1", "what passed first?", evidence=2)
    caller.answer("a1")
    caller.publish("longwatch/nowhere/query", '{"question": "who?", "id": "a2"}')
    assert caller.answer("a2")["status"] == "error"
    for kind in ("new", "end"):
        since = caller.mark()
        caller.publish("frigate/events", frigate_event(kind, "front"))
        said = caller.wait("longwatch/events", lambda got: got.json()["type"] == "answer", since).json()
        assert (said["moment"], said["camera"], said["frigate_camera"]) == (kind, "street", "front")
        assert said["question"] == "what is the car doing?"
    caller.publish("longwatch/forget", '{"id": "f1", "camera": "road", "last": "1h"}')
    caller.wait("longwatch/forget/state", lambda got: got.json()["state"] == "done")
    since = caller.mark()
    caller.publish("homeassistant/status", "online")
    caller.wait("homeassistant/device/longwatch/config", since=since)
    caller.publish("longwatch/road/enabled/set", "OFF")
    caller.says("longwatch/road/enabled/state", "OFF")
    rig.urls.pop("road")
    rig.configure()
    since = caller.mark()
    assert rig.daemon is not None
    rig.daemon.send(signal.SIGHUP)
    caller.wait("homeassistant/device/longwatch/config", lambda got: b'{"p": "switch"}' in got.payload, since)
    caller.wait("longwatch/road/enabled/state", lambda got: not got.payload, since)

    seen = {check(got) for got in list(caller.seen) if got.topic not in FOREIGN}
    missing = {pattern for pattern, _ in KINDS} - seen
    assert not missing, f"not seen in this run: {missing}"
