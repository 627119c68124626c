"""The diary over MQTT and on the command line: what is asked, what is answered, what is refused in one line."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import typer
from jsonschema import validate
from typer.testing import CliRunner

from daemon.core import Core
from daemon.desk import Delivery
from daemon.diary.command import diary
from daemon.diary.post import DiaryPost
from daemon.diary.reach import reach
from daemon.engine import Engine
from daemon.metrics import Counters
from daemon.outbox import Outgoing
from daemon.outlook import Outlook
from daemon.recaller import Recaller
from daemon.settings import parse
from daemon.topics import Topics
from daemon.wire import schemas
from memory import recall
from memory.archive import Archive, Line, Reader
from memory.recall.search import How, Limits
from stream.errors import LongwatchError, QueryError
from stream.model.llava_onevision import LlavaOnevision
from tests.daemon.link import until
from tests.daemon.recalling import small_model
from tests.memory.archives import T0, WAIT_S, entry, fill, opened, setup
from tests.models import make_bank, make_encoder

SCHEMAS = {name.removesuffix(".json"): json.loads(text) for name, text in schemas().items()}
DAY_S = 86_400.0


def line(number: int, text: str, camera: str = "door", **more: Any) -> Line:
    first_s = T0 + 60 * number
    return Line(camera, first_s, first_s + 70, text, **{"carrier": number, "confidence": 0.75, "model": "m", **more})


def written(folder: Path) -> Archive:
    """Three events of two cameras and a day's line."""
    archive = Archive.open(folder / "archive.sqlite", setup())
    fill(archive, [entry(frame, camera) for frame in range(3) for camera in ("door", "yard")])
    day = Line("door", T0, T0 + DAY_S, "2 events", "day")
    for item in (line(1, "a red car stops"), line(2, "two dogs"), line(3, "a blue bus", "yard"), day):
        assert archive.tell(item)
    assert archive.flush(WAIT_S)
    return archive


# -- MQTT


class Keeper:
    """A folder with an archive, or without."""

    def __init__(self, archive: Archive | None) -> None:
        self.archive = archive

    def reader(self) -> Reader | None:
        return None if self.archive is None else self.archive.reader()

    def tell(self, item: Line) -> bool:
        return self.archive is not None and self.archive.tell(item)


class Post:
    """A DiaryPost without network."""

    def __init__(self, model: LlavaOnevision, archive: Archive | None, **options: Any) -> None:
        raw = {
            "cameras": {"door": {"url": "x"}, "yard": {"url": "y"}},
            "diary": options,
            "answer": {"time_zone": "UTC"},
        }
        self.settings = parse({**raw, "mqtt": {"max_payload_bytes": 2000, "reply_prefixes": ["mine/"]}}, "test")
        bank, encoder = make_bank(model, 6, 2), make_encoder(model)
        recaller = Recaller(recall.make({"all": {}}), How(bank.policy.positions, Limits(6)))
        self.engine = Engine(encoder, recaller, {}, self.settings.answer, Outlook(), Counters())
        core = Core(encoder, bank.policy, recaller.method, 0)
        self.out: list[Outgoing] = []
        keeper: Any = Keeper(archive)
        self.post = DiaryPost(
            self.settings, core, self.engine, keeper, self.out.append, Topics("p", ("mine/",)), random.Random(0)
        )

    async def ask(self, payload: object, **more: Any) -> tuple[str, dict[str, Any]]:
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self.out.clear()
        self.post.take(Delivery("p/diary", data, **more))
        async with asyncio.timeout(WAIT_S):
            await until(lambda: bool(self.out))
        (message,) = self.out
        found = json.loads(message.payload)
        validate(found, SCHEMAS["diary"])
        assert not message.retain
        return message.topic, found


@cache
def network() -> LlavaOnevision:
    return small_model()


@asynccontextmanager
async def posting(archive: Archive | None, **options: Any) -> AsyncIterator[Post]:
    post = Post(network(), archive, **options)
    try:
        yield post
    finally:
        post.post.close()
        if archive is not None:
            assert archive.close(WAIT_S)


async def test_lines_are_answered_where_it_was_asked(tmp_path: Path) -> None:
    async with posting(written(tmp_path)) as post:
        topic, found = await post.ask({"id": "a", "camera": "door"})
        assert topic == "p/diary/a"
        assert [item["text"] for item in found["lines"]] == ["2 events", "a red car stops", "two dogs"]
        first = found["lines"][1]
        assert (first["from"], first["to"], first["kind"], first["confidence"]) == (T0 + 60, T0 + 130, "event", 0.75)
        topic, found = await post.ask({"search": "cars OR dog", "reply_to": "mine/x"}, correlation=b"7")
        assert topic == "mine/x"
        assert post.out[0].correlation == b"7"
        assert [item["text"] for item in found["lines"]] == ["a red car stops", "two dogs"]
        topic, found = await post.ask({"since": T0 + 150, "until": "2100-01-01T00:00", "limit": 1}, reply_to="mine/y")
        assert topic == "mine/y"
        assert [item["text"] for item in found["lines"]] == ["a blue bus"]
        _, found = await post.ask({"summary": True})
        assert [item["text"] for item in found["lines"]] == ["2 events"]
        _, found = await post.ask({"since": "yesterday"})
        assert found["lines"] == []


WRONG: tuple[tuple[object, str], ...] = (
    (b"what happened?", "not JSON"),
    (b"\xff\xfe", "not JSON"),
    (b"", "not JSON"),
    (b"[]", "object"),
    (b"{" * 3000, "max_payload_bytes"),
    ({"sice": 3}, "since"),
    ({"since": "the day the dog came"}, "since 'the day the dog came' is no time"),
    ({"since": 9e12}, "since"),
    ({"since": 20, "until": 10}, "lies after"),
    ({"camera": "dor"}, "'door'"),
    ({"search": '"half'}, "double quotes"),
    ({"search": ""}, "search"),
    ({"limit": 0}, "limit"),
    ({"id": "a/b"}, "id"),
    ({"reply_to": "p/available"}, "may only lie below"),
)


