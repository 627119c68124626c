"""Wire form <-> `daemon/messages.py`: what a payload says, what is wrong with it, and how answers are written."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn

from pydantic import ValidationError

from daemon.messages import Answer, Evidence, Gap, Query, Timing
from daemon.topics import Topics
from daemon.wire import (
    ID_PATTERN,
    MAX_EPOCH_S,
    AnswerWire,
    ChunkWire,
    EvidenceWire,
    GapWire,
    MemoryWire,
    QueryWire,
    TimingWire,
)
from stream.errors import QueryError
from stream.policy import nearest
from stream.types import Span

_SHOWN_CHARS = 80  # of a wrong value, in an error text
_SHOWN_PROBLEMS = 3


@dataclass(frozen=True, slots=True)
class Rules:
    """What a question may say."""

    topics: Topics
    cameras: tuple[str, ...]
    max_bytes: int
    max_chars: int
    deadline_s: float  # when the question does not say


@dataclass(frozen=True, slots=True)
class Arrival:
    """What is known of a payload before it is read."""

    camera: str | None  # from the topic
    received_s: float
    fresh_id: str  # taken when the question brings none
    expiry_s: float | None = None  # MQTT 5 message expiry that is left


@dataclass(frozen=True, slots=True)
class Request:
    """A question and where its answer goes. `reply_to` is None when the payload does not say."""

    query: Query
    reply_to: str | None
    named: bool  # whether the question brought its id


class BadQuery(QueryError):
    """A question that cannot be understood, with what is needed to say so to whoever asked."""

    def __init__(self, message: str, query_id: str, reply_to: str | None) -> None:
        super().__init__(message)
        self.query_id = query_id
        self.reply_to = reply_to


def parse_query(payload: bytes, arrival: Arrival, rules: Rules) -> Request:
    """The question in `payload`: plain UTF-8 text, or a JSON object. Raises BadQuery, one line, and nothing else."""
    raw: dict[str, Any] = {}
    try:
        raw = _raw(payload, rules)
        return _request(raw, arrival, rules)
    except BadQuery:
        raise
    except QueryError as error:
        query_id, reply_to = _address(raw or _salvage(payload, rules), arrival, rules)
        raise BadQuery(str(error), query_id, reply_to) from error


def _raw(payload: bytes, rules: Rules) -> dict[str, Any]:
    """The payload as a dict, unchecked."""
    if len(payload) > rules.max_bytes:
        raise QueryError(f"question of {len(payload)} bytes; mqtt.max_payload_bytes allows {rules.max_bytes}")
    try:
        text = payload.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise QueryError(f"question is not UTF-8 at byte {error.start}; send text or a JSON object") from error
    if not text:
        raise QueryError("empty question; send text or a JSON object with `question`")
    return _object(text) if text.startswith("{") else {"question": text}


def _object(text: str) -> dict[str, Any]:
    def constant(name: str) -> NoReturn:
        raise QueryError(f"{name} is not a number in JSON; leave the key out")

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) != len(items):
            twice = Counter(key for key, _ in items).most_common(1)[0][0]
            raise QueryError(f"key {_show(twice)} is given twice")
        return found

    try:
        found: dict[str, Any] = json.loads(text, parse_constant=constant, object_pairs_hook=pairs)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise QueryError(f"broken JSON at {place}: {error.msg}; a plain question must not start with {{") from error
    except RecursionError as error:
        raise QueryError("JSON is nested too deeply; a question is one flat object") from error
    except ValueError as error:  # an integer of thousands of digits
        raise QueryError("JSON holds a number that is too long") from error
    return found


def _request(raw: dict[str, Any], arrival: Arrival, rules: Rules) -> Request:
    try:
        wire = QueryWire.model_validate(raw)
    except ValidationError as error:
        items = error.errors(include_url=False, include_context=False)
        problems = [_describe(dict(item), raw) for item in items[:_SHOWN_PROBLEMS]]
        raise QueryError("; ".join(dict.fromkeys(problems))) from error
    except (OverflowError, RecursionError) as error:
        raise QueryError("a value is out of all bounds; see the question's JSON Schema") from error
    since_s, until_s = moment("since", wire.since), moment("until", wire.until)
    if since_s is not None and until_s is not None and since_s > until_s:
        raise QueryError(f"since {_iso(since_s)} is after until {_iso(until_s)}; swap them")
    waits_s = [wait for wait in (_seconds(wire.deadline_ms), arrival.expiry_s) if wait is not None]
    query = Query(
        id=wire.id or arrival.fresh_id,
        question=_text(wire.question, rules.max_chars),
        cameras=_cameras(wire.cameras, arrival.camera, rules.cameras),
        since_s=since_s,
        until_s=until_s,
        stream=wire.stream,
        evidence=wire.evidence,
        received_s=arrival.received_s,
        deadline_s=arrival.received_s + min(waits_s, default=rules.deadline_s),
    )
    reply_to = None if wire.reply_to is None else rules.topics.check_reply(wire.reply_to)
    return Request(query, reply_to, wire.id is not None)


def _address(raw: dict[str, Any], arrival: Arrival, rules: Rules) -> tuple[str, str | None]:
    """The id and reply topic of a question that is wrong otherwise; only what is itself right is believed."""
    query_id, reply_to = raw.get("id"), raw.get("reply_to")
    if not isinstance(query_id, str) or not is_id(query_id):
        query_id = arrival.fresh_id
    if isinstance(reply_to, str):
        try:
            return query_id, rules.topics.check_reply(reply_to)
        except QueryError:
            pass
    return query_id, None


def _salvage(payload: bytes, rules: Rules) -> dict[str, Any]:
    """`id` and `reply_to` out of JSON that does not parse. Looks at the first bytes only: the payload may be huge."""
    head = payload[: rules.max_bytes].decode("utf-8", "replace")
    if not head.lstrip("\ufeff \t\r\n").startswith("{"):
        return {}
    pattern = r'"(id|reply_to)"\s*:\s*"([^"\\\x00-\x1f]{1,256})"'
    return dict(re.findall(pattern, head))


def is_id(text: str) -> bool:
    """Whether `text` may name a question: 1 to 64 of A-Z, a-z, 0-9, `_`, `.`, `-`."""
    return re.fullmatch(ID_PATTERN.strip("^$"), text) is not None


def _text(question: str, max_chars: int) -> str:
    text = question.strip()
    if not text:
        raise QueryError("question: empty; ask something")
    if len(text) > max_chars:
        raise QueryError(f"question: {len(text)} characters; answer.max_question_chars allows {max_chars}")
    for char in text:
        if (ord(char) < 32 and char not in "\n\r\t") or 0xD800 <= ord(char) < 0xE000:
            raise QueryError(f"question: holds the unprintable character U+{ord(char):04X}; remove it")
    return text


def _cameras(named: Iterable[str], from_topic: str | None, known: tuple[str, ...]) -> tuple[str, ...]:
    """The cameras asked, without repeats; empty means all."""
    asked = list(dict.fromkeys(named))
    for name in [*asked, *([from_topic] if from_topic is not None else [])]:
        if name not in known:
            raise QueryError(f"unknown camera {_show(name)}; {nearest(name[:_SHOWN_CHARS], list(known))}")
    if from_topic is None:
        return tuple(asked)
    if asked and asked != [from_topic]:
        raise QueryError(f"the topic asks camera {from_topic!r} and `cameras` others; send it to `query` of the prefix")
    return (from_topic,)


def moment(key: str, value: float | str | None) -> float | None:
    """Epoch seconds of a number or an ISO 8601 text; without an offset it is local time, as people write it.

    Raises QueryError, which names `key`.
    """
    if value is None or isinstance(value, (int, float)):
        return None if value is None else float(value)
    try:
        found_s = datetime.fromisoformat(value.strip()).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise QueryError(f"{key}: {_show(value)} is neither epoch seconds nor ISO 8601") from error
    if not 0 <= found_s <= MAX_EPOCH_S:
        raise QueryError(f"{key}: {_show(value)} lies outside 1970 to 2100")
    return found_s


def _describe(item: dict[str, Any], raw: dict[str, Any]) -> str:
    """One line for one pydantic error."""
    key = str(item["loc"][0]) if item["loc"] else "question"
    value = raw.get(key)
    if item["type"] == "extra_forbidden":
        return f"unknown key {_show(key)}; {nearest(key[:_SHOWN_CHARS], list(QueryWire.model_fields))}"
    if item["type"] == "missing":
        return f"`{key}` is missing"
    if key == "id" and isinstance(value, str):
        return f"id: {_show(value)} must be 1 to 64 of A-Z a-z 0-9 _ . -"
    if key in ("since", "until"):
        hint = " (milliseconds? give seconds)" if isinstance(value, (int, float)) and value > MAX_EPOCH_S else ""
        return f"{key}: {_show(value)} is neither epoch seconds nor ISO 8601{hint}"
    shown = "" if key == "question" else f"{_show(value)}: "
    return f"{key}: {shown}{item['msg']}"


def _show(value: object) -> str:
    """A wrong value for an error text: one short line that can always be encoded."""
    try:
        text = ascii(value) if not isinstance(value, str) else repr(value[:_SHOWN_CHARS])
    except (ValueError, RecursionError):  # an integer of thousands of digits, a deep list
        return type(value).__name__
    return text[: _SHOWN_CHARS + 2].encode("utf-8", "replace").decode()


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000.0


def _iso(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def encode_query(query: Query, reply_to: str | None = None) -> bytes:
    """The JSON object that `parse_query` reads; the deadline becomes relative to `received_s`."""
    fields: dict[str, Any] = {
        "v": 1,
        "id": query.id,
        "question": query.question,
        "cameras": list(query.cameras) or None,
        "since": query.since_s,
        "until": query.until_s,
        "stream": query.stream,
        "evidence": query.evidence,
        "deadline_ms": None if query.deadline_s is None else (query.deadline_s - query.received_s) * 1000.0,
        "reply_to": reply_to,
    }
    return json.dumps({key: value for key, value in fields.items() if value is not None}).encode()


def encode_answer(answer: Answer, topics: Topics) -> bytes:
    """An answer as UTF-8 JSON; pictures travel on their own topics, named in `frame`."""
    evidence = tuple(
        EvidenceWire(
            camera=item.camera,
            t=item.span.last_s,
            iso=_iso(min(max(item.span.last_s, 0.0), MAX_EPOCH_S)),
            span=(item.span.first_s, item.span.last_s),
            count=item.span.count,
            weight=_share(item.weight) or 0.0,
            confidence=_share(item.confidence),
            frame=topics.evidence(answer.id, index) if item.jpeg else None,
        )
        for index, item in enumerate(answer.evidence)
    )
    gaps = tuple(GapWire(camera=g.camera, since=g.since_s, until=g.until_s, reason=g.reason) for g in answer.gaps)
    memory = MemoryWire(
        from_=answer.memory_from_s,
        to=answer.memory_to_s,
        asked_from=answer.asked_from_s,
        asked_to=answer.asked_to_s,
        carriers=answer.carriers,
        recalled=answer.recalled,
        evicted=answer.evicted,
        newest_age_s=answer.newest_age_s,
        gaps=gaps,
    )
    timing = answer.timing
    wire = AnswerWire(
        id=answer.id,
        status=answer.status,
        answer=answer.text.encode("utf-8", "replace").decode(),  # half a surrogate pair must not cost the answer
        confidence=_share(answer.confidence),
        evidence=evidence,
        memory=memory,
        asked_at=answer.asked_s,
        answered_at=answer.answered_s,
        timing_ms=TimingWire(queue=timing.queue_ms, first_token=timing.first_token_ms, total=timing.total_ms),
        model=answer.model,
    )
    return wire.model_dump_json(by_alias=True).encode()


def decode_answer(payload: bytes) -> Answer:
    """The answer in `payload`, without pictures. Raises QueryError."""
    try:
        wire = AnswerWire.model_validate_json(payload)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise QueryError(f"not an answer: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    timing, memory = wire.timing_ms, wire.memory
    return Answer(
        id=wire.id,
        status=wire.status,
        text=wire.answer,
        confidence=wire.confidence,
        evidence=tuple(Evidence(e.camera, Span(*e.span, e.count), e.weight, b"", e.confidence) for e in wire.evidence),
        memory_from_s=memory.from_,
        memory_to_s=memory.to,
        asked_from_s=memory.asked_from,
        asked_to_s=memory.asked_to,
        carriers=memory.carriers,
        recalled=memory.recalled,
        evicted=memory.evicted,
        newest_age_s=memory.newest_age_s,
        gaps=tuple(Gap(g.camera, g.since, g.until, g.reason) for g in memory.gaps),
        asked_s=wire.asked_at,
        answered_s=wire.answered_at,
        timing=Timing(timing.queue, timing.first_token, timing.total),
        model=wire.model,
    )


def encode_chunk(query_id: str, seq: int, text: str) -> bytes:
    """One piece of an answer; `seq` counts from 0."""
    return ChunkWire(id=query_id, seq=seq, text=text.encode("utf-8", "replace").decode()).model_dump_json().encode()


def decode_chunk(payload: bytes) -> ChunkWire:
    """The piece in `payload`. Raises QueryError."""
    try:
        return ChunkWire.model_validate_json(payload)
    except ValidationError as error:
        raise QueryError("not a chunk: needs id, seq and text") from error


def error_answer(query_id: str, text: str, at_s: float) -> Answer:
    """An answer with status `error` that says what to do."""
    return Answer(id=query_id, status="error", text=text, asked_s=at_s, answered_s=at_s)


def with_pictures(answer: Answer, jpegs: dict[int, bytes]) -> Answer:
    """`answer` with the JPEG of each evidence index that arrived."""
    evidence = tuple(dataclasses.replace(e, jpeg=jpegs.get(i, b"")) for i, e in enumerate(answer.evidence))
    return dataclasses.replace(answer, evidence=evidence)


def _share(value: float | None) -> float | None:
    """`value` clamped to 0..1; what is not a number is not known."""
    return None if value is None or not math.isfinite(value) else min(max(value, 0.0), 1.0)
