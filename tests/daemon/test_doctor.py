"""The doctor names what is wrong and the way out, quickly, whatever it meets; and says no secret while doing so."""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from daemon import checks, doctor
from daemon.examine import Check, Task, examine, in_thread
from daemon.settings import CameraSettings, MqttSettings, Settings, parse
from stream.capture import Probe, VideoInfo
from stream.errors import CameraError
from tests.brokers import Mosquitto, free_port
from tests.daemon.looks import make_overview
from tests.fakes import make_video

PASSWORD = "hunter2 @/?"  # no colon: Mosquitto's tool cannot read one


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_video(tmp_path / "clip.mp4", frames=40)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    folder = tmp_path / "broker"
    folder.mkdir()
    server = Mosquitto(folder, passwords={"cam": PASSWORD}).start()
    yield server
    server.stop()


def settings_for(server: Mosquitto, **more: object) -> MqttSettings:
    return MqttSettings.model_validate({"port": server.port, "username": "cam", "password": PASSWORD, **more})


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_broker_that_works(broker: Mosquitto, protocol: str) -> None:
    login, prefix = await checks.broker(settings_for(broker, protocol=protocol))
    assert (login.status, prefix.status) == ("ok", "ok")
    assert re.search(rf"MQTT {re.escape(protocol)}, TCP [\d.]+ ms, login [\d.]+ ms, round trip [\d.]+ ms", login.seen)


async def test_broker_with_another_longwatch_on_it(broker: Mosquitto) -> None:
    import aiomqtt

    async with aiomqtt.Client("127.0.0.1", broker.port, username="cam", password=PASSWORD) as client:
        await client.publish("longwatch/available", "online", qos=1, retain=True)
    _, prefix = await checks.broker(settings_for(broker))
    assert (prefix.status, prefix.name) == ("warn", "prefix")
    assert "different mqtt.prefix" in prefix.way_out
    _, prefix = await checks.broker(settings_for(broker, prefix="other"))
    assert prefix.status == "ok"


async def test_broker_with_a_wrong_password(broker: Mosquitto) -> None:
    (found,) = await checks.broker(settings_for(broker, password="wrong-password"))
    assert found.status == "fail"
    assert "mqtt.password" in found.seen + found.way_out
    assert "wrong-password" not in found.seen + found.way_out


async def test_broker_with_a_missing_password_file(broker: Mosquitto, tmp_path: Path) -> None:
    (found,) = await checks.broker(settings_for(broker, password=None, password_file=tmp_path / "gone"))
    assert found.status == "fail"
    assert "mqtt.password_file: cannot read" in found.seen


async def test_closed_port_and_unknown_host() -> None:
    (found,) = await checks.broker(MqttSettings(port=free_port()))
    assert (found.status, "nobody listens there" in found.seen) == ("fail", True)
    (found,) = await checks.broker(MqttSettings(host="no-such-host.invalid"))
    assert (found.status, "unknown host" in found.seen) == ("fail", True)


def house(**http: object) -> Settings:
    return parse({"cameras": {"door": {"url": "x"}}, "http": {"port": free_port(), **http}}, "test")


def test_a_free_http_port() -> None:
    port, token = checks.http(house())
    assert (port.status, token.status) == ("ok", "ok")
    assert port.seen.endswith("is free")
    assert "only this machine" in token.seen


def test_http_that_is_switched_off() -> None:
    (found,) = checks.http(house(enabled=False))
    assert (found.status, "switched off" in found.seen) == ("ok", True)


class Somebody(BaseHTTPRequestHandler):
    """Answers everything with what the server holds, or 401 where a token is wanted."""

    def do_GET(self) -> None:
        server: Any = self.server
        wrong = server.token and self.headers.get("Authorization") != f"Bearer {server.token}"
        self.send_response(401 if wrong else 200)
        self.end_headers()
        self.wfile.write(b"" if wrong else server.body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def listening(body: str, token: str = "") -> Iterator[int]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Somebody)
    server.body, server.token = body.encode(), token
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


TOKEN = "0123456789abcdef-token"


def test_an_http_port_that_our_daemon_has() -> None:
    with listening(make_overview().model_dump_json(), TOKEN) as port:
        found, token = checks.http(house(port=port, token=TOKEN))
        assert (found.status, token.status) == ("ok", "ok")
        assert found.seen.startswith("Longwatch 1.2.3 answers at")
        found, _ = checks.http(house(port=port))
        assert (found.status, "HTTP 401" in found.seen, "same token" in found.way_out) == ("fail", True, True)
        assert TOKEN not in found.seen


