"""The configuration's `diary`."""

from __future__ import annotations

from pydantic import Field

from daemon.stack import Section


class DiarySettings(Section):
    """One short line for each event, written when the engine has nothing else to do; needs the archive."""

    enabled: bool = Field(True, description="false: nothing is written; what was written stays")
    prompt: str | None = Field(
        None, min_length=1, max_length=500, description="what is asked of each event; default: the model's own"
    )
    gap_s: float = Field(10.0, gt=0, le=3600, description="nothing changed for this long: the event is over")
    longest_s: float = Field(120.0, gt=0, le=3600, description="a longer event is written as several")
    share: float = Field(0.1, gt=0, le=1, description="of the engine's time, at most; 1: all that is idle")
    backlog: int = Field(
        100, ge=2, le=10_000, description="events that wait, per camera; of more than that only the number is written"
    )
    max_tokens: int = Field(24, ge=1, le=256, description="longest line")
    publish: bool = Field(False, description="true: each new line also goes out on `<prefix>/<camera>/diary`")
