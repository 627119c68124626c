"""SIGTERM, SIGINT, SIGHUP, and what systemd is told meanwhile."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.system.rig import Clips, Rig, Systemd

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
STOPPED_S = 15.0


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    server = Systemd(tmp_path / "notify")
    yield server
    server.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_stopping_answers_what_was_taken(rig: Rig, clips: Clips, number: signal.Signals) -> None:
    caller = rig.caller
    rig.more = {"answer": {"max_tokens": 60, "deadline_s": 120}}
    rig.camera("door", clips.street)
    daemon = rig.start("door")
    ids = [f"q{n}" for n in range(10)]
    since = caller.mark()
    for query_id in ids:
        caller.ask(query_id)
    caller.wait("longwatch/answer/+/chunk", since=since)
    assert sum(bool(caller.answers(query_id)) for query_id in ids) < 10, "the signal should come in the middle"
    began_s = time.monotonic()
    daemon.send(number)
    assert daemon.wait() == 0
    assert time.monotonic() - began_s < STOPPED_S
    for query_id in ids:
        assert caller.answer(query_id, 5.0)["status"] == "ok"
        assert len(caller.answers(query_id)) == 1
    for topic in ("longwatch/available", "longwatch/door/available"):
        caller.says(topic, "offline", since, 5.0)
        assert caller.on(topic)[-1].payload == b"offline"
    assert "event=stopped" in daemon.log()
    assert "Traceback" not in daemon.log()


def test_a_camera_that_hangs_does_not_hold_up_the_end(rig: Rig, clips: Clips) -> None:
    """Its thread waits in FFmpeg, which nothing can interrupt."""
    camera = rig.camera("door", clips.street)
    daemon = rig.start("door")
    camera.process.send(signal.SIGSTOP)
    began_s = time.monotonic()
    daemon.send(signal.SIGTERM)
    assert daemon.wait() == 0
    assert time.monotonic() - began_s < STOPPED_S


def test_sighup_takes_a_good_file_and_refuses_a_bad_one(rig: Rig, clips: Clips, systemd: Systemd) -> None:
    caller = rig.caller
    rig.env = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "1000000"}
    rig.camera("kept", clips.street)
    rig.camera("removed", clips.road)
    rig.camera("moved", clips.hall, elsewhere=clips.road)
    added = rig.camera("added", clips.hall)
    del rig.urls["added"]
    daemon = rig.start("kept", "removed", "moved")
    systemd.wait("READY=1")
    before = caller.state("kept", lambda state: state["carriers"] >= 2, since=caller.mark())

    def reload() -> None:
        """Returns when systemd was told that it is over."""
        since = len(systemd.got)
        daemon.send(signal.SIGHUP)
        assert "MONOTONIC_USEC=" in systemd.wait("RELOADING=1", since)
        systemd.wait("READY=1", since)

    # a broken file and a change that needs a restart: nothing changes, one line each
    for text, problem in (
        ("cameras: [", "longwatch.yaml"),
        (yaml.safe_dump({"cameras": {"kept": {"url": added.url(), "tiemout_s": 3}}}), "timeout_s"),
    ):
        rig.config_path.write_text(text)
        at = len(daemon.log())
        reload()
        lines = daemon.wait_log("(?m)^.*reload refused.*$", since=at)
        assert problem in lines[0]
        assert "Traceback" not in daemon.log()
    rig.configure(model={"path": "tiny"})
    at = len(daemon.log())
    reload()
    assert "needs a restart" in daemon.wait_log("(?m)^.*reload refused.*$", since=at)[0]
    state = caller.state("removed", since=caller.mark())
    assert state["state"] == "online"

    # a good file
    rig.urls = {name: rig.cameras[name].url() for name in ("kept", "added")}
    rig.urls["moved"] = rig.cameras["moved"].url("elsewhere")
    rig.configure()
    since = caller.mark()
    reload()
    caller.says("longwatch/removed/available", "offline", since)
    caller.wait("longwatch/removed/state", lambda got: got.payload == b"", since)  # cleared
    caller.says("longwatch/added/available", "online", since)
    caller.says("longwatch/moved/available", "online", since)
    after = caller.state("kept", since=caller.mark())
    assert after["memory_from"] == before["memory_from"], "the memory of a kept camera stays"
    assert after["reconnects"] == before["reconnects"]
    assert after["frames_in"] > before["frames_in"]
    caller.ask("new", cameras=["added", "moved"])
    assert caller.answer("new")["status"] == "ok"
    caller.ask("gone", cameras=["removed"])
    assert "unknown camera 'removed'" in caller.answer("gone")["answer"]
    assert caller.wait("longwatch/status", since=caller.mark()).json()["cameras_total"] == 3


def test_systemd_is_told_everything(rig: Rig, clips: Clips, systemd: Systemd) -> None:
    rig.env = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "1000000"}
    rig.camera("door", clips.street)
    daemon = rig.start("door")
    assert "cameras" in systemd.wait("READY=1")
    pings = len(systemd.got)
    for _ in range(4):
        systemd.wait("WATCHDOG=1", pings)
        pings = len(systemd.got)
    assert "STATUS=1/1 cameras, broker connected" in systemd.wait("WATCHDOG=1", pings)
    times = [at_s for at_s, text in systemd.got if "WATCHDOG=1" in text]
    assert max(late - early for early, late in zip(times[-4:], times[-3:], strict=False)) < 1.0
    daemon.send(signal.SIGTERM)
    systemd.wait("STOPPING=1")
    assert daemon.wait() == 0
