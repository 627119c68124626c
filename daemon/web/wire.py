"""The shapes of the JSON API that MQTT does not have; the rest is in `daemon/wire.py`. Times are epoch seconds."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from daemon.watch.spec import WatchSpec
from daemon.wire import CameraState, DiaryLineWire, GapWire, Share, WatchStateWire


class _Out(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class ErrorWire(_Out):
    """What is wrong with a request, and what to do about it."""

    error: str
    place: str | None = Field(None, description="the key of the body that it is about; left out where there is none")


class CameraEvent(CameraState):
    """A camera's state, with the tag of its newest picture."""

    picture: str | None = Field(None, description="ETag of the newest kept picture; null: there is none")


class CamerasWire(_Out):
    """Every camera that is watched."""

    cameras: tuple[CameraEvent, ...]


class CameraWire(CameraEvent):
    """One camera, and how far its archive reaches."""

    archive_from: float | None = Field(None, description="first archived moment")
    archive_to: float | None = None
    archived: int = Field(0, ge=0, description="moments in the archive")


class BinWire(_Out):
    """A piece of the timeline that has something."""

    from_: float = Field(alias="from")
    to: float
    carriers: int = Field(ge=0, description="archived moments that begin in it; 1000 means as many or more")
    moment: float = Field(description="the newest moment that reaches into it, for its picture")


class SpanWire(_Out):
    """A moment that the attended memory holds."""

    from_: float = Field(alias="from")
    to: float
    count: int = Field(1, ge=1, description="frames folded into it")


class KeyframeWire(_Out):
    """A moment with a picture."""

    t: float
    picture: str = Field(description="path of the JPEG")


class TimelineWire(_Out):
    """What is remembered of a time of one camera."""

    camera: str
    since: float
    until: float
    bin_s: float = Field(gt=0, description="length of a bin")
    bins: tuple[BinWire, ...] = Field((), description="of the archive; bins without anything are left out")
    held: tuple[SpanWire, ...] | None = Field(
        None, description="of the attended memory, oldest first; null: the model was too busy to say"
    )
    gaps: tuple[GapWire, ...] = Field((), description="not seen, or erased; the newest 500")
    keyframes: tuple[KeyframeWire, ...] = Field((), description="24 at most, each the first of its share of the time")


class LostWire(_Out):
    """Sent to a viewer who was too slow."""

    lost: int = Field(ge=1, description="events that were dropped before this one")


class WatchWire(_Out):
    """One standing question: what was asked, and how it is."""

    name: str
    spec: WatchSpec
    removable: bool = Field(description="given over MQTT or HTTP; else it is only in the configuration file")
    configured: bool = Field(description="in the configuration file, whose question counts when this one is removed")
    state: WatchStateWire


class WatchesWire(_Out):
    """Every standing question, by name."""

    watches: tuple[WatchWire, ...]


class ChangedWire(_Out):
    """Sent to viewers: standing questions that were set, changed or removed."""

    names: tuple[str, ...]


class PastPictureWire(_Out):
    """What a camera showed when an event began there."""

    camera: str
    t: float
    picture: str = Field(description="path of the JPEG")


class PastEventWire(_Out):
    """One happening that a standing question found."""

    id: str
    watch: str
    question: str = Field(description="as it was then")
    severity: Literal["info", "warning", "alert"] = "info"
    state: Literal["ON", "OFF"] = Field(description="ON: it is open")
    start_time: float = Field(description="since when it was so")
    end_time: float | None = Field(None, description="until when; null: still so, or the end was not seen")
    cameras: tuple[str, ...] = Field((), description="that saw it, in order")
    probability: Share = Field(0.0, description="of yes, the highest")
    reason: str = Field("", description="why it ended: over, schedule, disabled, changed or removed")
    pictures: tuple[PastPictureWire, ...] = ()


class PastWire(_Out):
    """What a standing question found, newest first. At most 300 events of one and 3000 of all are kept."""

    watch: str
    events: tuple[PastEventWire, ...]


class LinesWire(_Out):
    """Lines of the diary, oldest first."""

    written: bool = Field(description="false: there are no new lines, see `diary.enabled` and `archive.enabled`")
    lines: tuple[DiaryLineWire, ...] = ()
