"""An MQTT 3.1.1 broker inside the process, on loopback: for the demo and for tests, never for service."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
import warnings
import weakref
from types import TracebackType
from typing import Any, Self

from stream.errors import LongwatchError

_QUIET = ("amqtt", "transitions", "websockets", "passlib")
_START_S = 10.0
_TRIES = 3  # a free port may be taken by somebody else between our look and the broker's bind


class BrokerError(LongwatchError):
    """The embedded broker does not start."""


class EmbeddedBroker:
    """amqtt in a thread with a loop of its own. Anonymous, in memory, MQTT 3.1.1 only; `port` 0 takes a free one."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self._wanted = port
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._ready = threading.Event()
        self._error: BaseException | None = None

    def start(self) -> Self:
        """Listen. Raises BrokerError when the port is taken or amqtt is not installed."""
        for attempt in range(_TRIES):
            self.port = self._wanted or free_port()
            self._ready.clear()
            self._error = None
            self._thread = threading.Thread(target=self._main, name="embedded-broker", daemon=True)
            self._thread.start()
            if not self._ready.wait(_START_S):
                raise BrokerError(f"embedded broker on port {self.port}: not up after {_START_S:.0f} s")
            if self._error is None:
                return self
            self._thread.join(_START_S)
            if isinstance(self._error, ImportError):
                raise BrokerError("the embedded broker needs amqtt: pip install 'longwatch[demo]'") from self._error
            if self._wanted or attempt == _TRIES - 1:
                break
        raise BrokerError(f"embedded broker on port {self.port}: {self._error}") from self._error

    def stop(self) -> None:
        """Close all connections and the port; returns when both are gone. May be called twice."""
        if self._loop is not None and self._stop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread is not None:
            self._thread.join(_START_S)
        self._thread = self._loop = self._stop = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _main(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:  # noqa: BLE001 - the thread's top; `start` raises it in the caller's thread
            self._error = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        writers: weakref.WeakSet[asyncio.StreamWriter] = weakref.WeakSet()
        broker = _make(self.port, writers)
        await broker.start()
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        # amqtt leaves tasks of closed connections to fail on their own; nobody can act on that
        self._loop.set_exception_handler(_ignore)
        self._ready.set()
        try:
            await self._stop.wait()
        finally:
            await broker.shutdown()
            for writer in tuple(writers):  # amqtt forgets connections whose client was in the middle of something
                writer.close()
            await asyncio.sleep(0)  # a transport closes its socket one turn later


def _ignore(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    del loop, context


def _make(port: int, writers: weakref.WeakSet[asyncio.StreamWriter]) -> Any:
    """A broker object, silent. Imported here: amqtt is an optional package and slow to import."""
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from amqtt.broker import Broker

    class Remembering(Broker):  # type: ignore[misc]
        async def stream_connected(
            self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener_name: str
        ) -> None:
            writers.add(writer)
            await super().stream_connected(reader, writer, listener_name)

    return Remembering(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}", "max_connections": 64}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )


def free_port() -> int:
    """A loopback TCP port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
