"""The link against real brokers: Mosquitto (MQTT 5 and 3.1.1) and the embedded one (3.1.1)."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from daemon.ask import NoAnswer, NoBroker, NoDaemon, Question, ask
from daemon.connect import publish_properties
from daemon.demo.broker import EmbeddedBroker, free_port
from daemon.messages import Answer, Evidence, Query
from daemon.mqtt import MqttLink, Reply
from daemon.outbox import Outgoing
from daemon.wire import CameraState, DaemonStatus
from stream.types import Span
from tests.brokers import Certificates, Mosquitto, make_certificates
from tests.daemon.link import calling, echo, make_settings, running, until


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    server = Mosquitto(tmp_path).start()
    yield server
    server.stop()


@pytest.fixture(params=["mosquitto 5", "mosquitto 3.1.1", "embedded 3.1.1"])
def any_broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[int, str]]:
    """Port and protocol."""
    kind, protocol = request.param.split()
    server = EmbeddedBroker().start() if kind == "embedded" else Mosquitto(tmp_path).start()
    yield server.port, protocol
    server.stop()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


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


EXIT = """
import asyncio, os, random, sys
from daemon.mqtt import MqttLink
from tests.daemon.link import make_settings
async def main():
    await MqttLink(make_settings(int(sys.argv[1])), lambda query, reply: os._exit(3), random.Random(1)).run()
asyncio.run(main())
"""


async def test_a_question_we_did_not_take_over_comes_again(broker: Mosquitto) -> None:
    """The process dies after the question arrived and before it was taken over: it was not acknowledged."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", EXIT, str(broker.port), stdout=subprocess.DEVNULL
    )
    async with calling(broker.port, topic="longwatch/#") as caller:
        await until(lambda: [m for m in caller.seen if m.payload == b"online"], "birth")
        await caller.ask('{"question": "who?", "id": "q1"}')
        assert await child.wait() == 3
        async with running(make_settings(broker.port)):
            assert (await caller.answer("longwatch/answer/q1"))["status"] == "ok"


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


CHILD = """
import asyncio, random, sys
from daemon.mqtt import MqttLink
from tests.daemon.link import echo, make_settings
async def main():
    await MqttLink(make_settings(int(sys.argv[1]), protocol=sys.argv[2]), echo, random.Random(1)).run()
asyncio.run(main())
"""


async def test_will_after_kill(any_broker: tuple[int, str]) -> None:
    port, protocol = any_broker
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, str(port), protocol, stdout=subprocess.DEVNULL
    )
    try:
        async with calling(port, False, "longwatch/available") as caller:
            await until(lambda: [m for m in caller.seen if m.payload == b"online"], "birth")
            child.send_signal(signal.SIGKILL)
            await until(lambda: caller.seen[-1].payload == b"offline", "will")
    finally:
        await child.wait()


async def test_broker_restart(broker: Mosquitto) -> None:
    """What was answered while the broker was away arrives, states are there again."""
    replies: list[Reply] = []
    async with running(make_settings(broker.port), lambda _, reply: replies.append(reply)) as link:
        link.publish_camera(CameraState(camera="door", state="online", at=1.0))
        async with calling(broker.port) as caller:
            for index in range(5):
                await caller.ask(json.dumps({"question": "who?", "id": f"q{index}"}))
            await until(lambda: len(replies) == 5)
            await asyncio.to_thread(broker.kill)
        await until(lambda: not link.state.connected)
        assert "nobody listens" in link.state.reason or "connection lost" in link.state.reason
        for reply in replies:
            reply.chunk("late")
            reply.answer(Answer(reply.query.id, "ok", "me"))
        (broker._folder / "mosquitto.db").unlink(missing_ok=True)  # it lost its memory too
        answers: list[str] = []
        port = broker.port
        waiting = asyncio.create_task(_collect(port, answers, 5))
        await asyncio.to_thread(broker.start)
        await asyncio.wait_for(waiting, 10)
        assert sorted(answers) == [f"q{index}" for index in range(5)]
        await until(lambda: not len(link.outbox))
        async with calling(port) as caller:
            assert (await caller.next("longwatch/available")).payload == b"online"
            await caller.next("longwatch/door/state")
        assert link.outbox.lost == 0
        assert link.state.connections == 2


