"""The HTTP server, in the daemon's own loop. Parts bring their routes; here they are served, guarded and ended."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from daemon.doors import HttpSettings
from daemon.guard import Guard, Key
from daemon.metrics import Counters
from stream.errors import ConfigError

RETRY_S = 10.0  # a taken port is tried again this often
_CLOSE_S = 1  # what is still being answered at the end gets this long; a stream of events never ends by itself
_MAX_REQUESTS = 128  # at a time; one more gets 503
_BACKLOG = 128


@dataclass(frozen=True, slots=True)
class Part:
    """What a part of the daemon serves. `public`: paths that need no token; one that ends in `/` is all below it."""

    routes: Sequence[BaseRoute]
    public: Sequence[str] = ()


class HttpServer:
    """Serves `parts` until cancelled. A port that is taken is logged, and tried again for ever."""

    def __init__(self, settings: HttpSettings, parts: Sequence[Part], key: Key, counters: Counters) -> None:
        self._settings, self._key, self._counters = settings, key, counters
        self.app = application(parts, key, counters)
        self._log = structlog.get_logger("longwatch.http")
        self._said = ""
        self.listening = asyncio.Event()

    async def run(self) -> None:
        """Listen for ever."""
        while True:
            try:
                sockets = await asyncio.to_thread(bind, self._settings.host, self._settings.port)
            except OSError as error:
                self._say(f"cannot listen at {self._settings.url}: {error.strerror or error}")
                await asyncio.sleep(RETRY_S)
                continue
            self._said = ""
            self._log.info("listening", url=self._settings.url, token="needed" if self._key.needed else "none")
            try:
                await self._serve(sockets)
            except Exception:  # noqa: BLE001 - a task's top; the daemon goes on
                self._counters.count("http_crashes")
                self._log.exception("the server ended; it is started again", in_s=RETRY_S)
            await asyncio.sleep(RETRY_S)

    def _say(self, why: str) -> None:
        """Once per reason: it is tried again every few seconds."""
        if why != self._said:
            self._said = why
            self._log.error(why, way_out="end what listens there, or set another http.port; tried again for ever")

    async def _serve(self, sockets: list[socket.socket]) -> None:
        config = uvicorn.Config(
            self.app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            http="h11",
            server_header=False,
            proxy_headers=False,
            limit_concurrency=_MAX_REQUESTS,
            backlog=_BACKLOG,
            timeout_graceful_shutdown=_CLOSE_S,
        )
        server = _Server(config)
        task = asyncio.create_task(server.serve(sockets), name="uvicorn")
        self.listening.set()
        try:
            await asyncio.shield(task)
        finally:
            self.listening.clear()
            server.should_exit = True
            if not task.done():
                await asyncio.wait({task}, timeout=_CLOSE_S + 2.0)
            task.cancel()


class _Server(uvicorn.Server):
    """Signals are the daemon's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def application(parts: Sequence[Part], key: Key, counters: Counters) -> Guard:
    """All parts behind one guard; a fault is JSON too: `{"error": "..."}`."""
    public = [path for part in parts for path in part.public]

    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    async def failed(_: Request, error: Exception) -> Response:
        counters.count("http_faults", kind=error.__class__.__name__)
        return JSONResponse({"error": "an error of ours; the daemon's log says more"}, 500)

    routes = [route for part in parts for route in part.routes]
    app = Starlette(routes=routes, exception_handlers={HTTPException: refused, Exception: failed})
    return Guard(app, key, public, counters)  # around all of it: a fault's response has the headers too


def make_key(settings: HttpSettings) -> Key:
    """The key, from the settings. Raises ConfigError for a bad token file, or an exposed port without a token."""
    token = settings.secret()
    if token is None and not settings.loopback:
        raise ConfigError(f"http.host: {settings.host} needs a token")
    return Key(token)


def bind(host: str, port: int) -> list[socket.socket]:
    """Every address of `host`. Raises OSError; then none is left open."""
    found: list[socket.socket] = []
    try:
        for family, kind, proto, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            sock = socket.socket(family, kind, proto)
            found.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)
            sock.listen(_BACKLOG)
            sock.setblocking(False)
    except OSError:
        for sock in found:
            sock.close()
        raise
    return found
