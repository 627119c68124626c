"""Settings of a camera's privacy: what of its picture nobody may see, and when it is watched at all."""

from __future__ import annotations

import re
from datetime import tzinfo
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from daemon.stack import Section
from stream.mask import Polygon
from stream.schedule import ALL_DAYS, Schedule, Window

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class MaskSettings(Section):
    """A part of the picture that is grey before anything else sees it. A plain list of points means `polygon`."""

    polygon: tuple[tuple[float, float], ...] = Field(
        min_length=3, max_length=200, description="points [x, y], shares 0..1 of width and height, from the upper left"
    )
    keep: bool = Field(False, description="true: everything outside is grey instead")

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        return {"polygon": value} if isinstance(value, list | tuple) else value

    @field_validator("polygon")
    @classmethod
    def _in_the_picture(cls, points: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
        for number, (x, y) in enumerate(points):
            if not (0 <= x <= 1 and 0 <= y <= 1):
                raise ValueError(f"point {number} is [{x:g}, {y:g}]; x and y are shares from 0 to 1, not pixels")
        if len(set(points)) < 3:
            raise ValueError("fewer than 3 different points enclose nothing; give a corner each")
        return points

    @property
    def mask(self) -> Polygon:
        """As the camera's reader takes it."""
        return Polygon(self.polygon, self.keep)


class WindowSettings(Section):
    """Times of day, in `answer.time_zone`. An end that is not after the beginning lies on the next day."""

    days: tuple[Day, ...] = Field(DAYS, min_length=1, description="on which it begins")
    from_: str = Field("00:00", alias="from", description='"HH:MM", in quotes')
    until: str = Field("24:00", description='"HH:MM", in quotes; "24:00" is the end of the day')

    @field_validator("from_", "until", mode="before")
    @classmethod
    def _time_of_day(cls, value: Any) -> Any:
        if not isinstance(value, str) or not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d|24:00", value):
            raise ValueError('a time of day is needed here, in quotes, e.g. "08:30"')
        return value

    @model_validator(mode="after")
    def _begins_within_a_day(self) -> WindowSettings:
        if self.from_ == "24:00":
            raise ValueError('from: "24:00" is no beginning; use "00:00" and the day after')
        return self

    @property
    def window(self) -> Window:
        """As the camera's reader takes it."""
        days = ALL_DAYS if len(set(self.days)) == len(DAYS) else frozenset(DAYS.index(day) for day in self.days)
        return Window(_minutes(self.from_), _minutes(self.until), days)


class ScheduleSettings(Section):
    """When a camera is watched; outside it is disconnected, and nothing of it is decoded."""

    watch: tuple[WindowSettings, ...] = Field(min_length=1, description="it is watched in any of these")

    def schedule(self, zone: tzinfo | None) -> Schedule:
        """As the camera's reader takes it."""
        return Schedule(tuple(item.window for item in self.watch), zone)


def _minutes(text: str) -> int:
    hours, minutes = text.split(":")
    return 60 * int(hours) + int(minutes)
