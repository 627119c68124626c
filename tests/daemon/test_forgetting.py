"""`<p>/forget`: what is erased and said, what is refused, and that nothing of an erased time stays at the broker."""

from __future__ import annotations

import asyncio
import json
import random
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from jsonschema import validate
from paho.mqtt.properties import Properties

from daemon.connect import publish_properties
from daemon.desk import Delivery
from daemon.forgetting import KEPT_IDS, MOST_WAITING, Forgetting
from daemon.metrics import Counters
from daemon.mqtt import MqttLink
from daemon.outbox import Outgoing
from daemon.topics import Topics
from daemon.wire import schemas
from memory.archive import Erased
from memory.archive.inspect import stats
from memory.archive.reader import Reader
from stream.errors import SnapshotError
from stream.model.llava_onevision import LlavaOnevision
from tests.brokers import Mosquitto
from tests.daemon.link import FAST, WAIT_S, Caller, calling, echo, make_settings, until
from tests.daemon.recalling import small_model
from tests.daemon.whole import at_work, settings_at

NOW_S = 1_800_000_000.0
SCHEMAS = {name.removesuffix(".json"): json.loads(text) for name, text in schemas().items()}


class Keeper:
    """Erases nothing; says when it is done."""

    def __init__(self) -> None:
        self.asked: list[tuple[str | None, float, float]] = []
        self.fails: Exception | None = None
        self.now = True
        self.futures: list[Future[Erased]] = []

    def forget(self, camera: str | None, since_s: float, until_s: float) -> Future[Erased]:
        self.asked.append((camera, since_s, until_s))
        future: Future[Erased] = Future()
        self.futures.append(future)
        if self.fails is not None:
            future.set_exception(self.fails)
        elif self.now:
            future.set_result(Erased(3, 0))
        return future


class Desk:
    """A Forgetting without network."""

    def __init__(self, **mqtt: Any) -> None:
        settings = make_settings(1883, **{"forget": True, **mqtt}).mqtt
        self.keeper: Any = Keeper()
        self.out: list[Outgoing] = []
        self.counters = Counters()
        cameras = ("door", "yard")
        self.forgetting = Forgetting(
            settings, self.keeper, Topics("p"), self.out.append, lambda: cameras, self.counters, lambda: NOW_S
        )

    def send(self, payload: object, **more: Any) -> list[dict[str, Any]]:
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self.out.clear()
        self.forgetting.take(Delivery("p/forget", data, **more))
        return self.said()

    def said(self) -> list[dict[str, Any]]:
        found = []
        for message in self.out:
            assert (message.topic, message.retain) == ("p/forget/state", False)
            found.append(json.loads(message.payload))
            validate(found[-1], SCHEMAS["forget_state"])
        return found

    async def settle(self, count: int) -> list[dict[str, Any]]:
        """What was said once `count` commands have ended."""
        task = asyncio.create_task(self.forgetting.run())
        await until(lambda: sum(item["state"] != "working" for item in self.said()) >= count)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return self.said()


@pytest.mark.parametrize(
    ("payload", "asked"),
    [
        ({"last": "1h"}, [(None, NOW_S - 3600, NOW_S)]),
        ({"since": 0}, [(None, 0.0, NOW_S)]),
        ({"until": NOW_S - 5, "camera": "door"}, [("door", 0.0, NOW_S - 5)]),
        ({"since": NOW_S - 9, "until": NOW_S - 5, "cameras": ["door", "yard"]}, [
            ("door", NOW_S - 9, NOW_S - 5),
            ("yard", NOW_S - 9, NOW_S - 5),
        ]),
        ({"since": "2026-11-20T14:00:00Z", "until": "2026-11-20T15:00:00Z"}, [(None, 1795183200.0, 1795186800.0)]),
        ({"last": "1h", "v": 1, "camera": None, "cameras": []}, [(None, NOW_S - 3600, NOW_S)]),
    ],
)  # fmt: skip
async def test_what_is_asked_is_erased_and_said(payload: dict[str, Any], asked: list[Any]) -> None:
    validate(payload, SCHEMAS["forget"])
    desk = Desk()
    desk.send({**payload, "id": "a"})
    working, done = await desk.settle(1)
    assert desk.keeper.asked == asked
    assert (working["state"], done["state"], done["id"]) == ("working", "done", "a")
    assert done["carriers"] == 3 * len(asked)
    assert (done["since"], done["until"]) == asked[0][1:]


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe{", "not JSON"),
        (b"1h", "not JSON"),
        (b"{" * 100, "not JSON"),
        (b'{"last": NaN}', "last"),
        (b'{"since": NaN}', "since"),
        (b'{"since": Infinity}', "since"),
        (b"[" * 3000, "not JSON"),
        (b'{"last": "1h"}' + b" " * 70_000, "bytes"),
        ([], "a JSON object is needed"),
        ("1h", "a JSON object is needed"),
        ({}, '{"since": 0} is everything'),
        ({"last": "1h", "sicne": 5}, "did you mean 'since'?"),
        ({"last": "1h", "x" * 3000: 5}, "unknown key"),
        ({"last": 3600}, "last"),
        ({"last": "an hour"}, "give a number and s, m, h, d or w"),
        ({"last": "1h", "since": 5}, "leave `since` and `until` out"),
        ({"since": NOW_S, "until": NOW_S - 1}, "`since` lies after `until`"),
        ({"since": NOW_S + 5}, "`since` lies after `until`"),
        ({"since": 1e13}, "since"),
        ({"since": "yesterday"}, "since"),
        ({"last": "1h", "camera": "dor"}, "unknown camera 'dor'; did you mean 'door'?"),
        ({"last": "1h", "camera": "\n#+\u202e" * 3000}, "unknown camera"),
        ({"last": "1h", "cameras": ["door", 5]}, "cameras.1"),
        ({"last": "1h", "camera": "door", "cameras": ["yard"]}, "not both"),
        ({"last": "1h", "id": "a b"}, "id"),
    ],
)
async def test_what_is_wrong_is_said_and_erases_nothing(payload: object, why: str) -> None:
    desk = Desk()
    (said,) = desk.send(payload)
    assert said["state"] == "error"
    assert why in said["error"]
    assert said["error"].endswith("nothing was erased")
    assert len(said["error"]) < 400
    assert desk.forgetting._waiting.empty()


