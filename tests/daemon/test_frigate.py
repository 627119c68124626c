"""Frigate's events: what is asked about them, what is not, and that no event can hurt."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.desk import Delivery
from daemon.frigate import MAX_WAITING, Frigate, read_event
from daemon.job import Sinks
from daemon.messages import Answer, Evidence, Query
from daemon.metrics import Counters
from daemon.mqtt import MqttLink
from daemon.outbox import Outgoing
from daemon.settings import Settings, parse
from daemon.topics import Topics
from daemon.wire import FrigateWire, schemas
from stream.errors import ConfigError, QueryError
from stream.types import Span
from tests.brokers import Mosquitto
from tests.daemon.link import FAST, WAIT_S, calling, echo

NOW_S = 1_795_297_700.0
ID = "1795297655.475377-mxklsc"


def settings_with(port: int = 1883, **frigate: Any) -> Settings:
    cameras = {"front_door": {"url": "a"}, "yard": {"url": "b"}, "attic": {"url": "c", "enabled": False}}
    return parse({"cameras": cameras, "mqtt": {"port": port}, "frigate": {"enabled": True, **frigate}}, "test")


def event(kind: str = "new", **after: Any) -> dict[str, Any]:
    """The shape of Frigate 0.16, every key of its page."""
    state = {
        "id": ID,
        "camera": "front_door",
        "frame_time": 1795297662.08,
        "snapshot": {
            "frame_time": 1795297661.97,
            "box": [415, 489, 528, 700],
            "area": 12728,
            "region": [260, 446, 660, 846],
            "score": 0.775,
            "attributes": [],
        },
        "label": "person",
        "sub_label": None,
        "top_score": 0.958984375,
        "false_positive": False,
        "start_time": 1795297655.475377,
        "end_time": 1795297680.5 if kind == "end" else None,
        "score": 0.7890625,
        "box": [424, 500, 536, 712],
        "area": 23744,
        "ratio": 2.113207,
        "region": [264, 450, 667, 853],
        "active": True,
        "stationary": False,
        "motionless_count": 0,
        "position_changes": 2,
        "current_zones": ["driveway"],
        "entered_zones": ["front_yard", "driveway"],
        "has_clip": True,
        "has_snapshot": True,
        "attributes": {"face": 0.64},
        "current_attributes": [],
        "current_estimated_speed": 0.71,
        "average_estimated_speed": 14.3,
        "velocity_angle": 180,
        "recognized_license_plate": None,
        "recognized_license_plate_score": None,
        "path_data": [[[0.5, 0.9], 1795297655.5], [[0.4, 0.8], 1795297660.5]],
    }
    return {"type": kind, "before": dict(state), "after": {**state, **after}}


def old_event() -> dict[str, Any]:
    """The shape of Frigate 0.12."""
    keys = ("id", "camera", "frame_time", "label", "top_score", "false_positive", "start_time", "end_time", "score")
    new = event()["after"]
    state = {key: new[key] for key in keys} | {"snapshot_time": 1795297661.8, "thumbnail": None, "entered_zones": []}
    return {"type": "new", "before": state, "after": state}


class Bench:
    """Frigate without a broker or an engine: questions wait in `asked`."""

    def __init__(self, **frigate: Any) -> None:
        self.now_s = NOW_S
        self.sent: list[Outgoing] = []
        self.asked: list[tuple[Query, Sinks]] = []
        self.counters = Counters()
        topics = Topics("longwatch")
        self.frigate = Frigate(
            settings_with(**frigate), topics, self.sent.append, self.ask, self.counters, lambda: self.now_s
        )

    def ask(self, query: Query, sinks: Sinks) -> None:
        self.asked.append((query, sinks))

    def say(self, raw: Any, retain: bool = False) -> Bench:
        payload = raw if isinstance(raw, bytes) else json.dumps(raw).encode()
        self.frigate.take(Delivery("frigate/events", payload, retain))
        return self

    def answer(self, **more: Any) -> None:
        query, sinks = self.asked[-1]
        sinks.answer(Answer(query.id, "ok", "a person rings", **more))

    def skipped(self, reason: str) -> float:
        return self.counters.value("frigate_skipped", reason=reason)


def test_a_new_event_is_asked_about_until_now() -> None:
    query, _ = Bench().say(event()).asked[0]
    assert query.question == "what is the person at the front door doing?"
    assert (query.cameras, query.id, query.stream) == (("front_door",), f"{ID}.new", False)
    assert query.since_s == pytest.approx(1795297653.475377)
    assert query.until_s == NOW_S
    assert query.deadline_s is not None
    assert query.deadline_s > NOW_S


def test_an_ended_event_is_asked_about_its_time() -> None:
    query, _ = Bench(ask="{label}? {zones}! {{x}}").say(event("end")).asked[0]
    assert query.question == "person? front yard, driveway! {x}"
    assert (query.id, query.until_s) == (f"{ID}.end", 1795297682.5)


def test_older_frigates_are_understood() -> None:
    assert len(Bench().say(old_event()).asked) == 1


def test_what_frigate_0_18_itself_made_is_understood() -> None:
    """`frigate_events.json`: its own code (blakeblackshear/frigate, e3fa701) watched a person walk, stop and leave."""
    messages = json.loads((Path(__file__).parent / "frigate_events.json").read_text(encoding="utf-8"))
    bench = Bench()
    bench.now_s = messages[-1]["after"]["end_time"] + 1.0
    for message in messages:
        bench.say(message)
    (begun, _), (ended, _) = bench.asked  # not the update
    assert begun.id.endswith(".new")
    assert (begun.question, begun.cameras) == ("what is the person at the front door doing?", ("front_door",))
    assert ended.since_s == pytest.approx(messages[-1]["after"]["start_time"] - 2.0)
    assert ended.until_s == bench.now_s
    assert bench.skipped("unreadable") == 0


def test_the_answer_names_the_event_and_fits_its_schema() -> None:
    bench = Bench(cameras={"Driveway Cam": "yard"}).say(event(camera="Driveway Cam"))
    bench.answer(evidence=(Evidence("yard", Span(1795297656.0, 1795297657.0, 2), 0.5, b"\xff\xd8"),))
    picture, told = bench.sent
    assert (picture.topic, picture.payload) == (f"longwatch/evidence/{ID}.new/0", b"\xff\xd8")
    assert (told.topic, told.retain) == ("longwatch/events", False)
    jsonschema.Draft202012Validator(json.loads(schemas()["frigate.json"])).validate(json.loads(told.payload))
    wire = FrigateWire.model_validate_json(told.payload)
    assert (wire.type, wire.source) == ("answer", "frigate")
    assert (wire.event_id, wire.moment, wire.camera, wire.frigate_camera) == (ID, "new", "yard", "Driveway Cam")
    assert (wire.answer, wire.label, wire.evidence[0].frame) == ("a person rings", "person", picture.topic)


@pytest.mark.parametrize(
    ("reason", "how", "after"),
    [
        ("camera", {}, {"camera": "cellar"}),
        ("camera", {}, {"camera": "attic"}),
        ("label", {"labels": ["car"]}, {}),
        ("score", {"min_score": 0.97}, {}),
        ("false_positive", {}, {"false_positive": True}),
        ("moment", {"moments": "end"}, {}),
    ],
)
def test_what_nobody_wants_is_counted_by_its_reason(reason: str, how: dict[str, Any], after: dict[str, Any]) -> None:
    bench = Bench(**how).say(event(**after))
    assert bench.asked == []
    assert bench.skipped(reason) == 1


def test_updates_are_not_asked_about_and_old_ones_neither() -> None:
    bench = Bench().say(event("update")).say(event(), retain=True)
    assert bench.asked == []
    assert bench.skipped("retained") == 1


def test_a_flood_is_bounded_and_counted() -> None:
    bench = Bench(max_per_minute=3)
    for number in range(10):
        bench.say(event(id=f"e{number}"))
        if bench.asked and len(bench.sent) < len(bench.asked):
            bench.answer()
    assert (len(bench.asked), bench.skipped("limit")) == (3, 7)
    bench.now_s += 61.0
    assert len(bench.say(event()).asked) == 4
    bench.now_s -= 86_400.0  # the clock is set back: yesterday's questions must not count for ever
    assert len(bench.say(event()).asked) == 5


def test_questions_of_people_keep_their_place_in_the_queue() -> None:
    bench = Bench(max_per_minute=100)
    for number in range(MAX_WAITING + 2):
        bench.say(event(id=f"e{number}"))
    assert (len(bench.asked), bench.skipped("waiting")) == (MAX_WAITING, 2)
    bench.answer()
    assert len(bench.say(event()).asked) == MAX_WAITING + 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(raw=JSON, key=st.sampled_from(sorted(event()["after"])), whole=st.booleans())
def test_no_event_can_hurt(raw: Any, key: str, whole: bool) -> None:
    payload = json.dumps(raw if whole else event(**{key: raw})).encode()
    bench = Bench().say(payload)
    for query, _ in bench.asked:
        bench.answer()
        assert query.since_s is not None
        assert query.until_s is not None
        assert query.since_s <= query.until_s
    for sent in bench.sent:
        assert not set(sent.topic) & set("+#\0")


@pytest.mark.parametrize(
    "payload", [b"", b"x", b"\xff", b"[]", b"{}", b'{"type": "new"}', b"9" * 300_000, b'{"type":1,"after":{}}']
)
def test_what_cannot_be_read_is_said(payload: bytes) -> None:
    with pytest.raises(QueryError):
        read_event(payload)
    assert Bench().say(payload).skipped("unreadable") == 1


@pytest.mark.parametrize(
    ("frigate", "text"),
    [
        ({"ask": "what does {who} do?"}, r"\{who\} is not known"),
        ({"ask": "what does {label!r} do?"}, "is not known"),
        ({"ask": "what is {"}, "written twice"),
        ({"cameras": {"x": "yrad"}}, "did you mean 'yard'"),
        ({"topic_prefix": "frigate/#"}, "frigate.topic_prefix"),
    ],
)
def test_settings_that_cannot_be_meant(frigate: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        settings_with(**frigate)


async def test_at_a_broker(broker: Mosquitto) -> None:
    """As the app wires it: an event in, an answer out."""
    told_so = settings_with(broker.port)
    async with calling(broker.port) as caller:
        link = MqttLink(told_so, echo, random.Random(7), backoff=FAST)

        def ask(query: Query, sinks: Sinks) -> None:
            sinks.answer(Answer(query.id, "ok", f"you asked: {query.question}"))

        frigate = Frigate(told_so, link.topics, link.publish, ask, Counters())
        link.listen(frigate.topic, frigate.take)
        task = asyncio.create_task(link.run())
        await asyncio.wait_for(link.wait_connected(), WAIT_S)
        await caller.client.publish("frigate/events", json.dumps(event("end")), 0)
        told = await caller.next("longwatch/events")
        assert FrigateWire.model_validate_json(told.payload).answer.startswith("you asked: what is the person")
        assert not told.retain
        await link.close(2.0)
        await task
