"""A camera is switched off and on while the daemon runs, and stays off over a restart when the broker keeps it."""

from __future__ import annotations

import signal

import pytest

from tests.system.rig import Clips, Rig

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def test_switch_a_camera(rig: Rig, clips: Clips) -> None:
    caller = rig.caller
    rig.camera("street", clips.street)
    daemon = rig.start("street")
    caller.says("longwatch/street/enabled/state", "ON")

    since = caller.mark()
    caller.publish("longwatch/street/enabled/set", "OFF", retain=True)
    caller.says("longwatch/street/enabled/state", "OFF", since)
    off = caller.wait("longwatch/street/state", lambda got: got.json()["state"] == "paused", since).json()
    assert off["reason"] == "disabled"
    kept = caller.wait("longwatch/street/state", since=caller.mark()).json()["frames_kept"]
    caller.ask("off", "what is there?", cameras=["street"])
    answer = caller.wait("longwatch/answer/off").json()
    assert answer["memory"]["gaps"][-1]["reason"] == "disabled"
    assert answer["memory"]["carriers"] > 0  # what it remembers can still be asked for
    assert caller.wait("longwatch/street/state", since=caller.mark()).json()["frames_kept"] == kept

    daemon.send(signal.SIGTERM)
    daemon.wait()
    daemon.end()
    since = caller.mark()
    rig.start()
    caller.says("longwatch/street/enabled/state", "OFF", since)

    caller.publish("longwatch/street/enabled/set", "ON", retain=True)
    caller.says("longwatch/street/enabled/state", "ON", since)
    caller.state("street", lambda state: state["state"] == "online" and state["frames_kept"] > 0, since=since)
