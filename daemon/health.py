"""Alive means that every part moves, not that a timer runs: heartbeats, and what systemd is told about them.

    reader threads --beat--+
    engine thread  --beat--+--> Heartbeats --> Watchdog (on the loop) --WATCHDOG=1 / STATUS=--> systemd
    event loop     --beat--+

A part that waits still moves: a reader beats while it waits for a dead camera. Only a part that hangs goes silent; then
the pings stop, systemd kills the process with SIGABRT and starts it again.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from stream.errors import redact

Clock = Callable[[], float]

_STATUS_CHARS = 512
_LOOP = "loop"
_WITHOUT_SYSTEMD_S = 10.0  # how often parts are looked at when nobody asked for pings
_REMIND_S = 60.0  # a part that stays stuck is logged again this often


class Notifier:
    """The notification socket of systemd (sd_notify). Does nothing when `address` is None. Never blocks or raises."""

    def __init__(self, address: str | None) -> None:
        """`address` is a path, or `@name` for Linux' abstract namespace; other kinds (vsock) are not spoken."""
        self._address = address if address and address[0] in "/@" else None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Notifier:
        """The socket that systemd named in NOTIFY_SOCKET, if any."""
        return cls(environ.get("NOTIFY_SOCKET"))

    def send(self, *lines: str) -> bool:
        """One datagram with `KEY=value` lines. False when there is nobody to tell, or it could not be told."""
        if self._address is None:
            return False
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            structlog.get_logger("longwatch.health").warning("cannot notify systemd", error=error, lines=lines)
            return False
        return True

    def ready(self, status: str = "") -> bool:
        """Start-up, or a reload, is finished."""
        return self.send("READY=1", *_status(status))

    def reloading(self, now_us: int | None = None) -> bool:
        """A reload began; `ready` ends it. `now_us`: CLOCK_MONOTONIC in microseconds, which newer systemd checks."""
        return self.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000 if now_us is None else now_us}")

    def stopping(self, status: str = "") -> bool:
        """Shutdown began."""
        return self.send("STOPPING=1", *_status(status))

    def status(self, text: str) -> bool:
        """One line for `systemctl status`."""
        return self.send(*_status(text))

    def ping(self, status: str = "") -> bool:
        """All parts move."""
        return self.send("WATCHDOG=1", *_status(status))


def _status(text: str) -> tuple[str, ...]:
    line = redact(" ".join(text.split()))[:_STATUS_CHARS]
    return (f"STATUS={line}",) if line else ()


def ping_interval_s(environ: Mapping[str, str] = os.environ) -> float | None:
    """Half of what systemd allows between two pings, seconds; None when it expects none from this process."""
    value, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not value.isdecimal() or int(value) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(value) / 2e6


@dataclass(frozen=True, slots=True)
class Stuck:
    """A part that should have moved. Seconds."""

    name: str
    silent_s: float
    allowed_s: float

    def __str__(self) -> str:
        return f"{self.name} silent for {self.silent_s:.1f} s (allowed {self.allowed_s:g} s)"


class Heartbeats:
    """Who moved when. Every method may be called from any thread. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._parts: dict[str, tuple[float, float]] = {}  # name -> (last beat, allowed silence)

    def register(self, name: str, allowed_s: float) -> None:
        """From now on `name` must beat at least every `allowed_s`. Registering again changes the allowance."""
        with self._lock:
            self._parts[name] = (self._clock(), allowed_s)

    def remove(self, name: str) -> None:
        """`name` ended on purpose. An unknown name is fine: shutdown need not keep count."""
        with self._lock:
            self._parts.pop(name, None)

    def beat(self, name: str) -> None:
        """`name` moved. Ignored when it is not registered: a thread may outlive its removal by one round."""
        with self._lock:
            if (part := self._parts.get(name)) is not None:
                self._parts[name] = (self._clock(), part[1])

    def stuck(self, since_s: float) -> list[Stuck]:
        """The parts that neither moved after `since_s` nor are within their allowance; longest silence first."""
        with self._lock:
            now_s, parts = self._clock(), dict(self._parts)
        found = [Stuck(n, now_s - last, allowed) for n, (last, allowed) in parts.items() if last <= since_s]
        return sorted((part for part in found if part.silent_s > part.allowed_s), key=lambda part: -part.silent_s)

    def ages(self) -> dict[str, float]:
        """Seconds since each part moved, for the status topic."""
        with self._lock:
            now_s = self._clock()
            return {name: now_s - last for name, (last, _) in self._parts.items()}


class Watchdog:
    """Pings systemd while all parts move; says which one does not."""

    def __init__(
        self,
        beats: Heartbeats,
        notifier: Notifier,
        *,
        interval_s: float | None,
        status: Callable[[], str] = str,
        clock: Clock = time.monotonic,
    ) -> None:
        """`interval_s` from `ping_interval_s`; `status` gives the line for `systemctl status` while all is well."""
        self._beats = beats
        self._notifier = notifier
        self._interval_s = interval_s
        self._status = status
        self._clock = clock
        self._looked_s = clock()
        self._said: frozenset[str] = frozenset()
        self._said_s = 0.0
        self._log = structlog.get_logger("longwatch.health")

    def tick(self) -> list[Stuck]:
        """Look once: ping when nobody is stuck, else tell. Returns who is."""
        stuck = self._beats.stuck(self._looked_s)
        self._looked_s = self._clock()
        names = frozenset(part.name for part in stuck)
        if stuck:
            text = "stuck: " + "; ".join(str(part) for part in stuck)
            self._notifier.status(text)
            if names != self._said or self._looked_s - self._said_s >= _REMIND_S:
                self._log.error(text, pings="stopped" if self._interval_s else "nobody waits for pings")
                self._said_s = self._looked_s
        else:
            if self._said:
                self._log.warning("all parts move again", were_stuck=sorted(self._said))
            self._notifier.ping(self._status())
        self._said = names
        return stuck

    async def run(self) -> None:
        """Tick for ever at half of systemd's interval. Its own beat is the event loop's."""
        interval_s = self._interval_s or _WITHOUT_SYSTEMD_S
        self._beats.register(_LOOP, interval_s)
        try:
            while True:
                self._beats.beat(_LOOP)
                self.tick()
                await asyncio.sleep(interval_s)
        finally:
            self._beats.remove(_LOOP)