async def test_an_error_names_the_id_it_can_read() -> None:
    desk = Desk()
    assert desk.send({"id": "a7", "last": 5})[0]["id"] == "a7"
    assert desk.send({"id": {"x": 1}, "last": 5})[0]["id"] is None
    assert desk.send({"id": "a7"}, correlation=b"c")[0]["id"] == "a7"
    assert desk.out[-1].correlation == b"c"


async def test_it_is_off_unless_somebody_switched_it_on() -> None:
    desk = Desk(forget=False)
    assert "mqtt.forget" in desk.send({"last": "1h", "id": "a"})[0]["error"]
    assert desk.forgetting._waiting.empty()


async def test_a_kept_command_is_not_executed() -> None:
    desk = Desk()
    assert "retained" in desk.send({"last": "1h"}, retain=True)[0]["error"]
    assert desk.forgetting._waiting.empty()


async def test_an_id_is_executed_once() -> None:
    desk = Desk()
    desk.send({"id": "a", "last": "1h"})
    assert desk.send({"id": "a", "last": "1h"})[0]["state"] == "working"
    await desk.settle(1)
    assert desk.send({"id": "a", "last": "1h"})[0]["state"] == "done"
    assert len(desk.keeper.asked) == 1
    for first in range(0, KEPT_IDS + MOST_WAITING, MOST_WAITING):
        for number in range(MOST_WAITING):
            desk.send({"id": f"n{first + number}", "last": "1h"})
        await desk.settle(MOST_WAITING)
    assert len(desk.forgetting._told) == KEPT_IDS


async def test_what_waits_is_bounded() -> None:
    desk = Desk()
    for _ in range(MOST_WAITING):
        assert desk.send({"last": "1h"})[0]["state"] == "working"
    assert "ask again" in desk.send({"last": "1h", "id": "late"})[0]["error"]
    await desk.settle(MOST_WAITING)
    assert desk.send({"last": "1h", "id": "late"})[0]["state"] == "working", "a refused id may try again"


async def test_what_could_not_be_erased_yet_is_said() -> None:
    desk = Desk()
    desk.keeper.fails = SnapshotError("banks of door cannot be saved", "unwritable")
    desk.send({"last": "1h"})
    assert "tried again: banks of door" in (await desk.settle(1))[-1]["error"]
    desk.keeper.fails = None
    desk.send({"last": "1h"})
    assert (await desk.settle(1))[-1]["state"] == "done"


async def test_an_end_in_the_middle_does_not_cancel_the_erasure() -> None:
    desk = Desk()
    desk.keeper.now = False
    desk.send({"last": "1h"})
    task = asyncio.create_task(desk.forgetting.run())
    await until(lambda: desk.keeper.futures)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert not desk.keeper.futures[0].cancelled(), "the archive's thread would trip over it"
    desk.keeper.futures[0].set_result(Erased(1, 0))


# -- at a broker -----------------------------------------------------------------------------------------------------


async def test_what_was_sent_while_we_were_away_never_comes(broker: Mosquitto) -> None:
    """`last` would mean another hour. The session at the broker does keep questions."""
    got: list[Delivery] = []
    async with calling(broker.port) as caller:
        for number in range(2):
            link = MqttLink(make_settings(broker.port), echo, random.Random(7), backoff=FAST)
            link.listen("longwatch/forget", got.append, qos=0)
            task = asyncio.create_task(link.run())
            await asyncio.wait_for(link.wait_connected(), WAIT_S)
            if number == 0:
                await caller.ask("live", "longwatch/forget")
                await until(lambda: got)
            else:
                await caller.answer("longwatch/answer/later")
            await link.close(2.0)
            await task
            if number == 0:
                await caller.ask("old", "longwatch/forget")
                await caller.ask('{"question": "who?", "id": "later"}')
    assert [item.payload for item in got] == [b"live"]


