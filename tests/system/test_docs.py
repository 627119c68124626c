"""Every line on a page that speaks to a running daemon, typed at one: Mosquitto's clients, curl, longwatch."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from daemon import __main__ as cli
from tests.brokers import need
from tests.fakes import make_video
from tests.pages import COMMANDS, SHELL, Block, option, program, watches
from tests.system.client import WAIT_S
from tests.system.rig import Rig

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

MOSQUITTO = ("mosquitto_pub", "mosquitto_sub", "mosquitto_rr")
# `longwatch ...` that asks a running daemon, or looks at its folder; the others are tried in tests/test_readme.py
LIVE = {"ask", "status", "archive", "forget", "diary"}
FAILS_TOO = {"status": (0, 1)}  # 1: something is wrong, which a loaded machine may well see
STREAM_S = 3.0  # of an endless answer
TIMED_OUT = 28  # of curl


def is_live(words: list[str]) -> bool:
    name = program(words)
    return name in (*MOSQUITTO, "curl") or (name == "longwatch" and words[1] in LIVE)


def cameras() -> list[str]:
    """The names that these lines use."""
    text = "\n".join(" ".join(words) for _, words in COMMANDS if is_live(words))
    found = re.findall(r"--camera (\w+)|longwatch/(\w+)/(?:query|state|available|enabled|snapshot)|cameras/(\w+)", text)
    named = {name for names in found for name in names if name} - {"forget"}  # a topic's first word, no camera's name
    return sorted(named | {name for spec in watches().values() for name in spec.get("cameras", [])})


def settings(rig: Rig) -> dict[str, Any]:
    """The standing questions of the pages, and what else their lines need; half a frame a second is enough for all."""
    mqtt = {"port": rig.broker.port, "forget": True}
    return {
        "watch": watches(),
        "home_assistant": {"enabled": True},
        "mqtt": mqtt,
        "gate": [{"stride": {"fps": 0.5}}],
    }


@dataclass
class Desk:
    """Types a block's lines, with the rig's ports and files in the place of those on the page."""

    rig: Rig
    folder: Path
    call: Callable[[list[str]], int]
    waiting: list[tuple[str, subprocess.Popen[str]]] = field(default_factory=list)

    def type(self, block: Block) -> None:
        """All lines in order. A subscriber is a process of its own: what it was too late for is published again."""
        live = [words for words in block.commands() if is_live(words)]
        for words in live:
            self._line(f"{block}: {' '.join(words)}", words)
        for _ in range(2):
            if self._got(WAIT_S / 6):
                return
            for words in live:
                if program(words) == "mosquitto_pub":
                    self._line(f"{block}: {' '.join(words)}", words)
        assert self._got(WAIT_S), f"{block}: nothing came for {[place for place, _ in self.waiting]}"

    def _got(self, limit_s: float) -> bool:
        """Whether every subscriber has its message, at the latest in `limit_s`."""
        end_s = time.monotonic() + limit_s
        for place, child in list(self.waiting):
            try:
                out, _ = child.communicate(timeout=max(0.1, end_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                return False
            assert (child.returncode, bool(out)) == (0, True), f"{place}: nothing came"
            self.waiting.remove((place, child))
        return True

    def _line(self, place: str, words: list[str]) -> None:
        if program(words) in MOSQUITTO:
            self._mosquitto(place, words)
        elif program(words) == "curl":
            self._curl(place, words)
        else:
            self._longwatch(place, words[1:])

    def _mosquitto(self, place: str, words: list[str]) -> None:
        name, *args = words
        command = [need(name), *args, "-p", str(self.rig.broker.port)]
        if name == "mosquitto_sub":
            if "longwatch/events" in place:  # when nothing happens to happen, nothing comes: 27
                done = subprocess.run([*command, "-W", "1"], capture_output=True, timeout=WAIT_S, check=False)
                assert done.returncode in (0, 27), f"{place}: {done.stderr.decode()}"
                return
            command += ["-C", "1", "-W", str(int(2 * WAIT_S))]
            self.waiting.append((place, subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=self.folder)))
            return
        since = self.rig.caller.mark()
        if name == "mosquitto_rr":
            command += ["-W", str(int(WAIT_S))]
        done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False, cwd=self.folder)
        assert done.returncode == 0, f"{place}: {done.stderr}"
        if name == "mosquitto_rr":
            assert '"status"' in done.stdout, place
            return
        self._comes_of(place, option(args, "-t") or "", since)

    def _comes_of(self, place: str, topic: str, since: int) -> None:
        """What the daemon says to a published line, and that it is no fault."""
        if topic.endswith("/query"):
            self.rig.caller.wait("longwatch/answer/+", lambda got: got.json()["status"] in ("ok", "no_evidence"), since)
        elif topic.endswith("/set"):
            got = self.rig.caller.wait(topic.removesuffix("/set") + "/state", since=since)
            assert b'"error":"' not in got.payload, f"{place}: {got.payload.decode()}"
        elif topic == "longwatch/diary":
            said = self.rig.caller.wait(f"{topic}/+", since=since).json()
            assert said["error"] is None, f"{place}: {said}"
        else:
            assert topic == "longwatch/forget", f"{place}: say here what comes of it"
            said = self.rig.caller.wait(f"{topic}/state", lambda got: got.json()["state"] != "working", since).json()
            assert said["state"] == "done", f"{place}: {said}"

    def _curl(self, place: str, words: list[str]) -> None:
        args = [word.replace("127.0.0.1:8765", f"127.0.0.1:{self.rig.http_port}") for word in words[1:]]
        args = [os.path.expandvars(word) for word in args]
        endless = "-N" in args or "--no-buffer" in args
        command = [need("curl"), "--silent", "--show-error", "--fail-with-body", "--noproxy", "*", *args]
        command += ["--max-time", str(STREAM_S if endless else WAIT_S)]
        done = subprocess.run(command, capture_output=True, timeout=2 * WAIT_S, check=False, cwd=self.folder)
        allowed = (0, TIMED_OUT) if endless else (0,)
        assert done.returncode in allowed, f"{place}: {done.stdout.decode()} {done.stderr.decode()}"

    def _longwatch(self, place: str, args: list[str]) -> None:
        words = [word for word in args if word not in ("-c", "--config", option(args, "-c", "--config"))]
        words += ["--config", str(self.rig.config_path)]
        if args[0] == "forget":
            words.append("--yes")
        if args[0] == "ask":
            words += ["--timeout", str(WAIT_S)]
        assert self.call(words) in FAILS_TOO.get(args[0], (0,)), place


def test_every_line_for_a_running_daemon_works(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    clip = make_video(tmp_path / "small.mp4", frames=80)
    rig.urls, rig.more = {name: str(clip) for name in cameras()}, settings(rig)
    monkeypatch.setenv("TOKEN", "0123456789abcdef")
    monkeypatch.chdir(tmp_path)
    blocks = [block for block in SHELL if any(is_live(words) for words in block.commands())]
    assert len(blocks) >= 8
    blocks.sort(key=lambda block: "forget" in block.text)  # what erases comes last
    rig.start(*rig.urls)

    def call(words: list[str]) -> int:
        monkeypatch.setattr(sys, "argv", ["longwatch", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        sys.stderr.write(err)
        assert out + err
        return ended.value.code if isinstance(ended.value.code, int) else 0

    desk = Desk(rig, tmp_path, call)
    try:
        for block in blocks:
            desk.type(block)
    finally:
        for _, child in desk.waiting:
            child.kill()
            child.communicate()
    assert rig.daemon is not None
    assert rig.daemon.alive
    assert "Traceback" not in rig.daemon.log()
