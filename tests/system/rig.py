"""Broker, cameras and daemon as real processes that a test starts, stops, kills and freezes."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol, Self

import yaml

from daemon.demo.broker import free_port
from tests.system.client import WAIT_S, Caller

ROOT = Path(__file__).resolve().parents[2]


class Broker(Protocol):
    """What the rig needs of a broker: Mosquitto, or the embedded one."""

    port: int

    def stop(self) -> None: ...


@dataclass(frozen=True)
class Clips:
    """Files for cameras: real footage where it is there, else drawn on the spot."""

    street: Path
    road: Path
    hall: Path
    large: Path  # another picture size than the others


class Process:
    """A child whose output goes to a file."""

    def __init__(self, command: list[str], log: Path, env: Mapping[str, str] | None = None) -> None:
        self.log_path = log
        with log.open("a") as out:
            self._child = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **(env or {})},
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
                text=True,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def alive(self) -> bool:
        return self._child.poll() is None

    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def send(self, number: signal.Signals) -> None:
        self._child.send_signal(number)

    def tell(self, line: str) -> None:
        """Write a line to its stdin."""
        pipe: IO[str] | None = self._child.stdin
        assert pipe is not None
        pipe.write(line + "\n")
        pipe.flush()

    def wait(self, timeout_s: float = WAIT_S) -> int:
        """Its exit code."""
        return self._child.wait(timeout_s)

    def wait_log(self, pattern: str, timeout_s: float = WAIT_S, since: int = 0) -> re.Match[str]:
        """The first match in its output from character `since` on."""
        end_s = time.monotonic() + timeout_s
        while time.monotonic() < end_s:
            if found := re.search(pattern, self.log()[since:]):
                return found
            if not self.alive:
                break
            time.sleep(0.05)  # a file has no event
        raise AssertionError(f"{pattern!r} is not in {self.log_path.name}; it ends:\n{self.log()[-2000:]}")

    def end(self) -> None:
        """Kill it if it lives; close our end."""
        if self.alive:
            self._child.kill()
            self._child.wait(WAIT_S)
        if self._child.stdin is not None:
            self._child.stdin.close()

    def high_water_mb(self) -> float:
        """Its peak resident memory."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


class CameraProcess:
    """One RTSP test camera. It keeps its port over restarts."""

    def __init__(
        self, name: str, files: Mapping[str, Path], folder: Path, login: tuple[str, str] | None = None
    ) -> None:
        self.name, self.port = name, 0
        self._files, self._login = files, login
        self._log = folder / f"camera-{name}.log"
        self.process = self._start()

    def _start(self) -> Process:
        command = [sys.executable, "-m", "daemon.demo.camera", *(f"{n}={p}" for n, p in self._files.items())]
        command += ["--port", str(self.port)]
        if self._login:
            command += ["--user", self._login[0], "--password", self._login[1]]
        self._log.write_text("")
        process = Process(command, self._log)
        found = process.wait_log(r"ready rtsp://127\.0\.0\.1:(\d+)/")
        self.port = int(found[1])
        return process

    def url(self, path: str | None = None, login: str = "") -> str:
        return f"rtsp://{login and login + '@'}127.0.0.1:{self.port}/{path or self.name}"

    def kill(self) -> None:
        self.process.end()

    def restart(self) -> None:
        self.process.end()
        self.process = self._start()

    def command(self, line: str) -> None:
        """One of the camera's commands; returns when it was carried out."""
        since = len(self.process.log())
        self.process.tell(line)
        self.process.wait_log(re.escape(f"ok {line}"), since=since)


