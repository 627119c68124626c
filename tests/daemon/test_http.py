"""The HTTP server: who may come in, what browsers are told, and that a port, a part or an end takes nothing down."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from daemon import http
from daemon.demo.broker import free_port
from daemon.doors import HttpSettings
from daemon.guard import COOKIE, MAX_BODY_BYTES, Key
from daemon.http import HttpServer, Part
from daemon.metrics import Counters
from daemon.settings import parse
from stream.errors import ConfigError

TOKEN = "0123456789abcdef-token"
DOOR = {"door": {"url": "rtsp://camera/1"}}


async def hello(request: Request) -> Response:
    return PlainTextResponse("hello" if request.method == "GET" else str(len(await request.body())))


async def broken(_: Request) -> Response:
    raise RuntimeError("hunter2hunter2")


async def endless(_: Request) -> Response:
    async def forever() -> AsyncIterator[bytes]:
        while True:
            yield b"data: 1\n\n"
            await asyncio.sleep(0.05)

    return StreamingResponse(forever(), media_type="text/event-stream")


async def login(request: Request) -> Response:
    response = JSONResponse({})
    Key(TOKEN).log_in(response)
    return response


PART = Part(
    [
        Route("/hello", hello, methods=["GET", "POST"]),
        Route("/broken", broken),
        Route("/endless", endless),
        Route("/static/a.css", hello),
        Route("/login", login),
        Route("/open", hello),
    ],
    public=("/login", "/open", "/static/"),
)


def client(key: Key, counters: Counters | None = None, host: str = "127.0.0.1:8765") -> httpx2.AsyncClient:
    app = http.application([PART], key, counters or Counters())
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    return httpx2.AsyncClient(transport=transport, base_url=f"http://{host}")


@contextlib.asynccontextmanager
async def serving(settings: HttpSettings, counters: Counters) -> AsyncIterator[HttpServer]:
    server = HttpServer(settings, [PART], http.make_key(settings), counters)
    task = asyncio.create_task(server.run())
    try:
        async with asyncio.timeout(20):
            await server.listening.wait()
        yield server
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"host": "0.0.0.0"}, "can be reached from other machines, which takes a `token` or a `token_file`"),
        ({"host": "::"}, "set host: 127.0.0.1"),
        ({"token": "short"}, "at least 16 characters"),
        ({"token": "with a blank in its middle"}, "plain ASCII without blanks"),
        ({"token": TOKEN, "token_file": "/x"}, "give `token` or `token_file`"),
        ({"port": 0}, "http.port"),
    ],
)
def test_an_open_door_is_refused(section: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match="test: http") as caught:
        parse({"cameras": DOOR, "http": section}, "test")
    assert says in str(caught.value)
    assert str(section.get("token")) not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_this_machine_needs_no_token(host: str) -> None:
    assert parse({"cameras": DOOR, "http": {"host": host}}, "test").http.secret() is None


def test_a_closed_door_needs_no_token() -> None:
    assert not parse({"cameras": DOOR, "http": {"host": "0.0.0.0", "enabled": False}}, "test").http.enabled


def test_the_token_comes_from_a_file_and_is_a_secret(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n", encoding="utf-8")
    settings = parse({"cameras": DOOR, "http": {"host": "0.0.0.0", "token_file": str(file)}}, "test")
    assert settings.http.secret() == TOKEN
    assert TOKEN in settings.secrets()
    assert TOKEN not in repr(settings)
    file.write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"http\.token_file: .*at least 16 characters"):
        settings.http.secret()
    file.unlink()
    with pytest.raises(ConfigError, match=r"http\.token_file: cannot read .* FileNotFoundError"):
        settings.http.secret()


# -- who may come in ---------------------------------------------------------------------------------------------------


async def test_a_token_opens_and_nothing_else_does() -> None:
    counters = Counters()
    async with client(Key(TOKEN), counters, "cameras.example") as asker:
        for headers in (
            {},
            {"authorization": TOKEN},
            {"authorization": f"Basic {TOKEN}"},
            {"authorization": f"Bearer {TOKEN}x"},
            {"authorization": "Bearer "},
            {"authorization": "Bearer ö".encode("latin-1")},
            {"cookie": f"{COOKIE}={TOKEN}"},  # the cookie is not the token
            {"cookie": "longwatch=; ;;=\x00"},
        ):
            found = await asker.get("/hello", headers=headers)
            assert found.status_code == 401
            assert found.headers["www-authenticate"] == "Bearer"
            assert "http.token" in found.json()["error"]
            assert TOKEN not in found.text
        assert counters.value("http_refused", status="401") == 8.0
        assert (await asker.get("/hello", headers={"authorization": f"bearer {TOKEN}"})).text == "hello"
        for path in ("/openx", "/nothing", "/static/../hello", "/static/%2e%2e/hello", "//hello"):
            assert (await asker.get(path)).status_code in (401, 404)
        for path in ("/open", "/static/a.css", "/login"):
            assert (await asker.get(path)).status_code == 200


async def test_a_login_sets_a_cookie_that_opens() -> None:
    async with client(Key(TOKEN), host="cameras.example") as asker:
        found = await asker.get("/hello", headers={"accept": "text/html"})
        assert (found.status_code, found.headers["location"]) == (303, "/login?next=/hello")
        set_cookie = (await asker.get("/login")).headers["set-cookie"]
        assert "HttpOnly" in set_cookie
        assert "SameSite=strict" in set_cookie
        assert TOKEN not in set_cookie
        assert (await asker.get("/hello")).text == "hello"


async def test_without_a_token_only_names_of_this_machine_are_served() -> None:
    for host, status in (("127.0.0.1:8765", 200), ("localhost", 200), ("[::1]:8765", 200), ("evil.example", 403)):
        async with client(Key(None), host=host) as asker:
            assert (await asker.get("/hello")).status_code == status


async def test_another_sites_page_may_not_post() -> None:
    async with client(Key(None)) as asker:
        refused = await asker.post("/hello", headers={"origin": "https://evil.example"})
        assert refused.status_code == 403
        assert (await asker.post("/hello", headers={"origin": "http://127.0.0.1:8765"}, content=b"ab")).text == "2"


async def test_a_body_is_short_and_says_so() -> None:
    async def endless_body() -> AsyncIterator[bytes]:
        yield b"x"

    async with client(Key(None)) as asker:
        assert (await asker.post("/hello", content=b"x" * MAX_BODY_BYTES)).text == str(MAX_BODY_BYTES)
        assert (await asker.post("/hello", content=b"x" * (MAX_BODY_BYTES + 1))).status_code == 413
        assert (await asker.post("/hello", content=endless_body())).status_code == 411
        assert (await asker.post("/hello", headers={"content-length": "-1"})).status_code == 413


async def test_every_response_has_the_headers_and_a_fault_is_json() -> None:
    counters = Counters()
    async with client(Key(None), counters) as asker:
        for path, status in (("/hello", 200), ("/nothing", 404), ("/broken", 500)):
            found = await asker.get(path)
            assert found.status_code == status
            assert found.headers["x-content-type-options"] == "nosniff"
            assert found.headers["x-frame-options"] == "DENY"
            assert found.headers["content-security-policy"].startswith("default-src 'self'")
            assert found.headers["cache-control"] == "no-store"
            assert "hunter2" not in found.text
            assert status == 200 or "error" in found.json()
    assert counters.value("http_faults", kind="RuntimeError") == 1


# -- the server --------------------------------------------------------------------------------------------------------


async def test_it_serves_and_ends_though_a_stream_never_does() -> None:
    settings = HttpSettings(port=free_port())
    async with httpx2.AsyncClient(base_url=settings.url, trust_env=False) as asker:
        async with serving(settings, Counters()):
            assert (await asker.get("/hello")).text == "hello"
            stream = asker.stream("GET", "/endless")
            response = await stream.__aenter__()
            assert await anext(response.aiter_bytes()) == b"data: 1\n\n"
        with contextlib.suppress(httpx2.HTTPError):
            await stream.__aexit__(None, None, None)
        with pytest.raises(httpx2.ConnectError):
            await asker.get("/hello")


async def test_a_taken_port_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "RETRY_S", 0.05)
    settings = HttpSettings(port=free_port())
    taken = socket.create_server(("127.0.0.1", settings.port))
    server = HttpServer(settings, [PART], Key(None), Counters())
    task = asyncio.create_task(server.run())
    await asyncio.sleep(0.3)
    assert not task.done()
    assert not server.listening.is_set()
    taken.close()
    async with asyncio.timeout(20):
        await server.listening.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
