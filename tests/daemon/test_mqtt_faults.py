"""The link when brokers die, refuse, or cannot be trusted, and when we die."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from daemon.ask import Question, ask
from daemon.connect import Client
from daemon.messages import Answer
from daemon.mqtt import Reply
from daemon.outbox import Outgoing
from daemon.wire import CameraState
from tests.brokers import Certificates, Mosquitto
from tests.daemon.link import calling, make_settings, running, until


async def test_a_question_we_did_not_take_over_comes_again(broker: Mosquitto) -> None:
    """The process dies after the question arrived and before it was taken over: it was not acknowledged."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.daemon.child", str(broker.port), "5", "die", stdout=subprocess.DEVNULL
    )
    async with calling(broker.port, topic="longwatch/#") as caller:
        await until(lambda: [m for m in caller.seen if m.payload == b"online"], "birth")
        await caller.ask('{"question": "who?", "id": "q1"}')
        assert await child.wait() == 3
        async with running(make_settings(broker.port)):
            assert (await caller.answer("longwatch/answer/q1"))["status"] == "ok"


async def test_will_after_kill(any_broker: tuple[int, str]) -> None:
    port, protocol = any_broker
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.daemon.child", str(port), protocol, "echo", stdout=subprocess.DEVNULL
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


async def test_a_socket_that_closed_before_the_loop_watches_it_is_left_alone() -> None:
    """A broker that dies in the very round in which we want to write: nothing is logged, no other socket is watched."""
    loop, faults, wrote = asyncio.get_running_loop(), list[Any](), asyncio.Event()
    loop.set_exception_handler(lambda _, context: faults.append(context))
    client = Client("127.0.0.1", 1)
    paho = SimpleNamespace(loop_write=wrote.set)
    ours, theirs = socket.socketpair()
    client._on_socket_register_write(paho, None, ours)
    ours.close()
    await asyncio.sleep(0.01)
    assert not wrote.is_set()
    ours, other = socket.socketpair()
    client._on_socket_register_write(paho, None, ours)
    async with asyncio.timeout(5):
        await wrote.wait()
    loop.remove_writer(ours.fileno())
    for one in (ours, other, theirs):
        one.close()
    assert faults == []
