"""Standing questions over MQTT and over restarts: what is taken, refused, told, and found again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from jsonschema import validate

from daemon.desk import Delivery
from daemon.outbox import Outgoing
from daemon.settings import Settings
from daemon.topics import Topics
from daemon.watch.post import WatchPost
from daemon.watch.store import FILE
from daemon.wire import schemas
from memory.view import MemoryView
from stream.model.llava_onevision import LlavaOnevision
from stream.types import Frame, Thumbnail
from tests.daemon.driven import Bench
from tests.models import random_frames, random_model

SCHEMAS = {name.removesuffix(".json"): json.loads(text) for name, text in schemas().items()}


@pytest.fixture(scope="module")
def model() -> LlavaOnevision:
    return random_model()


class House:
    """A daemon without network: what is published is in `out`."""

    def __init__(self, model: LlavaOnevision, folder: Path, **watch: Any) -> None:
        self.bench, self.out = Bench(model), list[Outgoing]()
        cameras = {"cam0": {"url": "rtsp://x"}}
        self.settings = Settings.model_validate({"cameras": cameras, "watch": watch, "archive": {"folder": folder}})
        positions = self.bench.cameras["cam0"].bank.policy.positions
        core: Any = SimpleNamespace(model=model, policy=SimpleNamespace(positions=positions))
        self.post = WatchPost(self.settings, core, self.bench.engine, self.out.append, Topics("p"))
        assert self.post.man is not None
        self.says = 0.0
        self.post.man._judge = self  # what a random model says is of no use here
        self.post.man.zone = None
        self.frames = iter(random_frames(50, 0, "cam0"))

    def probabilities(self, view: MemoryView, questions: Sequence[Sequence[int]]) -> list[float]:
        return [self.says] * len(questions)

    def send(self, name: str, payload: object) -> None:
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self.post.take(Delivery(f"p/watch/{name}/set", data, True, None, None, None))

    async def see(self, says: float) -> None:
        """A frame, two seconds later."""
        self.says = says
        self.bench.clock.now_s += 2
        found = next(self.frames)
        frame = Frame("cam0", found.index, 0, 0.0, self.bench.clock.now_s, found.image, Thumbnail(lambda: b"jpeg"))
        self.bench.newest["cam0"] = frame.wall_s
        self.bench.cameras["cam0"].mailbox.put(frame)
        self.bench.engine.notify()
        self.bench.engine.turn()
        await asyncio.sleep(0)

    def said(self, topic: str) -> list[Any]:
        return [json.loads(item.payload) if item.payload else None for item in self.out if item.topic == topic]


def run(test: Coroutine[Any, Any, None]) -> None:
    torch.manual_seed(0)
    asyncio.run(test)


def test_from_the_question_to_its_events_and_back(model: LlavaOnevision, tmp_path: Path) -> None:
    async def story() -> None:
        house = House(model, tmp_path)
        spec = {"question": "is there a red car?", "debounce_s": 1, "severity": "alert"}
        validate(spec, SCHEMAS["watch"])
        house.send("car", spec)
        await asyncio.sleep(0)
        assert house.said("p/watch/car/state")[-1]["state"] == "OFF"
        for says in (0.1, 0.9, 0.9, 0.9, 0.1, 0.1):
            await house.see(says)
        first, last = house.said("p/events")
        for event in (first, last):
            validate(event, SCHEMAS["event"])
        assert (first["type"], first["before"]["state"], first["after"]["state"]) == ("new", "OFF", "ON")
        assert first["after"]["severity"] == "alert"
        assert (last["type"], last["before"]["state"], last["after"]["reason"]) == ("end", "ON", "over")
        (picture,) = [item for item in house.out if item.topic == first["after"]["evidence"][0]["frame"]]
        assert picture.payload == b"jpeg"
        states = house.said("p/watch/car/state")
        for state in states:
            validate(state, SCHEMAS["watch_state"])
        assert [state["state"] for state in states] == ["OFF", "ON", "OFF"]
        assert all(item.retain for item in house.out if item.topic == "p/watch/car/state")
        house.send("car", b"")
        await asyncio.sleep(0)
        assert house.said("p/watch/car/state")[-1] is None

    run(story())


@pytest.mark.parametrize(
    ("name", "payload", "reason"),
    [
        ("car", b"{", "not JSON"),
        ("car", b"\xff\xfe", "not JSON"),
        ("car", {"question": ""}, "question"),
        ("car", {"question": "x?", "severety": "info"}, "did you mean 'severity'?"),
        ("car", {"question": "x?", "cameras": ["nowhere"]}, "no camera 'nowhere'; there are cam0"),
        ("car", {"question": "x?", "on_above": 0.1}, "off_below: 0.4 is above on_above: 0.1"),
        ("Car!", {"question": "x?"}, "watch name 'Car!'"),
        ("car", b'"' + b"x" * 70_000, "at most 65536"),
    ],
)
def test_what_is_refused_changes_nothing(
    model: LlavaOnevision, tmp_path: Path, name: str, payload: object, reason: str
) -> None:
    async def story() -> None:
        house = House(model, tmp_path, car={"question": "is there a car?"})
        house.send(name, payload)
        state = house.said(f"p/watch/{name}/state")[-1]
        validate(state, SCHEMAS["watch_state"])
        assert reason in state["error"]
        assert house.post.specs() == house.settings.watch
        assert house.out[-1].retain is (name == "car"), "an unknown name leaves nothing at the broker"

    run(story())


def test_given_questions_and_open_events_survive_a_restart(model: LlavaOnevision, tmp_path: Path) -> None:
    async def story() -> None:
        first = House(model, tmp_path, gate={"question": "is the gate open?"})
        first.send("car", {"question": "is there a red car?", "debounce_s": 1})
        for says in (0.9, 0.9):
            await first.see(says)
        assert [event["after"]["watch"] for event in first.said("p/events")] == ["car", "gate"] or len(
            first.said("p/events")
        ) == 2
        first.post.save()
        second = House(model, tmp_path)  # without the gate
        await asyncio.sleep(0)
        (ended,) = second.said("p/events")
        assert (ended["after"]["watch"], ended["after"]["reason"]) == ("gate", "removed")
        assert second.said("p/watch/gate/state")[-1] is None
        assert second.post.state("car").state == "ON", "and no second `new`"

    run(story())


@pytest.mark.parametrize("damage", [b"", b"{", b'{"v": 2}', b'{"given": {"car": {}}}', b"\xff"])
def test_a_damaged_file_is_set_aside(model: LlavaOnevision, tmp_path: Path, damage: bytes) -> None:
    async def story() -> None:
        (tmp_path / FILE).write_bytes(damage)
        house = House(model, tmp_path, gate={"question": "is the gate open?"})
        assert list(house.post.specs()) == ["gate"]
        house.post.save()

    run(story())
    assert [path.read_bytes() for path in tmp_path.glob("watch.json.damaged-*")] == [damage]
    assert json.loads((tmp_path / FILE).read_text())["v"] == 1


def test_a_reload_takes_over_the_configuration(model: LlavaOnevision, tmp_path: Path) -> None:
    async def story() -> None:
        house = House(model, tmp_path, gate={"question": "is the gate open?"})
        other = House(model, tmp_path / "other", door={"question": "is the door open?"}).settings
        house.post.configure(other)
        await asyncio.sleep(0)
        assert list(house.post.specs()) == ["door"]
        assert house.said("p/watch/gate/state")[-1] is None
        assert house.said("p/watch/door/state")[-1]["source"] == "config"

    run(story())
