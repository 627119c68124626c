"""`longwatch status` and `longwatch top`: what people read, what scripts get, and what is said when nobody answers."""

from __future__ import annotations

import contextlib
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from rich.console import Console

from daemon import status, top
from daemon.demo.broker import free_port
from daemon.overview import Archiving, Broker, Overview
from daemon.settings import Settings, parse
from daemon.status import StatusError, ago, problems, size
from tests.daemon.looks import make_overview

TOKEN = "0123456789abcdef-token"


def make_settings(port: int, **http: Any) -> Settings:
    return parse({"cameras": {"door": {"url": "rtsp://camera/1"}}, "http": {"port": port, **http}}, "test")


@contextlib.contextmanager
def daemon(reply: bytes) -> Iterator[Settings]:
    """Something that answers `reply` to whoever has the token."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            allowed = self.headers["Authorization"] == f"Bearer {TOKEN}" and self.path == "/overview"
            self.send_response(200 if allowed else 401)
            self.end_headers()
            self.wfile.write(reply if allowed else b"")

        def log_message(self, *_: Any) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield make_settings(server.server_port, token=TOKEN)
        finally:
            server.shutdown()
            thread.join()


def rendered(seen: Overview, width: int = 140) -> str:
    target = io.StringIO()
    Console(file=target, width=width).print(status.show(seen), highlight=False)
    return target.getvalue()


def well() -> Overview:
    seen = make_overview()
    return make_overview(cameras=seen.cameras[:1])


def row(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(name))


def words(text: str, name: str) -> str:
    """The row with single blanks."""
    return " ".join(row(text, name).split())


def test_the_table_says_everything() -> None:
    text = rendered(make_overview())
    assert "Longwatch 1.2.3" in text
    assert "up 62 min  1/2 cameras  12 answers" in text
    assert words(text, "door") == "door online 1 s 25.0 2.1 h 32 none 40 4"
    assert words(text, "yard") == "yard offline (refused) - 0.0 - 0 2 (10 min) 0 0"
    assert "3 waiting, a batch of frames 20 ms, first token 100 ms" in row(text, "engine")
    assert "5.0 MiB, 1234 written, 0 dropped" in row(text, "archive")
    assert "connected, 6 waiting" in row(text, "broker")
    assert "300.0 MiB, 9 threads" in row(text, "process")
    assert row(text, "!") == "! camera yard is offline: refused"


def test_narrow_terminals_lose_no_camera() -> None:
    text = rendered(make_overview(), width=60)
    assert "door" in text
    assert "yard" in text


def test_all_is_well() -> None:
    assert problems(well()) == []
    assert "all is well" in rendered(well())


@pytest.mark.parametrize("reason", ["disabled", "schedule"])
def test_a_camera_that_is_paused_is_no_problem(reason: str) -> None:
    seen = make_overview()
    yard = seen.cameras[1].model_copy(update={"state": "paused", "reason": reason})
    status = seen.status.model_copy(update={"cameras_paused": 1})
    seen = make_overview(cameras=(seen.cameras[0], yard), status=status)
    assert problems(seen) == []
    text = rendered(seen)
    assert words(text, "yard").startswith(f"yard paused ({reason})")
    assert "1/2 cameras (1 paused)" in text


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda seen: {"status": seen.status.model_copy(update={"archive_ok": False, "archive_reason": "full"})},
            "full",
        ),
        (lambda _: {"broker": Broker(connected=False, reason="refused [bold]")}, "no broker: refused [bold]"),
        (lambda _: {"stuck": ("engine silent for 61.0 s (allowed 60 s)",)}, "stuck: engine silent"),
        (
            lambda seen: {"status": seen.status.model_copy(update={"at": time.time() - 300})},
            "5 min ago; is it running?",
        ),
    ],
)
def test_every_problem_is_said(change: Callable[[Overview], dict[str, Any]], says: str) -> None:
    seen = make_overview(cameras=(), **change(make_overview()))
    assert [says in line for line in problems(seen)] == [True]
    assert says in rendered(seen)


def test_it_knows_less_over_the_broker_and_says_no_more() -> None:
    text = rendered(make_overview(broker=None, archive=None, gaps={}, process={}))
    assert "broker" not in text
    assert "process" not in text
    assert "switched off" in rendered(make_overview(archive=Archiving(enabled=False)))


@pytest.mark.parametrize(("make", "code"), [(well, 0), (make_overview, 1)])
def test_the_exit_code_and_the_json(make: Callable[[], Overview], code: int) -> None:
    seen = make()  # now: what is minutes old is a problem
    with daemon(make_overview(**dict(seen)).model_dump_json().encode()) as settings:
        target = io.StringIO()
        assert status.run(settings, as_json=True, console=Console(file=target, width=80)) == code
    found = json.loads(target.getvalue())
    assert found["ok"] == (code == 0)
    assert bool(found["problems"]) == (code == 1)
    assert found["cameras"][0]["camera"] == "door"


def test_who_does_not_answer_is_named_with_the_way_out() -> None:
    nobody = make_settings(free_port())
    with pytest.raises(StatusError, match=r"overview: .*refused; is the daemon running, with this http.port\?"):
        status.fetch(nobody)
    with daemon(b"{}") as settings:
        with pytest.raises(StatusError, match=r"is the daemon running"):
            status.fetch(settings)
        wrong = make_settings(settings.http.port, token="another-token-than-that")
        with pytest.raises(StatusError, match=r"HTTP 401; is http.token the daemon's\?") as caught:
            status.fetch(wrong)
        assert "another-token" not in str(caught.value)


def test_top_shows_goes_on_without_a_daemon_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[Overview | StatusError] = [make_overview(), StatusError("nobody is there"), well()]
    monkeypatch.setattr(top, "fetch", lambda _: _give(looks))
    waits: list[float] = []

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        return not looks

    target = io.StringIO()
    console = Console(file=target, width=140, force_terminal=True)
    assert top.run(make_settings(1), 0.5, console, wait) == 0
    assert waits == [0.5, 0.5, 0.5]
    text = target.getvalue()
    assert text.index("camera yard is offline") < text.index("nobody is there") < text.index("all is well")
    assert "q ends" in text


def _give(looks: list[Overview | StatusError]) -> Overview:
    found = looks.pop(0)
    if isinstance(found, StatusError):
        raise found
    return found


def test_numbers_for_people() -> None:
    assert [ago(s) for s in (None, 0.4, 119, 120, 7200, 200_000)] == ["-", "0 s", "119 s", "2 min", "2.0 h", "2.3 d"]
    assert [size(count) for count in (0, 1023, 1024, 5 * 2**30)] == ["0 B", "1023 B", "1.0 KiB", "5.0 GiB"]
