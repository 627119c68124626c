"""Health says what moves, readiness who can answer, metrics everything; only the last needs the token."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, cast

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from daemon import vitals
from daemon.guard import Key
from daemon.health import Heartbeats
from daemon.http import application
from daemon.metrics import Counters
from daemon.overview import Overview
from tests.daemon.looks import make_overview

TOKEN = "0123456789abcdef-token"


class House:
    """As much of an app as is asked; its clock is turned by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        self.beats = Heartbeats(lambda: self.now_s)
        self.beats.register("engine", 60.0)
        self.beats.register("loop", 10.0)
        self.engine = SimpleNamespace(running=True)
        self.link = SimpleNamespace(state=SimpleNamespace(connected=False))
        self.counters = Counters()
        monkeypatch.setattr(vitals, "overview", lambda _: make_overview())
        app = application([vitals.part(cast(Any, self))], Key(TOKEN), self.counters)
        self.client = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://cameras.example")

    async def get(self, path: str, token: str | None = TOKEN) -> httpx2.Response:
        return await self.client.get(path, headers={"authorization": f"Bearer {token}"} if token else {})


async def test_health_follows_what_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(monkeypatch)
    assert (await house.get("/healthz", None)).json() == {"status": "ok", "stuck": 0}
    house.now_s = 59.0  # the loop's own beat is not asked for: it answers
    assert (await house.get("/healthz", None)).status_code == 200
    house.now_s = 61.0
    found = await house.get("/healthz", None)
    assert (found.status_code, found.json()) == (503, {"status": "stuck", "stuck": 1})
    house.beats.beat("engine")
    assert (await house.get("/healthz", None)).status_code == 200
    assert house.beats.stuck(math.inf)[0].name == "loop"


async def test_a_missing_broker_is_said_and_does_not_hold_readiness_up(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(monkeypatch)
    found = await house.get("/readyz", None)
    assert (found.status_code, found.json()) == (200, {"status": "ready", "engine": True, "broker": False})
    house.engine.running = False
    assert (await house.get("/readyz", None)).status_code == 503


async def test_metrics_and_overview_need_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(monkeypatch)
    for path in ("/metrics", "/overview"):
        assert (await house.get(path, None)).status_code == 401
    found = await house.get("/metrics")
    assert found.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    names = {family.name for family in text_string_to_metric_families(found.text)}
    assert {"longwatch_info", "longwatch_camera_state", "longwatch_http_refused"} <= names
    assert Overview.model_validate_json((await house.get("/overview")).content).cameras[0].camera == "door"