async def test_what_is_wrong_is_said_in_one_line(tmp_path: Path) -> None:
    async with posting(written(tmp_path)) as post:
        for payload, said in WRONG:
            topic, found = await post.ask(payload)
            assert topic.startswith("p/diary/")
            assert said in found["error"], payload
            assert "\n" not in found["error"]
            assert found["lines"] == []


async def test_retained_questions_and_missing_archives(tmp_path: Path) -> None:
    async with posting(written(tmp_path)) as post:
        _, found = await post.ask({}, retain=True)
        assert "retained" in found["error"]
    async with posting(None) as post:
        _, found = await post.ask({})
        assert "archive.enabled" in found["error"]
        post.post.forget()
        assert post.engine.writing is None


@pytest.mark.parametrize("publish", [True, False])
async def test_new_lines_go_out_where_that_is_asked_for(tmp_path: Path, publish: bool) -> None:
    async with posting(written(tmp_path), publish=publish) as post:
        await asyncio.to_thread(post.post._tell, line(9, "a cat"))
        await asyncio.sleep(0.05)
        assert [message.topic for message in post.out] == ["p/door/diary"] * publish
        for message in post.out:
            validate(json.loads(message.payload), SCHEMAS["diary_line"])
        _, found = await post.ask({"search": "cat"})
        for _ in range(200):
            if found["lines"]:
                break
            await asyncio.sleep(0.05)
            _, found = await post.ask({"search": "cat"})
        assert found["lines"]


async def test_a_reload_reaches_the_scribe(tmp_path: Path) -> None:
    async with posting(written(tmp_path)) as post:
        update = {"diary": post.settings.diary.model_copy(update={"enabled": False})}
        post.post.configure(post.settings.model_copy(update=update))
        assert post.post.scribe is not None
        assert not post.post.scribe.settings.enabled


# -- times


def test_a_time_may_be_a_number_a_date_or_words() -> None:
    zone = ZoneInfo("Europe/Berlin")
    now_s = datetime(2026, 5, 12, 15, 0, tzinfo=zone).timestamp()
    midnight_s = datetime(2026, 5, 12, tzinfo=zone).timestamp()
    assert reach("since", None, now_s, zone) is None
    assert reach("since", 5, now_s, zone) == reach("since", "5", now_s, zone) == 5.0
    assert reach("until", "2026-05-12T00:00+00:00", now_s, zone) == datetime(2026, 5, 12, tzinfo=UTC).timestamp()
    assert reach("since", "yesterday", now_s, zone) == midnight_s - DAY_S
    assert reach("until", "yesterday", now_s, zone) == midnight_s
    assert reach("since", "an hour ago", now_s, zone) == pytest.approx(now_s - 3600, abs=400)
    for wrong in ("soon", "", "tomorrow", "1" * 30, "a red car yesterday", "\ud800"):
        with pytest.raises(QueryError, match="since"):
            reach("since", wrong, now_s, zone)


# -- the command


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "longwatch.yaml"
    archive, answer = f"{{folder: {tmp_path}}}", "{time_zone: UTC}"
    path.write_text(f"cameras: {{door: {{url: file}}}}\narchive: {archive}\nanswer: {answer}\n")
    return path


def run(*words: object) -> str:
    cli = typer.Typer(pretty_exceptions_enable=False)
    cli.command()(diary)
    result = CliRunner().invoke(cli, [str(word) for word in words])
    if isinstance(result.exception, Exception) and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("beside", [True, False])
def test_the_command_prints_lines_beside_a_daemon_or_without(config: Path, beside: bool) -> None:
    archive = written(config.parent)
    if not beside:
        assert archive.close(WAIT_S)
    date = datetime.fromtimestamp(T0, UTC).strftime("%Y-%m-%d")
    assert run("-c", config).splitlines() == [
        f"{date} door: 2 events",
        f"{date} 00:01-00:02 door: a red car stops",
        f"{date} 00:02-00:03 door: two dogs",
        f"{date} 00:03-00:04 yard: a blue bus",
    ]
    assert run("-c", config, "--summary").splitlines() == [f"{date} door: 2 events"]
    assert run("-c", config, "--search", "bus", "--camera", "yard").splitlines() == [
        f"{date} 00:03-00:04 yard: a blue bus"
    ]
    found = [json.loads(row) for row in run("-c", config, "--json", "--until", T0 + 70).splitlines()]
    assert [item["kind"] for item in found] == ["day", "event"]
    for item in found:
        validate(item, SCHEMAS["diary_line"])
    assert run("-c", config, "--since", "yesterday") == "nothing is written of that\n"
    assert run("-c", config, "--since", time.time(), "--json") == ""
    if beside:
        assert archive.close(WAIT_S)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--since", "someday"), "--since 'someday' is no time in the past"),
        (("--since", "20", "--until", "10"), "--since lies after --until"),
        (("--camera", "cellar"), "knows door, yard"),
        (("--search", "red-car"), "double quotes"),
    ],
)
def test_what_is_wrong_with_the_command_is_one_line(config: Path, words: tuple[str, ...], said: str) -> None:
    with opened(config.parent / "archive.sqlite") as archive:
        fill(archive, [entry(1), entry(1, "yard")])
        with pytest.raises(LongwatchError) as caught:
            run("-c", config, *words)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_archive_is_one_line(config: Path) -> None:
    with pytest.raises(LongwatchError, match="no archive there"):
        run("-c", config)
