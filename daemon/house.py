"""Sections `home_assistant` and `frigate` of the configuration file: what else lives in the house."""

from __future__ import annotations

from string import Formatter
from typing import Literal

from pydantic import Field, field_validator

from daemon.stack import Section

TOPIC_PATTERN = r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$"
ASK_KEYS = ("label", "camera", "zones")


class HomeAssistantSettings(Section):
    """Cameras, standing questions and the ask box as one device in Home Assistant. See docs/home_assistant.md."""

    enabled: bool = Field(False, description="announce ourselves; false takes an earlier announcement back")
    discovery_prefix: str = Field("homeassistant", pattern=TOPIC_PATTERN, description="as in its MQTT integration")
    status_topic: str = Field(
        "homeassistant/status", pattern=TOPIC_PATTERN, description="it says `online` there after a restart"
    )
    device_name: str = Field("Longwatch", min_length=1, max_length=64, description="entities are named after it")


class FrigateSettings(Section):
    """A question about each event that Frigate finds. See docs/frigate.md."""

    enabled: bool = Field(False, description="listen to its events")
    topic_prefix: str = Field("frigate", pattern=TOPIC_PATTERN, description="its `mqtt.topic_prefix`")
    ask: str = Field(
        "what is the {label} at the {camera} doing?",
        min_length=1,
        max_length=500,
        description="`{label}`, `{camera}` and `{zones}` are filled in",
    )
    moments: Literal["new", "end", "both"] = Field("both", description="ask when an event begins, ends, or both")
    cameras: dict[str, str] = Field(
        default_factory=dict, description="its name of a camera -> ours; a name that is missing is the same in both"
    )
    labels: tuple[str, ...] = Field((), description="only these, e.g. [person, car]; empty: all")
    min_score: float = Field(0.0, ge=0, le=1, description="of the event's best picture; less is not asked about")
    max_per_minute: int = Field(12, ge=1, le=600, description="questions; what exceeds it is counted, not asked")

    @field_validator("ask")
    @classmethod
    def _known_names(cls, ask: str) -> str:
        try:
            parts = [(name, spec, how) for _, name, spec, how in Formatter().parse(ask) if name is not None]
        except ValueError as error:
            raise ValueError(f"{error}; a brace that is meant is written twice") from error
        for name, spec, how in parts:
            if name not in ASK_KEYS or spec or how:
                raise ValueError(f"{{{name}}} is not known; there are {', '.join(f'{{{key}}}' for key in ASK_KEYS)}")
        return ask