class Systemd:
    """The receiving end of sd_notify, on a thread so that its short queue never fills."""

    def __init__(self, path: Path) -> None:
        self.address = str(path)
        self.got: list[tuple[float, str]] = []  # monotonic second, datagram
        self._news = threading.Condition()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while data := self._socket.recv(4096):
            with self._news:
                self.got.append((time.monotonic(), data.decode()))
                self._news.notify_all()

    def wait(self, pattern: str, since: int = 0, timeout_s: float = WAIT_S) -> str:
        """The first datagram that matches, from number `since` on."""

        def found() -> str | None:
            return next((text for _, text in self.got[since:] if re.search(pattern, text)), None)

        with self._news:
            self._news.wait_for(lambda: found() is not None, timeout_s)
            text = found()
            assert text is not None, f"no {pattern!r} among {[text for _, text in self.got[since:]]}"
            return text

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self.address)
        self._thread.join(WAIT_S)
        self._socket.close()


@dataclass
class Rig:
    """A context manager: whatever it started is gone at its end. On a failure the daemon's log is printed."""

    folder: Path
    broker: Broker
    model: str
    cameras: dict[str, CameraProcess] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)  # of cameras in the configuration
    more: dict[str, Any] = field(default_factory=dict)  # further sections of the configuration
    env: dict[str, str] = field(default_factory=dict)
    version5: bool = True  # what the broker speaks; False: MQTT 3.1.1
    http_port: int = field(default_factory=free_port)
    daemon: Process | None = None
    caller: Caller = field(init=False)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        self.caller = self._stack.enter_context(self.calling())
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.daemon is not None:
            self.daemon.end()
            if kind is not None:
                sys.stderr.write(f"--- the daemon's log ends:\n{self.daemon.log()[-8000:]}\n")
        for camera in self.cameras.values():
            camera.kill()
        self._stack.close()

    def calling(self, version5: bool | None = None) -> Caller:
        """One more client."""
        return Caller(self.broker.port, self.version5 if version5 is None else version5)

    def camera(self, name: str, file: Path, login: tuple[str, str] | None = None, **other: Path) -> CameraProcess:
        """Start a camera and put it into the configuration; `other`: further files that it serves."""
        self.cameras[name] = CameraProcess(name, {name: file, **other}, self.folder, login)
        self.urls[name] = self.cameras[name].url()
        return self.cameras[name]

    @property
    def config_path(self) -> Path:
        return self.folder / "longwatch.yaml"

    def configure(self, **more: Any) -> Path:
        """Write the configuration; `more` replaces sections."""
        raw: dict[str, Any] = {
            "mqtt": {"port": self.broker.port},
            "http": {"port": self.http_port},
            "model": {"path": self.model, "threads": 1},
            "answer": {"max_tokens": 8, "deadline_s": 120},
            "gate": [{"stride": {"fps": 2}}],  # moments come steadily, whatever the picture shows
            "snapshot_every_s": 2,
            "archive": {"folder": str(self.folder / "memory")},
            "cameras": {name: {"url": url} for name, url in self.urls.items()},
        }
        self.config_path.write_text(yaml.safe_dump({**raw, **self.more, **more}))
        return self.config_path

    def start(self, *online: str, wait: bool = True) -> Process:
        """Start the daemon; returns when it, and the cameras named, are online and remember something."""
        self.configure()
        since = self.caller.mark()
        command = [sys.executable, "-m", "daemon", "run", "-c", str(self.config_path)]
        log = self.folder / "daemon.log"
        at = len(log.read_text()) if log.exists() else 0
        self.daemon = Process(command, log, self.env)
        if wait:
            # `ready` first: what the broker still keeps may be older than this start
            self.daemon.wait_log("event=ready", since=at)
            for name in online:
                self.caller.state(name, lambda state: state["carriers"] > 0, since=since)
        return self.daemon

    def until(self, condition: Callable[[], Any], what: str, timeout_s: float = WAIT_S) -> Any:
        """Poll something that has no event."""
        end_s = time.monotonic() + timeout_s
        while time.monotonic() < end_s:
            if found := condition():
                return found
            time.sleep(0.05)
        raise AssertionError(f"not within {timeout_s:g} s: {what}")
