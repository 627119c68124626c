"""docs/troubleshooting.md quotes what the doctor really says: each fault is made, and the page has its line."""

from __future__ import annotations

import ast
import dataclasses
import re
import socket
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from daemon import checks
from daemon.examine import Check, Task, examine, in_thread
from daemon.settings import CameraSettings, MqttSettings, parse
from stream.capture import Probe, VideoInfo
from stream.errors import CameraError
from stream.model import Geometry
from tests.brokers import Mosquitto, free_port, make_certificates
from tests.fakes import make_audio, make_video
from tests.models import random_model
from tests.pages import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and "what says it" not in line]
QUOTES = [quote for row in ROWS for quote in re.findall(r"`((?:ok|warn|fail) [^`]+)`", row)]
WAYS = [quote.removeprefix("-> ") for row in ROWS for quote in re.findall(r"`(-> [^`]+)`", row)]
LOGGED = [quote for row in ROWS for quote in re.findall(r"log: `([^`]+)`", row)]


def fits(quote: str, text: str) -> bool:
    """Whether `text` begins as quoted, with anything in place of `...`."""
    return re.match(".*?".join(map(re.escape, quote.split("..."))), text) is not None


def line(check: Check) -> str:
    return f"{check.status} {check.name} {check.seen}"


# -- making faults ---------------------------------------------------------------------------------------------------


def settings(**more: Any) -> Any:
    return parse({"cameras": {"door": {"url": "x"}}, **more}, "test")


def of_the_file(folder: Path) -> Iterator[Check]:
    path = folder / "longwatch.yaml"
    for text in ("camera: {}", "cameras: {a: {url: '${NOT_SET_ANYWHERE}'}}", "cameras: {a: {url: x, enabled: false}}"):
        path.write_text(text, encoding="utf-8")
        yield checks.configuration(path)[0]
    yield checks.configuration(folder / "gone.yaml")[0]


async def of_the_broker(folder: Path) -> list[Check]:
    import aiomqtt

    login = {"username": "cam", "password": "right-one"}
    server = Mosquitto(folder, passwords={"cam": "right-one"}).start()
    try:
        wrong: list[dict[str, Any]] = [
            {"port": free_port()},
            {"host": "no-such-host.invalid"},
            {"port": server.port, "username": "cam", "password": "wrong-one"},
            {"port": server.port, "username": "cam", "password_file": folder / "gone"},
            {"port": server.port, **login},
        ]
        found = [check for raw in wrong for check in await checks.broker(MqttSettings.model_validate(raw))]
        async with aiomqtt.Client("127.0.0.1", server.port, username="cam", password="right-one") as client:
            await client.publish("longwatch/available", "online", qos=1, retain=True)
        found += await checks.broker(MqttSettings.model_validate(wrong[-1]))
    finally:
        server.stop()
    secured = Mosquitto(folder, tls=make_certificates(folder)).start()  # by an authority that nobody knows
    try:
        return found + await checks.broker(MqttSettings.model_validate({"port": secured.port, "tls": {}}))
    finally:
        secured.stop()


async def of_cameras(folder: Path) -> list[Check]:
    from daemon.demo.camera import DemoCamera

    (folder / "text.mp4").write_text("not a video", encoding="utf-8")
    clip = make_video(folder / "clip.mp4", frames=20)
    urls = [f"rtsp://127.0.0.1:{free_port()}/x", str(folder / "gone.mp4"), str(folder / "text.mp4")]
    urls += [str(make_audio(folder / "audio.mp4")), "rtsp://no-such-host.invalid/sub"]
    found = [await checks.camera_opens("door", CameraSettings(url=url, timeout_s=2)) for url in urls]
    found.append(await checks.camera_opens("door", CameraSettings(url="x", enabled=False)))
    async with DemoCamera({"door": clip}, login=("viewer", "right-one")) as camera:
        found.append(await checks.camera_opens("door", CameraSettings(url=camera.url("door"), timeout_s=2)))
    return found


def of_streams() -> Iterator[Check]:
    """What a look at a stream would advise."""
    probe = Probe(VideoInfo("hevc", 3840, 2160, 15.0), 0.1, 0.2, 15.0, 90, 3, 10.0)
    for advice in checks.camera_advice(probe, live=True):
        yield Check("camera door", "warn", checks._describe(probe), advice)


def of_models(folder: Path, geometry: Geometry) -> Iterator[Check]:
    for path in (str(folder), "nobody/no-such-model", "no-such-model"):
        yield from checks.model(settings(model={"path": path}))
    yield from checks.model(settings())
    yield checks._geometry(dataclasses.replace(geometry, trained=False), 1.0)
    yield checks._bank(settings(memory={"carriers": 4096}), geometry)


