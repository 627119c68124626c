"""A standing question's settings: when it is put, and what is refused."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from daemon.watch.spec import WatchSpec

BERLIN = ZoneInfo("Europe/Berlin")


def spec(**fields: Any) -> WatchSpec:
    return WatchSpec.model_validate({"question": "is the gate open?", **fields})


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp()


@pytest.mark.parametrize(
    ("hours", "when", "put"),
    [
        ({}, "2026-11-22T12:00", True),
        ({"from": "08:00", "until": "18:00"}, "2026-11-22T08:00", True),
        ({"from": "08:00", "until": "18:00"}, "2026-11-22T17:59", True),
        ({"from": "08:00", "until": "18:00"}, "2026-11-22T18:00", False),
        ({"from": "22:00", "until": "06:00"}, "2026-11-22T23:00", True),
        ({"from": "22:00", "until": "06:00"}, "2026-11-22T05:59", True),
        ({"from": "22:00", "until": "06:00"}, "2026-11-22T12:00", False),
        ({"days": ["sat"], "from": "22:00", "until": "06:00"}, "2026-11-22T05:00", True),  # a Sunday: since Saturday
        ({"days": ["sun"], "from": "22:00", "until": "06:00"}, "2026-11-22T05:00", False),
        ({"days": ["sun"]}, "2026-11-22T05:00", True),
        ({"days": ["mon"]}, "2026-11-22T05:00", False),
    ],
)
def test_hours(hours: dict[str, Any], when: str, put: bool) -> None:
    assert spec(schedule=[hours]).at(at(when), BERLIN) is put


def test_the_zone_is_the_users() -> None:
    evening = spec(schedule=[{"from": "20:00", "until": "21:00"}])
    assert evening.at(at("2026-11-22T20:30"), BERLIN)
    assert not evening.at(at("2026-11-22T20:30"), ZoneInfo("UTC"))


def test_disabled_is_never_put_and_no_cameras_are_all() -> None:
    assert not spec(enabled=False).at(0.0, None)
    assert spec().on("door")
    assert not spec(cameras=["yard"]).on("door")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"question": "  "}, "the question is empty"),
        ({"on_above": 0.4, "off_below": 0.6}, "is above on_above"),
        ({"for_s": -1}, "greater than or equal to 0"),
        ({"for_s": float("nan")}, "finite"),
        ({"sevrity": "info"}, "Extra inputs"),
        ({"schedule": [{"from": "25:00"}]}, "match pattern"),
        ({"schedule": [{"days": ["someday"]}]}, "Input should be"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        spec(**fields)


def test_it_is_written_as_it_is_read() -> None:
    own = spec(schedule=[{"days": ["mon"], "from": "08:00", "until": "09:00"}], cameras=["door"], for_s=5)
    assert WatchSpec.model_validate_json(own.model_dump_json(by_alias=True)) == own
