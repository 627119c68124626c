"""What a standing question is: the question, where and when it is put, and how sure and how long before it is said."""

from __future__ import annotations

from datetime import datetime, tzinfo
from typing import Literal

from pydantic import Field, field_validator, model_validator

from daemon.stack import Section

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
TIME_PATTERN = r"^([01]\d|2[0-3]):[0-5]\d$"
Reads = Literal["now", "recent", "memory"]
MAX_WATCHES = 1000  # names; a broker full of retained questions must not fill the memory


class Hours(Section):
    """A stretch of the day, on some days of the week. From later than until goes past midnight."""

    days: tuple[Day, ...] = Field(DAYS, min_length=1, description="on which it begins; default: every day")
    from_: str = Field("00:00", alias="from", pattern=TIME_PATTERN, description="HH:MM, in answer.time_zone")
    until: str = Field("00:00", pattern=TIME_PATTERN, description="HH:MM, not included; equal to `from`: a whole day")

    def covers(self, at: datetime) -> bool:
        """Whether local time `at` lies in it."""
        clock, day = f"{at:%H:%M}", at.weekday()
        if self.from_ < self.until:
            return self.from_ <= clock < self.until and DAYS[day] in self.days
        begun = day if clock >= self.from_ else (day - 1) % 7  # before `from`: it began yesterday, if at all
        return (clock >= self.from_ or clock < self.until) and DAYS[begun] in self.days


class WatchSpec(Section):
    """One standing question. Its answer has to be yes or no."""

    question: str = Field(min_length=1, max_length=2000, description="to be answered with yes or no")
    kind: Literal["state", "count"] = Field("state", description="`count` also says how many events the last hour had")
    cameras: tuple[str, ...] = Field((), max_length=256, description="empty: all")
    reads: Reads = Field(
        "now",
        description="`now`: the newest frame alone; `recent`: those that are held in full; `memory`: all that the "
        "camera's memory holds, for questions about what was",
    )
    schedule: tuple[Hours, ...] = Field((), max_length=64, description="when it is put; default: always")
    for_s: float = Field(0.0, ge=0, le=604_800, description="said only when it has been so for this long")
    debounce_s: float = Field(2.0, ge=0, le=3600, description="shorter changes, on and off, do not count")
    on_above: float = Field(0.8, ge=0, le=1, description="it is so from this probability of yes on")
    off_below: float = Field(0.4, ge=0, le=1, description="it is no more so below this one")
    cooldown_s: float = Field(0.0, ge=0, le=604_800, description="after an end nothing new is said for this long")
    severity: Literal["info", "warning", "alert"] = Field("info", description="for whoever is told")
    enabled: bool = Field(True, description="false: not put")

    @field_validator("question")
    @classmethod
    def _says_something(cls, question: str) -> str:
        if not question.strip():
            raise ValueError("the question is empty; write what is to be answered with yes or no")
        return question.strip()

    @model_validator(mode="after")
    def _off_is_lower(self) -> WatchSpec:
        if self.off_below > self.on_above:
            raise ValueError(
                f"off_below: {self.off_below:g} is above on_above: {self.on_above:g}; an answer between would be both"
            )
        return self

    def at(self, wall_s: float, zone: tzinfo | None) -> bool:
        """Whether it is put at `wall_s`, by the clock of `zone` (None: the machine's)."""
        if not self.enabled:
            return False
        local = datetime.fromtimestamp(wall_s, zone)
        return not self.schedule or any(hours.covers(local) for hours in self.schedule)

    def on(self, camera: str) -> bool:
        """Whether it is put to `camera`."""
        return not self.cameras or camera in self.cameras


class WatchingSettings(Section):
    """How much is spent on standing questions. What they are is in `watch`."""

    share: float = Field(
        0.25, gt=0, le=1, description="of the engine's time, at most; what finds no room is counted; 1: no limit"
    )
    least_score: float = Field(
        0.0, ge=0, description="frames that the gate gives less change nothing, and are not asked about"
    )
    max_age_s: float = Field(
        60.0, gt=0, le=86_400, description="a camera is asked again after this long, whatever its gate says"
    )
