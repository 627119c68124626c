"""The shapes of the JSON API that MQTT does not have; the rest is in `daemon/wire.py`. Times are epoch seconds."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from daemon.wire import CameraState, GapWire


class _Out(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class ErrorWire(_Out):
    """What is wrong with a request, and what to do about it."""

    error: str


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
    keyframes: tuple[KeyframeWire, ...] = Field((), description="24 at most, evenly over the time")


class LostWire(_Out):
    """Sent to a viewer who was too slow."""

    lost: int = Field(ge=1, description="events that were dropped before this one")