def test_an_http_port_that_somebody_else_has() -> None:
    with listening("<html>It works!</html>") as port:
        found, _ = checks.http(house(port=port))
    assert (found.status, "another http.port" in found.way_out) == ("fail", True)


def test_an_http_host_that_is_not_ours() -> None:
    found, _ = checks.http(house(host="192.0.2.1", token=TOKEN))
    assert (found.status, "address of this machine" in found.way_out) == ("fail", True)


def test_token_files(tmp_path: Path) -> None:
    file = tmp_path / "token"
    (found,) = checks.http(house(token_file=str(file)))
    assert (found.status, found.name, "openssl" in found.way_out) == ("fail", "token", True)
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o644)
    _, found = checks.http(house(token_file=str(file), host="0.0.0.0"))
    assert (found.status, found.way_out) == ("warn", f"chmod 640 {file}")
    file.chmod(0o640)
    _, found = checks.http(house(token_file=str(file), host="0.0.0.0"))
    assert (found.status, "other machines" in found.seen) == ("ok", True)


def test_an_exposed_port_without_a_token_is_said_first(tmp_path: Path) -> None:
    file = tmp_path / "longwatch.yaml"
    file.write_text("cameras: {door: {url: x}}\nhttp: {host: 0.0.0.0}\n")
    found, settings = checks.configuration(file)
    assert (found.status, settings) == ("fail", None)
    assert "takes a `token` or a `token_file`" in found.seen


def test_every_part_has_its_line() -> None:
    names = [task.name for task in checks.all_tasks(house())]
    assert names == ["memory", "disk", "clock", "processor", "broker", "http", "camera door", "model"]


async def test_file_camera(clip: Path) -> None:
    found = await checks.camera_opens("door", CameraSettings(url=str(clip)))
    assert found.status == "ok", found
    assert found.seen.startswith("h264 96x64, 10.0 fps, key frame every 0.5 s; first frame after 0.")


async def test_missing_file_camera_and_a_dead_one(tmp_path: Path) -> None:
    found = await checks.camera_opens("door", CameraSettings(url=str(tmp_path / "gone.mp4")))
    assert (found.status, "gone.mp4" in found.seen, bool(found.way_out)) == ("fail", True, True)
    found = await checks.camera_opens("door", CameraSettings(url=f"rtsp://u:{PASSWORD}@127.0.0.1:{free_port()}/x"))
    assert found.status == "fail"
    assert "hunter2" not in found.seen
    assert (await checks.camera_opens("door", CameraSettings(url="x", enabled=False))).status == "ok"


def test_every_reason_of_a_camera_error_has_a_way_out() -> None:
    reasons = {kind.default_reason for kind in (CameraError, *CameraError.__subclasses__())}
    assert reasons <= set(checks._CAMERA_WAY_OUT)


@pytest.mark.parametrize(
    ("info", "keyframe_s", "corrupt", "live", "words"),
    [
        (VideoInfo("h264", 640, 360, 15.0), 2.0, 0, True, []),
        (VideoInfo("h264", 1920, 1080, 15.0), 2.0, 0, True, []),
        (VideoInfo("h264", 2560, 1440, 15.0), 2.0, 0, True, ["sub-stream"]),
        (VideoInfo("hevc", 640, 360, 15.0), 2.0, 0, True, ["HEVC"]),
        (VideoInfo("h264", 640, 360, 15.0), 5.0, 0, True, ["5.0 s apart"]),
        (VideoInfo("h264", 640, 360, 15.0), None, 0, True, ["more than the 6 s watched apart"]),
        (VideoInfo("h264", 640, 360, 15.0), None, 0, False, []),
        (VideoInfo("hevc", 3840, 2160, 15.0), 10.0, 3, True, ["sub-stream", "HEVC", "10.0 s", "3 damaged"]),
    ],
)
def test_camera_advice(info: VideoInfo, keyframe_s: float | None, corrupt: int, live: bool, words: list[str]) -> None:
    advice = checks.camera_advice(Probe(info, 0.1, 0.2, 15.0, 90, corrupt, keyframe_s), live=live)
    assert len(advice) == len(words)
    assert all(word in text for word, text in zip(words, advice, strict=True))


