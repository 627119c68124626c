"""The shapes that travel over MQTT, as pydantic models: the one source of `daemon/schemas/*.json`.

Times are seconds since the Unix epoch. Answers may gain keys; a reader ignores keys it does not know. Questions may
not: a misspelt key is refused, since a filter that is silently ignored gives a wrong answer.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from daemon.messages import Status
from daemon.watch.spec import WatchSpec

ID_PATTERN = r"^[A-Za-z0-9_.-]{1,64}$"
MAX_EPOCH_S = 4_102_444_800.0  # year 2100: a larger number was given in milliseconds
MAX_DEADLINE_MS = 86_400_000

Epoch = Annotated[float, Field(ge=0, le=MAX_EPOCH_S, allow_inf_nan=False, description="seconds since the Unix epoch")]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Availability = Literal["online", "offline", "degraded", "paused"]  # paused: on purpose; nobody need look into it


class QueryWire(BaseModel):
    """A question. The payload may also be plain UTF-8 text, which is the question itself."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, hide_input_in_errors=True, title="Longwatch question"
    )

    v: Literal[1] = 1
    id: str | None = Field(None, pattern=ID_PATTERN, description="answered once; generated when missing")
    question: str = Field(min_length=1)
    cameras: list[str] = Field([], max_length=256, description="empty: the topic's camera, else all")
    since: Epoch | str | None = Field(None, description="epoch seconds, or ISO 8601 (daemon's local time if no offset)")
    until: Epoch | str | None = Field(None, description="epoch seconds, or ISO 8601 (daemon's local time if no offset)")
    stream: bool = Field(True, description="publish chunks while the answer is written")
    evidence: int | None = Field(None, ge=0, le=16, description="moments wanted")
    deadline_ms: float | None = Field(
        None, gt=0, le=MAX_DEADLINE_MS, allow_inf_nan=False, description="after this nobody waits any more"
    )
    reply_to: str | None = Field(None, description="for MQTT 3.1.1; an MQTT 5 response topic goes first")


