"""The link against real brokers: Mosquitto (MQTT 5 and 3.1.1) and the embedded one (3.1.1)."""

from __future__ import annotations

import asyncio
import json
import random

import pytest
from structlog.testing import capture_logs

from daemon.connect import publish_properties
from daemon.messages import Answer, Evidence, Query
from daemon.mqtt import MqttLink, Reply
from daemon.wire import CameraState, DaemonStatus
from stream.types import Span
from tests.brokers import Mosquitto
from tests.daemon.link import calling, echo, make_settings, running, until


def picture(query: Query, reply: Reply) -> None:
    evidence = (Evidence("door", Span(1.0, 2.0, 2), 0.75, b"\xff\xd8picture"),)
    reply.answer(Answer(query.id, "ok", "a parcel", evidence=evidence))


async def test_ask_and_answer(any_broker: tuple[int, str]) -> None:
    port, protocol = any_broker
    async with running(make_settings(port, protocol=protocol)), calling(port, protocol == "5") as caller:
        assert (await caller.next("longwatch/available")).payload == b"online"
        await caller.ask("is the gate open?", "longwatch/door/query")
        answer = await caller.answer()
        assert answer["status"] == "ok"
        assert answer["answer"] == "you asked: is the gate open?"
        chunks = [json.loads(message.payload) for message in caller.on("longwatch/answer/+/chunk")]
        assert [(chunk["seq"], chunk["text"]) for chunk in chunks] == [(0, "you "), (1, "asked")]
        assert {chunk["id"] for chunk in chunks} == {answer["id"]}


async def test_311_reply_to_in_the_payload(any_broker: tuple[int, str]) -> None:
    port, protocol = any_broker
    settings = make_settings(port, protocol=protocol, reply_prefixes=("clients/",))
    async with running(settings), calling(port, False) as caller:
        await caller.ask(json.dumps({"id": "q1", "question": "who?", "reply_to": "clients/me"}))
        assert (await caller.answer("clients/me"))["id"] == "q1"


async def test_v5_response_topic_and_correlation(broker: Mosquitto) -> None:
    properties = publish_properties(ResponseTopic="longwatch/answer/mine", CorrelationData=b"\x00\xff raw")
    async with running(make_settings(broker.port)), calling(broker.port) as caller:
        await caller.ask('{"question": "who?", "reply_to": "longwatch/answer/other"}', properties=properties)
        message = await caller.next("longwatch/answer/mine")
        assert message.properties is not None
        assert message.properties.CorrelationData == b"\x00\xff raw"
        assert message.properties.ContentType == "application/json"
        assert not caller.on("longwatch/answer/other")


async def test_v5_expiry_is_a_deadline(broker: Mosquitto) -> None:
    asked: list[Query] = []
    async with (
        running(make_settings(broker.port), lambda query, _: asked.append(query)),
        calling(broker.port) as caller,
    ):
        await caller.ask("who?", properties=publish_properties(MessageExpiryInterval=3))
        query = (await until(lambda: asked))[0]
        assert query.deadline_s - query.received_s <= 3.0


@pytest.mark.parametrize("topic", ["longwatch/+/x", "#", "$SYS/x", "longwatch/available", "longwatch/query", "other/x"])
async def test_v5_bad_response_topic_is_answered_elsewhere(broker: Mosquitto, topic: str) -> None:
    # paho refuses to send wildcards in a response topic; others do not
    async with running(make_settings(broker.port)) as link, calling(broker.port) as caller:
        properties = publish_properties(ResponseTopic=topic)
        try:
            await caller.ask('{"question": "who?", "id": "q1"}', properties=properties)
        except Exception as error:  # noqa: BLE001
            pytest.skip(f"the client library refuses it: {error}")
        answer = await caller.answer("longwatch/answer/q1")
        assert answer["status"] == "error"
        assert "reply topic" in answer["answer"]
        assert link.desk.counts.asked == 0
        assert not caller.on("other/x")


@pytest.mark.parametrize("bad", [b"", b"\xff\xfe", b"{", b'{"question": "a", "cameras": ["dor"]}', b"x" * 1_000_000])
async def test_bad_questions_are_answered_and_change_nothing(any_broker: tuple[int, str], bad: bytes) -> None:
    port, protocol = any_broker
    async with (
        running(make_settings(port, protocol=protocol)) as link,
        calling(port, False, "longwatch/answer/#") as caller,
    ):
        await caller.ask(bad)
        answer = await caller.answer()
        assert answer["status"] == "error"
        await caller.ask("who?")
        assert (await caller.answer(count=2))["status"] == "ok"
        assert (link.state.connections, link.state.faults) == (1, 0)


async def test_retained_question_is_refused(any_broker: tuple[int, str]) -> None:
    port, protocol = any_broker
    async with calling(port, False, "longwatch/answer/#") as caller:
        await caller.ask('{"question": "who?", "id": "old"}', retain=True)
        with capture_logs() as logs:
            async with running(make_settings(port, protocol=protocol)) as link:
                answer = await caller.answer("longwatch/answer/old")
                assert answer["status"] == "error"
                assert "retained question ignored" in answer["answer"]
                assert link.desk.counts.asked == 0
        assert any("retained" in entry.get("reason", "") for entry in logs)