async def test_broker_killed_while_many_answers_leave(broker: Mosquitto) -> None:
    """Every answer leaves at least once; those in flight at the kill may leave twice."""
    seen: set[str] = set()
    async with running(make_settings(broker.port)) as link:
        for round_ in range(3):
            for index in range(400):
                link.publish(Outgoing("out/x", f"{round_}-{index}".encode()))
            async with calling(broker.port, topic="out/#") as caller:
                await caller.heard(20)
                await asyncio.to_thread(broker.kill)
                await asyncio.sleep(0.05)
                seen |= {message.payload.decode() for message in caller.seen}
            flown = 1200 - len(link.outbox) if round_ == 2 else 0
            assert len(link.outbox) > 0, flown
            await asyncio.to_thread(broker.start)
            await asyncio.wait_for(link.wait_connected(), 10)
        await until(lambda: not len(link.outbox))
        assert (link.outbox.lost, link.outbox.dropped) == (0, 0)
        assert link.state.connections == 4


async def _collect(port: int, answers: list[str], count: int) -> None:
    """Hear `count` answers; tries to connect more often than the link, so as to be there first."""
    while True:
        try:
            async with calling(port, topic="longwatch/answer/+") as caller:
                await until(lambda: len(caller.seen) >= count)
                answers.extend(json.loads(message.payload)["id"] for message in caller.seen)
                return
        except OSError:
            await asyncio.sleep(0.001)
        except Exception as error:
            if "refused" not in str(error):
                raise
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_questions_sent_while_we_were_down(broker: Mosquitto, protocol: str) -> None:
    settings = make_settings(broker.port, protocol=protocol)
    async with running(settings):
        pass
    async with calling(broker.port) as caller:
        for index in range(100):  # more than the broker sends without an acknowledgement
            await caller.ask(json.dumps({"question": "who?", "id": f"q{index}"}))
    await asyncio.to_thread(broker.stop)
    await asyncio.to_thread(broker.start)
    async with calling(broker.port, topic="longwatch/answer/+") as caller, running(settings):
        await until(lambda: len(caller.seen) >= 100, "all answers")
        ids = [json.loads(message.payload)["id"] for message in caller.seen]
        assert ids == [f"q{index}" for index in range(100)]


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


async def test_wrong_password_then_right(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path, passwords={"watch": "old-hunter2"}).start()
    secret = tmp_path / "secret"
    secret.write_text("new-hunter2\n")
    with capture_logs() as logs:
        settings = make_settings(broker.port, username="watch", password_file=str(secret))
        async with running(settings, connected=False) as link:
            await until(
                lambda: "wrong user name or password" in link.state.reason or "not authorised" in link.state.reason
            )
            assert not link.state.connected
            await asyncio.to_thread(broker.stop)
            broker.set_passwords({"watch": "new-hunter2"})
            await asyncio.to_thread(broker.start)
            await asyncio.wait_for(link.wait_connected(), 10)
        broker.stop()
    assert "hunter2" not in repr(logs)


async def test_acl_that_denies(tmp_path: Path) -> None:
    acl = "user watch\ntopic write longwatch/#\n"
    broker = Mosquitto(tmp_path, passwords={"watch": "x"}, acl=acl).start()
    async with running(make_settings(broker.port, username="watch", password="x")) as link:
        link.publish(Outgoing("elsewhere/x", b"x"))
        with capture_logs() as logs:
            await until(lambda: any("denied" in entry["event"] for entry in logs), "the denial is logged")
    broker.stop()


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_tls(tmp_path: Path, certificates: Certificates, protocol: str) -> None:
    broker = Mosquitto(tmp_path, tls=certificates).start()
    trusted = make_settings(broker.port, tls={"ca_file": str(certificates.ca)}, protocol=protocol)
    async with running(trusted):
        answer = await ask(trusted.mqtt, Question("who?"), random.Random(1))
        assert answer.text == "you asked: who?"
    broker.stop()


@pytest.mark.parametrize(
    ("tls", "host", "expected"),
    [
        ({"ca_file": "stranger"}, "127.0.0.1", "certificate not trusted"),
        ({"ca_file": "missing"}, "127.0.0.1", "does not exist"),
        ({"ca_file": "ca"}, "localhost", "certificate not trusted"),
        (None, "127.0.0.1", "does the port want TLS?"),
        (None, "no-such-host.invalid", "unknown host"),
    ],
)
async def test_faults_of_tls_and_host(
    tmp_path: Path, certificates: Certificates, tls: dict[str, str] | None, host: str, expected: str
) -> None:
    broker = Mosquitto(tmp_path, tls=certificates).start()
    more = {} if tls is None else {"tls": {"ca_file": str(certificates.ca.with_name(f"{tls['ca_file']}.pem"))}}
    async with running(make_settings(broker.port, host=host, **more), connected=False) as link:
        await until(lambda: expected in link.state.reason, link.state.reason)
        assert not link.state.connected
        assert link.state.faults == 0
    broker.stop()


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