class _Out(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class EvidenceWire(_Out):
    """A moment the answer rests on."""

    camera: str
    t: float = Field(description="the newest moment of the span")
    iso: str = Field(description="`t` as ISO 8601 in UTC")
    span: tuple[float, float] = Field(description="first and last second")
    count: int = Field(1, ge=1, description="frames folded into the span")
    weight: Share = Field(description="share of the answer's attention")
    confidence: Share | None = Field(None, description="chance that this moment shows it; null: never measured")
    frame: str | None = Field(None, description="topic of the JPEG")


class GapWire(_Out):
    """A time of which memory has nothing: the camera was not seen, or it was erased."""

    camera: str
    since: float
    until: float | None = Field(None, description="null: still so")
    reason: str


class MemoryWire(_Out):
    """What the answer could look at."""

    from_: float | None = Field(None, alias="from")
    to: float | None = None
    asked_from: float | None = Field(None, description="the time asked for, as it was understood; null: open")
    asked_to: float | None = None
    carriers: int = Field(0, ge=0, description="moments read for this answer")
    recalled: int = Field(0, ge=0, description="of these, from the archive")
    evicted: int = Field(0, ge=0, description="moments that have left the bounded memory so far")
    newest_age_s: float | None = Field(None, description="age of the newest frame when the answer was given")
    gaps: tuple[GapWire, ...] = ()


class TimingWire(_Out):
    """Milliseconds since the question arrived."""

    queue: float
    first_token: float | None = None
    total: float


class AnswerWire(_Out):
    """An answer. `no_evidence`: nothing that is remembered supports one. `error`, `busy` and `expired` say in `answer`
    what to do about it."""

    model_config = ConfigDict(title="Longwatch answer")

    v: Literal[1] = 1
    id: str
    status: Status
    answer: str
    confidence: Share | None = None
    evidence: tuple[EvidenceWire, ...] = ()
    memory: MemoryWire = MemoryWire()
    asked_at: float = 0.0
    answered_at: float = 0.0
    timing_ms: TimingWire = TimingWire(queue=0.0, total=0.0)
    model: str = ""


class LastAnswerWire(AnswerWire):
    """The newest answer, as published retained on `<p>/last_answer`: an answer, and what a small display needs."""

    model_config = ConfigDict(title="Longwatch last answer")

    question: str
    text: str = Field(min_length=1, max_length=255, description="the answer on one line; a state holds no more")


class FrigateWire(AnswerWire):
    """An answer about an event of Frigate, as published on `<p>/events`."""

    model_config = ConfigDict(title="Longwatch answer about a Frigate event")

    type: Literal["answer"] = "answer"  # what standing questions tell there is `new`, `update` or `end`
    source: Literal["frigate"] = "frigate"
    event_id: str = Field(description="Frigate's")
    moment: Literal["new", "end"] = Field(description="of the event: it began, or it ended")
    camera: str = Field(description="our name of it")
    frigate_camera: str
    label: str
    question: str
    since: float = Field(description="the time asked about")
    until: float


class ChunkWire(_Out):
    """A piece of an answer while it is written; pieces in order of `seq` make the text."""

    model_config = ConfigDict(title="Longwatch answer chunk")

    id: str
    seq: int = Field(ge=0)
    text: str


class CameraState(_Out):
    """One camera, as published retained on `<p>/<cam>/state`."""

    model_config = ConfigDict(title="Longwatch camera state")

    camera: str
    state: Availability
    reason: str = Field("", description="why it is not online; empty when it is. Of `paused`: schedule or disabled")
    at: float = Field(description="when this was written")
    newest_age_s: float | None = Field(None, description="age of the newest frame, or packet while nothing moves")
    fps: float = Field(0.0, ge=0, description="frames decoded per second, lately")
    frames_in: int = 0
    frames_kept: int = 0
    frames_skipped: int = 0
    frames_dropped: int = 0
    frames_corrupt: int = Field(0, description="damaged; part of the skipped")
    reconnects: int = 0
    carriers: int = Field(0, description="moments remembered now")
    memory_from: float | None = None
    memory_to: float | None = None


class ForgetWire(BaseModel):
    """A time to be erased for good, as sent to `<p>/forget`. One of `since`, `until` and `last` is needed."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, hide_input_in_errors=True, title="Longwatch erasure"
    )

    v: Literal[1] = 1
    id: str | None = Field(None, pattern=ID_PATTERN, description="executed once; comes back in the state")
    camera: str | None = Field(None, description="only this one; neither it nor `cameras`: all")
    cameras: list[str] = Field([], max_length=256)
    since: Epoch | str | None = Field(None, description="epoch seconds or ISO 8601; missing: the beginning")
    until: Epoch | str | None = Field(None, description="epoch seconds or ISO 8601; missing: now")
    last: str | None = Field(None, description="up to now: 30m, 1h, 2d; instead of `since` and `until`")


class ForgetStateWire(_Out):
    """What became of an erasure, as published on `<p>/forget/state`."""

    model_config = ConfigDict(title="Longwatch erasure state")

    v: Literal[1] = 1
    id: str | None = Field(None, description="of the command; null: it had none, or none that could be read")
    state: Literal["working", "done", "error"]
    cameras: tuple[str, ...] = Field((), description="empty: all")
    since: float | None = Field(None, description="the time, as it was understood")
    until: float | None = None
    carriers: int | None = Field(None, description="archived moments that were erased, each with its picture")
    error: str | None = Field(None, description="why it was not erased, or not yet")
    at: float = Field(description="when this was written")


class DiaryQueryWire(BaseModel):
    """A question about the diary, as sent to `<p>/diary`; `{}` asks for the newest lines."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, hide_input_in_errors=True, title="Longwatch question about the diary"
    )

    v: Literal[1] = 1
    id: str | None = Field(None, pattern=ID_PATTERN, description="comes back; generated when missing")
    camera: str | None = Field(None, description="only this one; default: all")
    since: Epoch | str | None = Field(None, description="epoch seconds, ISO 8601, or words such as `yesterday`")
    until: Epoch | str | None = Field(None, description="epoch seconds, ISO 8601, or words such as `Monday at 14:00`")
    search: str | None = Field(None, min_length=1, max_length=500, description="words in any form; SQLite FTS5")
    summary: bool = Field(False, description="only the lines that sum up a day")
    limit: int = Field(200, ge=1, le=1000, description="the newest, at most")
    reply_to: str | None = Field(None, description="for MQTT 3.1.1; an MQTT 5 response topic goes first")


class DiaryLineWire(_Out):
    """One line of the diary, as published on `<p>/<cam>/diary` where `diary.publish` is true."""

    model_config = ConfigDict(title="Longwatch line of the diary")

    camera: str
    from_: float = Field(alias="from", description="when the first change was seen")
    to: float = Field(description="when the last change was seen")
    kind: Literal["event", "missed", "day"] = Field(
        description="missed: nothing could be said of these events; day: counts of a whole day"
    )
    text: str
    confidence: Share | None = Field(None, description="null: nothing was said of which one could be sure")
    model: str = Field("", description="that wrote it; empty for counts")


class DiaryWire(_Out):
    """Lines of the diary in time order, as published on `<p>/diary/<id>`."""

    model_config = ConfigDict(title="Longwatch diary")

    v: Literal[1] = 1
    id: str
    lines: tuple[DiaryLineWire, ...] = ()
    error: str | None = Field(None, description="why there are none")