def test_machine_checks(tmp_path: Path) -> None:
    assert checks.processor("cpu", 1).status == "ok"
    assert "bf16" in checks.processor("cpu", 1).seen
    assert checks.processor("cpu", 10_000).status == "warn"
    meminfo = "MemTotal:       24000000 kB\nMemAvailable:   {} kB\n"
    assert checks.memory(lambda: meminfo.format(20_000_000)).seen == "19.1 of 22.9 GiB available"
    assert checks.memory(lambda: meminfo.format(500_000)).status == "warn"
    assert checks.memory(lambda: "").status == "warn"
    assert checks.disk(Path("/")).status in ("ok", "warn")
    assert checks.disk(tmp_path / "made" / "at" / "start").status in ("ok", "warn")
    (tmp_path / "file").write_text("")
    assert checks.disk(tmp_path / "file" / "in" / "a" / "file").status == "fail"
    assert checks.clock().status == "ok"
    assert checks.clock(lambda: 0.0).status == "fail"


def test_model_that_is_not_there(tmp_path: Path) -> None:
    raw = {"cameras": {"door": {"url": "x"}}}
    (found,) = checks.model(parse({**raw, "model": {"path": str(tmp_path)}}, "test"))
    assert (found.status, found.name) == ("fail", "model")
    (found,) = checks.model(parse({**raw, "model": {"path": "nobody/no-such-model"}}, "test"))
    assert (found.status, "not on this machine" in found.seen) == ("warn", True)


async def test_every_check_is_bounded_and_its_own_faults_are_lines() -> None:
    release = threading.Event()

    def fail() -> Check:
        raise OSError(f"rtsp://u:{PASSWORD}@h and\n{PASSWORD}")

    def task(name: str, call: Callable[[], Check], limit_s: float = 30.0) -> Task:
        return Task(name, lambda: in_thread(call), limit_s)

    seen: list[Check] = []
    tasks = [
        task("hangs", lambda: Check("hangs", "ok", str(release.wait(60))), 0.2),
        task("fails", fail),
        task("works", lambda: Check("works", "ok", f"knows {PASSWORD}")),
    ]
    found = await examine(tasks, (PASSWORD,), seen.append)
    release.set()
    assert [(check.name, check.status) for check in found] == [("hangs", "fail"), ("fails", "fail"), ("works", "ok")]
    assert {check.name for check in seen} == {"hangs", "fails", "works"}
    assert "within 0.2 s" in found[0].seen
    assert found[1].seen == "unexpected OSError: rtsp://***@h and ***"
    assert found[2].seen == "knows ***"


def run(path: Path, as_json: bool = False) -> tuple[int, str]:
    out = io.StringIO()
    code = doctor.doctor(path, as_json=as_json, console=Console(file=out, width=300))
    return code, out.getvalue()


def test_whole_report(tmp_path: Path, clip: Path, broker: Mosquitto) -> None:
    path = tmp_path / "lw.yaml"
    mqtt = f"mqtt: {{port: {broker.port}, username: cam, password: '{PASSWORD}'}}\n"
    path.write_text(f"cameras: {{door: {{url: '{clip}'}}, dead: {{url: '/gone/{clip.name}'}}}}\n{mqtt}")
    code, text = run(path, as_json=True)
    document = json.loads(text)
    status = {check["name"]: check["status"] for check in document["checks"]}
    assert code == 1
    assert document["ok"] is False
    assert status["camera dead"] == "fail"
    assert [status[name] for name in ("configuration", "broker", "prefix", "camera door")] == ["ok"] * 4
    assert set(document["checks"][0]) == {"name", "status", "seen", "way_out"}


def test_broken_configuration_still_checks_the_machine(tmp_path: Path) -> None:
    path = tmp_path / "lw.yaml"
    path.write_text("camera: {}\n")
    code, text = run(path)
    assert code == 1
    assert "fail  configuration" in text
    assert "did you mean 'cameras'?" in text
    assert "  ok  clock" in text
    assert "5 checks, 1 failed" in text


def test_exit_code_0_when_nothing_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lw.yaml"
    path.write_text("cameras: {door: {url: x}}\n")

    async def fine() -> Check:
        return Check("a [b]", "warn", "seen [red]", "[way] out")

    monkeypatch.setattr(checks, "all_tasks", lambda _: [Task("a [b]", fine, 1.0)])
    code, text = run(path)
    assert code == 0
    assert "warn  a [b]  seen [red]\n      -> [way] out" in text