def of_the_machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Check]:
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        yield checks.processor("cuda", 0)
        yield checks.processor("cpu", 10_000)
    yield checks.memory(lambda: "MemTotal: 24000000 kB\nMemAvailable: 500000 kB\n")
    yield checks.memory(lambda: "")
    yield checks.clock(lambda: 0.0)
    (folder / "file").write_text("", encoding="utf-8")
    yield checks.disk(folder / "file" / "in" / "a" / "file")
    with monkeypatch.context() as patch:
        patch.setattr(checks, "_GIB", 2**60)
        yield checks.disk(folder)


def of_the_page(folder: Path) -> Iterator[Check]:
    token = folder / "token"
    token.write_text("0123456789abcdef", encoding="ascii")
    token.chmod(0o644)
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        yield from checks.http(settings(http={"port": other.getsockname()[1]}))
    for http in (
        {"enabled": False},
        {"port": free_port()},
        {"port": free_port(), "host": "192.0.2.1", "token": "0123456789abcdef"},
        {"port": free_port(), "token_file": str(folder / "gone")},
        {"port": free_port(), "token_file": str(token)},
    ):
        yield from checks.http(settings(http=http))


async def a_check_that_hangs() -> list[Check]:
    import threading

    release = threading.Event()
    found = await examine([Task("camera door", lambda: in_thread(lambda: Check("", "ok", str(release.wait(9)))), 0.1)])
    release.set()
    return found


@pytest.fixture
async def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Check]:
    """What the doctor says about every fault that can be made here."""

    def folder(name: str) -> Path:
        (tmp_path / name).mkdir()
        return tmp_path / name

    found = [*of_the_file(folder("file")), *await of_the_broker(folder("broker")), *await of_cameras(folder("cameras"))]
    found += [await frozen(monkeypatch), *of_streams(), *of_models(folder("models"), random_model().geometry)]
    return [
        *found,
        *of_the_machine(folder("machine"), monkeypatch),
        *of_the_page(folder("page")),
        *await a_check_that_hangs(),
    ]


async def frozen(monkeypatch: pytest.MonkeyPatch) -> Check:
    """Of a camera that opens and then says nothing, in the words of `stream.capture`: a real one takes its time."""
    text = next(text for text in strings() if text.endswith("is it frozen?"))

    def probe(*_: object) -> Probe:
        raise CameraError(text.replace("%s", "rtsp://camera.example/sub", 1).replace("%s", "5"), "frozen")

    with monkeypatch.context() as patch:
        patch.setattr("stream.capture.probe", probe)
        return await checks.camera_opens("door", CameraSettings(url="rtsp://camera.example/sub"))


@cache
def strings() -> tuple[str, ...]:
    """Every text in the code; the places of an f-string are `%s`."""
    found = []
    for folder in ("stream", "memory", "daemon"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = (part.value if isinstance(part, ast.Constant) else "%s" for part in node.values)
                    found.append("".join(map(str, parts)))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return tuple(found)


# -- the page --------------------------------------------------------------------------------------------------------


async def test_the_page_and_the_doctor_say_the_same(made: list[Check]) -> None:
    said = [line(check) for check in made]
    report = "the doctor said:\n" + "\n".join(f"{line(check)} -> {check.way_out}" for check in made)
    assert [quote for quote in QUOTES if not any(fits(quote, text) for text in said)] == [], report
    assert [way for way in WAYS if not any(fits(way, check.way_out) for check in made)] == [], report
    bad = [text for check, text in zip(made, said, strict=True) if check.status != "ok"]
    assert [text for text in bad if not any(fits(quote, text) for quote in QUOTES)] == [], "faults without a line"


def test_what_the_log_is_quoted_with_is_in_the_code() -> None:
    assert len(LOGGED) >= 4
    assert [quote for quote in LOGGED if not any(fits(quote, text) for text in strings())] == []


def test_every_reason_of_a_camera_has_a_row() -> None:
    assert [reason for reason in checks._CAMERA_WAY_OUT if f"`{reason}`" not in PAGE] == []


def test_the_page_has_enough_to_be_checked() -> None:
    assert len(ROWS) >= 40
    assert len(QUOTES) >= 30
    assert fits("fail disk ... cannot", "fail disk /x cannot be written")
    assert not fits("fail disk ... cannot", "warn disk /x cannot be written")
