"""Frigate beside us: each event it finds is a question to our memory, answered on `<p>/events` with its id.

    frigate/events --new, end--> _event -> wanted? -> within the limits? -> ask --answer--> <p>/events

Format of its events: docs.frigate.video/integrations/mqtt. It says what kind of object is where; we say what happens.
"""

from __future__ import annotations

import json
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from daemon.desk import JPEG, JSON, Delivery
from daemon.job import Sinks
from daemon.messages import Answer, Query
from daemon.metrics import Counters
from daemon.outbox import Outgoing, Rank
from daemon.payloads import encode_answer
from daemon.settings import Settings
from daemon.topics import Topics
from daemon.wire import MAX_EPOCH_S, AnswerWire, FrigateWire
from stream.errors import QueryError

MAX_BYTES = 262_144  # an event with its path may take some kilobytes
MAX_WAITING = 4  # of our questions at once: those of people have the rest of the queue
AROUND_S = 2.0  # asked about before and after: its clock and its detection are not ours
MINUTE_S = 60.0
_ID = r"[A-Za-z0-9_.-]{1,56}"  # of an event, e.g. 1607123955.475377-mxklsc: a topic level, and part of a question's id
_SHOWN_CHARS = 60
_MAX_LABEL = 64

Ask = Callable[[Query, Sinks], None]


@dataclass(frozen=True, slots=True)
class Event:
    """What is used of an event. Times are seconds since the epoch."""

    id: str
    moment: str  # new, end; update is not asked about
    camera: str  # its name of it
    label: str
    zones: tuple[str, ...]
    score: float
    start_s: float
    end_s: float | None
    false_positive: bool


