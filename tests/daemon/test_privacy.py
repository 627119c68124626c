"""Masks, schedules and `pictures` as they are written in a configuration, and what the daemon makes of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from daemon.gaps import GapLog
from daemon.options import OptionError, length
from daemon.settings import Settings, parse
from daemon.times import SPEECH
from stream.errors import ConfigError
from stream.mask import Polygon
from stream.source import StateChange
from stream.types import Thumbnail
from tests.daemon.driven import Bench
from tests.models import random_frames, random_model

CORNERS = [[0, 0], [0.5, 0], [0.5, 0.5]]


def camera(**keys: Any) -> Settings:
    return parse({"cameras": {"door": {"url": "x", **keys}}}, "x.yaml")


def test_masks_are_points_or_sections() -> None:
    settings = camera(masks=[CORNERS, {"polygon": CORNERS, "keep": True}], pictures=False)
    points = ((0.0, 0.0), (0.5, 0.0), (0.5, 0.5))
    privacy = settings.cameras["door"].privacy
    assert privacy.masks == (Polygon(points), Polygon(points, keep=True))
    assert not privacy.pictures


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"masks": [CORNERS, CORNERS[:2]]}, "cameras.door.masks.1.polygon: "),
        ({"masks": [[[0, 0], [0.5, 0], [640, 360]]]}, "masks.0.polygon: point 2 is [640, 360]; x and y are shares"),
        ({"masks": [[[0, 0], [0.5, 0], [0, 0]]]}, "masks.0.polygon: fewer than 3 different points"),
        ({"masks": [[[0, 0], [0.5], [0, 1]]]}, "cameras.door.masks.0.polygon.1"),
        ({"masks": [{"polygon": CORNERS, "kep": True}]}, "masks.0.kep: unknown key; did you mean 'keep'?"),
        ({"schedule": {"watch": []}}, "cameras.door.schedule.watch: "),
        ({"schedule": {"watch": [{"from": "8"}]}}, "schedule.watch.0.from: a time of day is needed here, in quotes"),
        ({"schedule": {"watch": [{"until": 480}]}}, "schedule.watch.0.until: a time of day is needed here"),
        ({"schedule": {"watch": [{"from": "24:00"}]}}, 'from: "24:00" is no beginning'),
        ({"schedule": {"watch": [{"days": ["monday"]}]}}, "schedule.watch.0.days.0: "),
        ({"schedule": {"watch": [{"form": "08:00"}]}}, "schedule.watch.0.form: unknown key; did you mean 'from'?"),
        ({"schedule": {}}, "cameras.door.schedule.watch: "),
    ],
)
def test_mistakes_are_named_with_their_place(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        camera(**keys)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_schedule_goes_by_the_users_clock() -> None:
    settings = camera(schedule={"watch": [{"days": ["fri"], "from": "18:30", "until": "07:30"}, {"days": ["sun"]}]})
    zone = ZoneInfo("Europe/Berlin")
    schedule = settings.cameras["door"].watched(zone)
    for text, watched in {
        "2026-11-20T18:29": False,  # Friday
        "2026-11-20T18:30": True,
        "2026-11-21T07:29": True,
        "2026-11-21T07:30": False,
        "2026-11-22T00:00": True,
        "2026-11-22T23:59": True,
        "2026-11-23T00:00": False,
    }.items():
        assert schedule.watched(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()) == watched, text
    assert camera().cameras["door"].watched(zone).watched(0.0)


def test_time_outside_a_schedule_is_a_gap_of_its_own() -> None:
    log = GapLog()
    for at_s, state, reason in (
        (1.0, "online", "frames"),
        (10.0, "offline", "ended"),
        (20.0, "offline", "schedule"),
        (30.0, "connecting", "reconnect"),
        (31.0, "offline", "refused"),
        (40.0, "online", "frames"),
        (50.0, "offline", "schedule"),
        (60.0, "connecting", "reconnect"),
        (61.0, "online", "frames"),
    ):
        log.follow(StateChange("door", state, reason, at_s), 9.0)  # type: ignore[arg-type]
    gaps = log.between("door", None, None)
    assert [(gap.since_s, gap.until_s, gap.reason) for gap in gaps] == [
        (9.0, 20.0, "ended"),
        (20.0, 31.0, "schedule"),
        (31.0, 40.0, "refused"),
        (50.0, 61.0, "schedule"),
    ]
    assert "(outside its schedule)" in SPEECH.missed(gaps[3:], 100.0)


def test_lengths() -> None:
    found = [length("--last", text) for text in ("90s", "30m", "1h", "2d", "1w", "1.5h", None)]
    assert found == [90, 1800, 3600, 172_800, 604_800, 5400, None]
    for text in ("", "1", "h", "-1h", "0m", "1 h", "1y", "nan", "1e9d"):
        with pytest.raises(OptionError, match="--last"):
            length("--last", text)


def test_answers_show_no_stored_picture_of_a_camera_that_may_not_be_shown() -> None:
    bench = Bench(random_model())
    answers = bench.engine._answers
    for frame in random_frames(6, 0, "cam0"):
        bench.cameras["cam0"].mailbox.put(replace(frame, thumbnail=Thumbnail(lambda: b"a picture")))
        bench.engine.notify()
        bench.engine.turn()
    for may in (True, False):
        answers.outlook = replace(answers.outlook, pictures=lambda camera, may=may: may)  # type: ignore[misc]
        bench.ask(f"may {may}", evidence=2)
        answer = bench.settle()[-1]
        assert len(answer.evidence) == 2
        assert {item.jpeg for item in answer.evidence} == {b"a picture" if may else b""}
