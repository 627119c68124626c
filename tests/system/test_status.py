"""A running daemon is asked how it is: by a browser, by Prometheus, and by `longwatch status`."""

from __future__ import annotations

import json
import subprocess
import sys

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.system.rig import Clips, Rig

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def ask(rig: Rig, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "daemon", "status", "-c", str(rig.config_path), *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_daemon_says_how_it_is(rig: Rig, clips: Clips) -> None:
    rig.camera("street", clips.street)
    rig.start("street")
    with httpx2.Client(base_url=f"http://127.0.0.1:{rig.http_port}", trust_env=False, timeout=30) as browser:
        assert browser.get("/healthz").json() == {"status": "ok", "stuck": 0}
        assert browser.get("/readyz").json() == {"status": "ready", "engine": True, "broker": True}
        text = browser.get("/metrics").text
    found = {
        (item.name, item.labels.get("state")): item.value
        for family in text_string_to_metric_families(text)
        for item in family.samples
    }
    assert found["longwatch_camera_state", "online"] == 1
    assert found["longwatch_mqtt_connected", None] == 1
    assert found["longwatch_absorbed_total", None] > 0

    well = ask(rig, "--json")
    assert (well.returncode, json.loads(well.stdout)["problems"]) == (0, [])

    rig.cameras["street"].kill()
    rig.caller.state("street", lambda state: state["state"] == "offline")
    ill = ask(rig)
    assert ill.returncode == 1
    assert "! camera street is offline" in ill.stdout