class Frigate:
    """Asks about events. `ask` hands a question to the engine; its sinks, and `take`, are called on the event loop."""

    def __init__(
        self,
        settings: Settings,
        topics: Topics,
        publish: Callable[[Outgoing], None],
        ask: Ask,
        counters: Counters,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._topics, self._publish, self._ask = topics, publish, ask
        self._counters, self._wall_s = counters, wall_s
        self._asked_s: deque[float] = deque()  # of the last minute
        self._waiting = 0
        self._log = structlog.get_logger("longwatch.frigate")
        self.topic = f"{settings.frigate.topic_prefix}/events"
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """These are the cameras now."""
        self._how = settings.frigate
        self._cameras = {name for name, camera in settings.cameras.items() if camera.enabled}
        self._deadline_s = settings.answer.deadline_s

    def take(self, delivery: Delivery) -> None:
        """One message on its topic; what we do not ask about is counted by its reason."""
        try:
            event = read_event(delivery.payload)
        except QueryError as error:
            self._counters.count("frigate_skipped", reason="unreadable")
            self._log.warning("event of Frigate cannot be read", reason=str(error))
            return
        if event.moment == "update":
            return
        camera = self._how.cameras.get(event.camera, event.camera)
        reason = "retained" if delivery.retain else self._unwanted(event, camera) or self._over_limit()
        if reason:
            self._counters.count("frigate_skipped", reason=reason)
            self._log.debug("event of Frigate not asked about", id=event.id, reason=reason)
            return
        self._asked_s.append(self._wall_s())
        self._put(event, camera)

    def _unwanted(self, event: Event, camera: str) -> str:
        """Why nobody wants to know; empty when somebody does."""
        how = self._how
        if event.false_positive:
            return "false_positive"
        if how.moments not in ("both", event.moment):
            return "moment"
        if how.labels and event.label not in how.labels:
            return "label"
        if event.score < how.min_score:
            return "score"
        return "" if camera in self._cameras else "camera"

    def _over_limit(self) -> str:
        now_s = self._wall_s()
        while self._asked_s and not now_s - MINUTE_S < self._asked_s[0] <= now_s:  # or the clock was set
            self._asked_s.popleft()
        if self._waiting >= MAX_WAITING:
            return "waiting"
        return "limit" if len(self._asked_s) >= self._how.max_per_minute else ""

    def _put(self, event: Event, camera: str) -> None:
        now_s = self._wall_s()
        zones = ", ".join(zone.replace("_", " ") for zone in event.zones) or "no zone"
        text = self._how.ask.format(label=event.label, camera=camera.replace("_", " "), zones=zones)
        until_s = now_s if event.end_s is None else min(now_s, event.end_s + AROUND_S)
        query = Query(
            id=f"{event.id}.{event.moment}",
            question=text,
            cameras=(camera,),
            since_s=min(max(0.0, event.start_s - AROUND_S), until_s),
            until_s=until_s,
            stream=False,
            received_s=now_s,
            deadline_s=now_s + self._deadline_s,
        )
        self._waiting += 1
        self._counters.count("frigate_asked")
        self._ask(query, Sinks(lambda _: None, lambda answer: self._answered(event, query, answer)))

    def _answered(self, event: Event, query: Query, answer: Answer) -> None:
        """Pictures first, as with every answer."""
        self._waiting -= 1
        for index, item in enumerate(answer.evidence):
            if item.jpeg:
                place = self._topics.evidence(answer.id, index)
                self._publish(Outgoing(place, item.jpeg, 1, False, Rank.PICTURE, JPEG))
        payload = encode(event, query, answer, self._topics)
        self._publish(Outgoing(self._topics.events, payload, content_type=JSON))


def encode(event: Event, query: Query, answer: Answer, topics: Topics) -> bytes:
    """What is published about `event`."""
    wire = AnswerWire.model_validate_json(encode_answer(answer, topics))
    told = FrigateWire(
        **wire.model_dump(by_alias=True),
        event_id=event.id,
        moment="end" if event.moment == "end" else "new",
        camera=query.cameras[0],
        frigate_camera=event.camera,
        label=event.label,
        question=query.question,
        since=query.since_s or 0.0,
        until=query.until_s or 0.0,
    )
    return told.model_dump_json(by_alias=True).encode()


def read_event(payload: bytes) -> Event:
    """The event in a message of Frigate. Raises QueryError, one line. Unknown keys are fine: it gains some a year."""
    if len(payload) > MAX_BYTES:
        raise QueryError(f"{len(payload)} bytes; {MAX_BYTES} are allowed")
    try:
        raw = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise QueryError("not JSON") from error
    after = raw.get("after") if isinstance(raw, dict) else None
    if not isinstance(raw, dict) or not isinstance(after, dict):
        raise QueryError("no `after`; is this the topic <topic_prefix>/events?")
    moment = raw.get("type")
    if moment not in ("new", "update", "end"):
        raise QueryError(f"type {_shown(moment)} is not new, update or end")
    event_id = _text(after, "id")
    if not re.fullmatch(_ID, event_id):
        raise QueryError(f"id {_shown(event_id)} must be 1 to 56 of A-Z a-z 0-9 _ . -")
    zones = after.get("entered_zones")
    return Event(
        id=event_id,
        moment=moment,
        camera=_text(after, "camera"),
        label=_text(after, "label"),
        zones=tuple(zone[:_MAX_LABEL] for zone in zones if isinstance(zone, str)) if isinstance(zones, list) else (),
        score=max(_number(after, "top_score", 0.0), _number(after, "score", 0.0)),
        start_s=_number(after, "start_time"),
        end_s=None if after.get("end_time") is None else _number(after, "end_time"),
        false_positive=after.get("false_positive") is True,
    )


def _text(raw: dict[str, Any], key: str) -> str:
    value = raw.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_LABEL or not value.isprintable():
        raise QueryError(f"{key} {_shown(value)} must be a text of 1 to {_MAX_LABEL} characters")
    return value


def _number(raw: dict[str, Any], key: str, missing: float | None = None) -> float:
    value = raw.get(key)
    if value is None and missing is not None:
        return missing
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_EPOCH_S:
        raise QueryError(f"{key} {_shown(value)} must be a number of seconds, or of 0 to 1 for a score")
    return float(value)


def _shown(value: object) -> str:
    return ascii(value)[:_SHOWN_CHARS] if isinstance(value, str | int | float | bool | None) else type(value).__name__