class DaemonStatus(_Out):
    """The whole daemon, as published retained on `<p>/status`."""

    model_config = ConfigDict(title="Longwatch status")

    version: str
    model: str
    at: float = Field(description="when this was written")
    uptime_s: float
    cameras_online: int = 0
    cameras_paused: int = Field(0, description="switched off, or outside their schedule")
    cameras_total: int = 0
    queue_depth: int = Field(0, description="questions waiting")
    answered: int = 0
    frames_kept: int = 0
    absorb_ms_p50: float | None = Field(None, description="one batch of frames into memory; median of the newest 512")
    first_token_ms_p50: float | None = Field(None, description="question taken -> first token; newest 512 questions")
    first_token_ms_p95: float | None = None
    archive_ok: bool = Field(True, description="false: moments are remembered, but not written to the disk")
    archive_reason: str = Field("", description="why not: full, read_only, corrupt, locked, cannot_open, io")
    archive_bytes: int = Field(0, description="what all cameras' moments take on the disk")
    archived: int = Field(0, description="moments written since the start")
    archive_dropped: int = Field(0, description="moments that could not be written, and are in no archive")
    mqtt_reconnects: int = 0
    mqtt_waiting: int = Field(0, description="messages waiting for the broker")
    mqtt_dropped: int = Field(0, description="chunks and pictures given up while the broker was away")
    mqtt_lost: int = Field(0, description="answers given up because the queue was full")


class WatchEvidenceWire(_Out):
    """What a camera showed when an event began there."""

    camera: str
    t: float = Field(description="when the picture was taken")
    iso: str = Field(description="`t` as ISO 8601 in UTC")
    frame: str = Field(description="topic of the JPEG")


class WatchEventWire(_Out):
    """One happening that a standing question found; cameras that saw the same moment are in one."""

    id: str
    watch: str = Field(description="the standing question's name")
    question: str
    severity: Literal["info", "warning", "alert"] = "info"
    state: Literal["ON", "OFF"] = Field(description="ON: it is open")
    start_time: float = Field(description="since when it is so")
    end_time: float | None = Field(None, description="until when it was; null: still so")
    cameras: tuple[str, ...] = Field((), description="that saw it, in order")
    probability: Share = Field(0.0, description="of yes, the highest so far")
    reason: str = Field("", description="why it ended: over, schedule, disabled, changed or removed")
    evidence: tuple[WatchEvidenceWire, ...] = ()


class EventWire(_Out):
    """What a standing question tells on `<p>/events`. `before` of a `new` event is the same one with `state` OFF."""

    model_config = ConfigDict(title="Longwatch event")

    v: Literal[1] = 1
    type: Literal["new", "update", "end"]
    before: WatchEventWire
    after: WatchEventWire


class WatchStateWire(_Out):
    """One standing question, as published retained on `<p>/watch/<name>/state`. With an `error`, what was sent to
    `<p>/watch/<name>/set` changed nothing; that of an unknown name is not retained."""

    model_config = ConfigDict(title="Longwatch standing question")

    v: Literal[1] = 1
    name: str
    state: Literal["ON", "OFF"] | None = Field(None, description="ON: an event is open; null: no such question")
    question: str = ""
    kind: Literal["state", "count"] = "state"
    severity: Literal["info", "warning", "alert"] = "info"
    cameras: tuple[str, ...] = Field((), description="empty: all")
    enabled: bool = True
    put: bool = Field(False, description="whether its schedule has it put now")
    source: Literal["config", "mqtt"] = "config"
    since: float | None = Field(None, description="since when the open event lasts")
    event: str | None = Field(None, description="its id")
    probability: dict[str, Share] = Field({}, description="of yes, by camera, when it was last evaluated")
    last_hour: int = Field(0, ge=0, description="events that began in the last hour")
    evaluated_at: float | None = None
    missed: int = Field(0, ge=0, description="moments that could not be evaluated in time")
    error: str | None = None


_MODELS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("query", QueryWire),
    ("answer", AnswerWire),
    ("chunk", ChunkWire),
    ("last_answer", LastAnswerWire),
    ("frigate", FrigateWire),
    ("status", DaemonStatus),
    ("state", CameraState),
    ("forget", ForgetWire),
    ("forget_state", ForgetStateWire),
    ("event", EventWire),
    ("diary_query", DiaryQueryWire),
    ("diary_line", DiaryLineWire),
    ("diary", DiaryWire),
    ("watch", WatchSpec),
    ("watch_state", WatchStateWire),
)


def schemas() -> dict[str, str]:
    """File name -> text of each JSON Schema, as `daemon/schemas/` must hold it (`python -m daemon.wire` writes it)."""
    return {f"{name}.json": _schema(model) for name, model in _MODELS}


def _schema(model: type[BaseModel]) -> str:
    mode: Literal["validation", "serialization"] = (
        "validation" if model in (QueryWire, WatchSpec, ForgetWire, DiaryQueryWire) else "serialization"
    )
    schema: dict[str, Any] = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    schema.update(model.model_json_schema(mode=mode, by_alias=True))
    return json.dumps(schema, indent=2) + "\n"


def _write() -> None:
    from pathlib import Path  # only here: the module itself touches no files

    folder = Path(__file__).parent / "schemas"
    folder.mkdir(exist_ok=True)
    for name, text in schemas().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    _write()