async def test_an_id_is_answered_once(broker: Mosquitto) -> None:
    replies: list[Reply] = []
    async with (
        running(make_settings(broker.port), lambda _, reply: replies.append(reply)),
        calling(broker.port) as caller,
    ):
        for _ in range(3):
            await caller.ask('{"question": "who?", "id": "q1"}')
        await until(lambda: replies)
        replies[0].answer(Answer("q1", "ok", "nobody"))
        replies[0].answer(Answer("q1", "ok", "somebody"))
        first = await caller.answer("longwatch/answer/q1")
        await caller.ask('{"question": "who?", "id": "q1"}')
        assert await caller.answer("longwatch/answer/q1", count=2) == first
        await caller.ask('{"question": "why?", "id": "q1"}')
        assert "used for another question" in (await caller.answer("longwatch/answer/q1", count=3))["answer"]
        assert len(replies) == 1
        assert first["answer"] == "nobody"


async def test_an_answer_is_never_taken_for_a_question(any_broker: tuple[int, str]) -> None:
    """`<p>/answer/query`, where the answer to id `query` goes, matches the filter `<p>/+/query`."""
    port, protocol = any_broker
    async with running(make_settings(port, protocol=protocol)) as link, calling(port, False) as caller:
        await caller.ask('{"question": "who?", "id": "query"}')
        await caller.answer("longwatch/answer/query")
        await asyncio.sleep(0.1)
        assert (link.desk.counts.asked, link.desk.counts.refused) == (1, 0)
        assert len(caller.on("longwatch/answer/+")) == 1


async def test_a_bug_in_the_app_is_one_error_answer(broker: Mosquitto) -> None:
    def broken(query: Query, reply: Reply) -> None:
        if query.question == "boom":
            raise RuntimeError("bug")
        echo(query, reply)

    async with running(make_settings(broker.port), broken) as link, calling(broker.port) as caller:
        await caller.ask('{"question": "boom", "id": "b"}')
        assert (await caller.answer("longwatch/answer/b"))["status"] == "error"
        await caller.ask('{"question": "fine", "id": "f"}')
        assert (await caller.answer("longwatch/answer/f"))["status"] == "ok"
        assert link.state.faults == 1


async def test_states_and_pictures(broker: Mosquitto) -> None:
    async with running(make_settings(broker.port), picture) as link:
        link.publish_camera(CameraState(camera="door", state="online", at=1.0, fps=25.0), b"\xff\xd8snapshot")
        link.publish_status(DaemonStatus(version="0", model="tiny", at=1.0, uptime_s=2.0))
        await until(lambda: not len(link.outbox))
        async with calling(broker.port) as caller:
            assert (await caller.next("longwatch/door/available")).payload == b"online"
            assert json.loads((await caller.next("longwatch/door/state")).payload)["fps"] == 25.0
            assert (await caller.next("longwatch/door/snapshot")).payload == b"\xff\xd8snapshot"
            assert json.loads((await caller.next("longwatch/status")).payload)["model"] == "tiny"
            assert all(message.retain for message in caller.seen)
            await caller.ask('{"question": "what?", "id": "q"}')
            frame = (await caller.answer("longwatch/answer/q"))["evidence"][0]["frame"]
            assert (await caller.next(frame)).payload == b"\xff\xd8picture"
    async with calling(broker.port) as caller:
        assert (await caller.next("longwatch/available")).payload == b"offline"
        assert (await caller.next("longwatch/door/available")).payload == b"offline"


async def test_a_camera_that_left_the_configuration(broker: Mosquitto) -> None:
    async with running(make_settings(broker.port)) as link:
        link.publish_camera(CameraState(camera="door", state="online", at=1.0), b"\xff\xd8snapshot")
        await until(lambda: not len(link.outbox))
        link.retire_camera("door")
        await until(lambda: not len(link.outbox))
        async with calling(broker.port, topic="longwatch/door/#") as caller:
            assert (await caller.next("longwatch/door/available")).payload == b"offline"
            await asyncio.sleep(0.05)
            assert len(caller.seen) == 1


async def test_close_flushes(broker: Mosquitto) -> None:
    async with calling(broker.port, topic="longwatch/#") as caller:
        async with running(make_settings(broker.port), lambda _, reply: replies.append(reply)) as link:
            replies: list[Reply] = []
            for index in range(300):
                await caller.ask(json.dumps({"question": "who?", "id": f"q{index}"}))
            await until(lambda: len(replies) == 300)
            for reply in replies:
                reply.answer(Answer(reply.query.id, "ok", "me"))
            assert len(link.outbox) >= 300
        await until(lambda: len(caller.on("longwatch/answer/+")) == 300)
        assert (await caller.next("longwatch/available", count=2)).payload == b"offline"


async def test_cancelled_run_says_offline(broker: Mosquitto) -> None:
    child_settings = make_settings(broker.port)
    async with calling(broker.port, topic="longwatch/available") as caller:
        link = MqttLink(child_settings, echo, random.Random(1))
        task = asyncio.create_task(link.run())
        await link.wait_connected()
        await caller.next("longwatch/available")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert (await caller.next("longwatch/available", count=2)).payload == b"offline"
