"""A camera that is off on purpose is `paused`, everywhere that people look; nobody is called for it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest

from daemon.overview import overview
from daemon.pipeline import camera_state, daemon_status
from daemon.prometheus import exposition
from daemon.status import problems
from daemon.topics import Topics
from stream.model.llava_onevision import LlavaOnevision
from stream.source import Source, SourceStats, StateChange
from tests.brokers import Mosquitto
from tests.daemon.link import calling, until
from tests.daemon.recalling import small_model
from tests.daemon.whole import at_work, settings_at


@pytest.fixture(scope="module")
def model() -> LlavaOnevision:
    return small_model()


async def test_a_camera_that_is_off_on_purpose(broker: Mosquitto, model: LlavaOnevision, tmp_path: Path) -> None:
    topics = Topics("longwatch")
    async with calling(broker.port) as caller, at_work(model, settings_at(broker.port, tmp_path)) as whole:
        app = whole.app

        def told(camera: str) -> tuple[str, str, str]:
            """State, reason and availability, as the broker has them."""
            states, available = (caller.on(at(camera)) for at in (topics.camera_state, topics.camera_available))
            if not states or not available:
                return "", "", ""
            state = json.loads(states[-1].payload)
            return state["state"], state["reason"], bytes(available[-1].payload).decode()

        await caller.ask("OFF", topics.enabled_set("door"))
        await until(lambda: told("door") == ("paused", "disabled", "offline"))

        post, as_it_is = app.posts["yard"], Source.stats

        def outside(source: Source) -> SourceStats:
            """The yard is outside its schedule."""
            stats = as_it_is(source)
            return replace(stats, state="offline", reason="schedule") if source is post.source else stats

        with patch.object(Source, "stats", outside):
            app._on_state(post, StateChange("yard", "offline", "schedule", 5.0))
            await until(lambda: told("yard") == ("paused", "schedule", "offline"))
            status = daemon_status(app)
            assert (status.cameras_online, status.cameras_paused, status.cameras_total) == (0, 2, 2)
            assert problems(overview(app)) == []
            assert 'longwatch_camera_state{camera="yard",state="paused"} 1' in exposition(overview(app), app.counters)
            assert app.status_line().startswith("0/2 cameras (2 paused)")
            assert app.gaps.reason("yard") == "schedule"
            await caller.ask("OFF", topics.enabled_set("yard"))
            await until(lambda: told("yard") == ("paused", "disabled", "offline"))

        await caller.ask("ON", topics.enabled_set("door"))
        await until(lambda: told("door")[0] == "offline")
        assert camera_state(app, "door").reason
        assert problems(overview(app))[0].startswith("camera door is offline")