@pytest.fixture(scope="module")
def model() -> LlavaOnevision:
    return small_model()


async def said(caller: Caller, command: dict[str, Any], state: str) -> dict[str, Any]:
    """Send `command` and return what is said when it is in `state`."""
    properties: Properties | None = publish_properties(ContentType=None, CorrelationData=b"mine")
    await caller.ask(json.dumps(command), "longwatch/forget", properties=properties)

    def found() -> dict[str, Any] | None:
        for message in caller.on("longwatch/forget/state"):
            item: dict[str, Any] = json.loads(message.payload)
            if (item["id"], item["state"]) == (command["id"], state):
                assert getattr(message.properties, "CorrelationData", None) == b"mine"
                return item
        return None

    result: dict[str, Any] = await until(found, f"{command} to be {state}")
    return result


def now_on(caller: Caller, topic: str) -> bytes:
    """The newest payload."""
    messages: list[aiomqtt.Message] = caller.on(topic)
    return bytes(messages[-1].payload) if messages else b"nothing came"


async def test_nothing_of_an_erased_time_stays(broker: Mosquitto, model: LlavaOnevision, tmp_path: Path) -> None:
    settings = settings_at(broker.port, tmp_path / "archive", snapshot_every_s=0.1)
    async with calling(broker.port) as caller, at_work(model, settings) as whole:
        now_s = time.time()
        await whole.feed([now_s - age_s for age_s in (4000, 3000, 50, 40, 30)])
        await whole.feed([now_s - 20], "yard")
        for name in ("door", "yard"):
            await until(lambda name=name: now_on(caller, f"longwatch/{name}/snapshot")[:2] == b"\xff\xd8")  # type: ignore[misc]
        await caller.ask('{"id": "q1", "question": "what is visible now?"}', "longwatch/door/query")
        first = await caller.answer("longwatch/answer/q1")
        await caller.next("longwatch/last_answer")
        assert now_on(caller, "longwatch/last_evidence")[:2] == b"\xff\xd8"

        done = await said(caller, {"id": "f1", "camera": "door", "last": "10m"}, "done")
        assert (done["carriers"], done["cameras"]) == (3, ["door"])
        await until(lambda: now_on(caller, "longwatch/door/snapshot") == b"")
        await until(lambda: now_on(caller, "longwatch/last_evidence") == b"")
        await until(lambda: json.loads(now_on(caller, "longwatch/last_answer"))["text"] == "the last answer was erased")
        validate(json.loads(now_on(caller, "longwatch/last_answer")), SCHEMAS["last_answer"])
        assert now_on(caller, "longwatch/yard/snapshot")[:2] == b"\xff\xd8"
        bank = whole.app.posts["door"].bank
        assert len(bank) == 2
        reader = Reader.open(settings.archive_folder() / "archive.sqlite")
        assert (reader.count("door", None, None), reader.count("yard", None, None)) == (2, 1)
        reader.close()

        await caller.ask('{"id": "q1", "question": "what is visible now?"}', "longwatch/door/query")
        again = await caller.answer("longwatch/answer/q1", 2)
        assert again["answered_at"] > first["answered_at"], "the answer of before is not repeated"
        assert [gap["reason"] for gap in again["memory"]["gaps"]] == ["erased"]


async def test_the_command_line_clears_the_broker_as_well(
    broker: Mosquitto, model: LlavaOnevision, tmp_path: Path
) -> None:
    """What an earlier run left there goes too: nobody knows what it shows."""
    from daemon import keep

    settings = settings_at(broker.port, tmp_path / "archive", snapshot_every_s=0)
    async with calling(broker.port) as caller:
        for topic in ("door/snapshot", "last_evidence", "last_answer"):
            await caller.client.publish(f"longwatch/{topic}", b"of before", 1, retain=True)
        async with at_work(model, settings) as whole:
            await whole.feed([time.time() - 30.0])
            await caller.client.publish("longwatch/yard/snapshot", b"of before", 1, retain=True)
            path = settings.archive_folder() / "archive.sqlite"
            asked = ("door", time.time() - 60.0, time.time())
            assert await asyncio.to_thread(keep._request, path, asked, lambda *_: None) == 1
            for topic in ("door/snapshot", "last_evidence"):
                await until(lambda topic=topic: now_on(caller, f"longwatch/{topic}") == b"")  # type: ignore[misc]
            await until(lambda: b"erased" in now_on(caller, "longwatch/last_answer"))
            assert now_on(caller, "longwatch/yard/snapshot") == b"of before"
            reader = Reader.open(path)
            assert not stats(reader, path).erasures_pending
            reader.close()


async def test_without_an_archive_memory_is_erased(broker: Mosquitto, model: LlavaOnevision, tmp_path: Path) -> None:
    settings = settings_at(broker.port, tmp_path, archive={"enabled": False})
    async with calling(broker.port) as caller, at_work(model, settings) as whole:
        await whole.feed([time.time() - age_s for age_s in (4000, 50, 40)])
        assert (await said(caller, {"id": "f1", "last": "10m"}, "done"))["carriers"] == 0
        assert len(whole.app.posts["door"].bank) == 1
