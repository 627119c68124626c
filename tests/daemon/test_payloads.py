"""Every kind of bad question gets one clear line and, where it can be known, its own id and reply topic back."""

from __future__ import annotations

import json
import math
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.messages import Answer, Evidence, Gap, Query, Timing
from daemon.payloads import (
    Arrival,
    BadQuery,
    Rules,
    decode_answer,
    decode_chunk,
    encode_answer,
    encode_chunk,
    encode_query,
    is_id,
    parse_query,
)
from daemon.topics import Topics
from daemon.wire import MAX_EPOCH_S, schemas
from stream.errors import QueryError
from stream.types import Span

TOPICS = Topics("longwatch", ("clients/", "ha"))
RULES = Rules(TOPICS, ("door", "garage", "street"), max_bytes=4096, max_chars=200, deadline_s=30.0)
ARRIVAL = Arrival(camera=None, received_s=1_000.0, fresh_id="fresh")


def parse(payload: bytes | dict[str, object], camera: str | None = None, expiry_s: float | None = None) -> Query:
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return parse_query(raw, Arrival(camera, 1_000.0, "fresh", expiry_s), RULES).query


def ask(**more: object) -> bytes:
    return json.dumps({"question": "who was there?", **more}).encode()


def test_plain_text_asks_all_cameras() -> None:
    query = parse(b"  is the gate open?\n")
    assert query == Query("fresh", "is the gate open?", received_s=1_000.0, deadline_s=1_030.0)


def test_text_that_is_json_but_no_object_is_plain_text() -> None:
    assert parse(b"[1, 2] what is this?").question == "[1, 2] what is this?"
    assert parse("\ufeffwer war da? ä".encode()).question == "wer war da? ä"


def test_the_topic_names_the_camera() -> None:
    assert parse(b"open?", camera="door").cameras == ("door",)
    assert parse(ask(cameras=["door"]), camera="door").cameras == ("door",)


def test_all_keys() -> None:
    full = {
        "v": 1,
        "id": "a.b-c_9",
        "question": "who?",
        "cameras": ["door", "garage", "door"],
        "since": 5,
        "until": "2026-11-20T08:00:00+01:00",
        "stream": False,
        "evidence": 3,
        "deadline_ms": 8000,
        "reply_to": "clients/me/answers",
    }
    request = parse_query(json.dumps(full).encode(), ARRIVAL, RULES)
    until_s = datetime.fromisoformat("2026-11-20T08:00:00+01:00").timestamp()
    expected = Query("a.b-c_9", "who?", ("door", "garage"), 5.0, until_s, False, 3, 1_000.0, 1_008.0)
    assert request.query == expected
    assert request.reply_to == "clients/me/answers"


@pytest.mark.parametrize(
    ("deadline_ms", "expiry_s", "wait_s"), [(None, None, 30), (5000, 2, 2), (1000, 9, 1), (None, 60, 60)]
)
def test_the_earlier_of_deadline_and_expiry_counts(
    deadline_ms: int | None, expiry_s: float | None, wait_s: float
) -> None:
    payload = ask() if deadline_ms is None else ask(deadline_ms=deadline_ms)
    assert parse(payload, expiry_s=expiry_s).deadline_s == 1_000.0 + wait_s


BAD = {
    "empty": (b"", "empty question"),
    "blank": (b" \r\n\t ", "empty question"),
    "bom only": (b"\xef\xbb\xbf", "empty question"),
    "not utf-8": (b"who\xff\xfe", "not UTF-8 at byte 3"),
    "latin-1": ("wer läuft da".encode("latin-1"), "not UTF-8 at byte 5"),
    "jpeg": (b"\xff\xd8\xff\xe0\x00\x10JFIF", "not UTF-8"),
    "too many bytes": (b"x" * 4097, "mqtt.max_payload_bytes allows 4096"),
    "too many characters": (b"y" * 201, "allows 200"),
    "nul": (b"who\x00", "U+0000"),
    "escape sequence": (b"who \x1b[2J", "U+001B"),
    "half a surrogate": (b'{"question": "a\\ud800"}', "question: Input should be a valid string"),
    "broken json": (b'{"question": "who', "broken JSON"),
    "text in braces": (b"{who is there}", "must not start with {"),
    "two objects": (b'{"question":"a"}{"question":"b"}', "broken JSON"),
    "trailing comma": (b'{"question": "a",}', "broken JSON"),
    "no question": (b"{}", "`question` is missing"),
    "empty object question": (ask(question=""), "question"),
    "blank object question": (ask(question="  "), "question: empty"),
    "question null": (ask(question=None), "question:"),
    "question a number": (ask(question=7), "question:"),
    "question a list": (ask(question=["who"]), "question:"),
    "misspelt key": (ask(camera=["door"]), "unknown key 'camera'; did you mean 'cameras'?"),
    "unknown key": (ask(zzzz=1), "unknown key 'zzzz'; known: "),
    "key twice": (b'{"question": "a", "question": "b"}', "key 'question' is given twice"),
    "other version": (ask(v=2), "v:"),
    "unknown camera": (ask(cameras=["dor"]), "unknown camera 'dor'; did you mean 'door'?"),
    "unrelated camera": (ask(cameras=["xyz"]), "known: door, garage, street"),
    "cameras a text": (ask(cameras="door"), "cameras:"),
    "camera a number": (ask(cameras=[1]), "cameras:"),
    "too many cameras": (ask(cameras=["door"] * 300), "cameras:"),
    "since after until": (ask(since=20, until=10), "is after until"),
    "since not a time": (ask(since="yesterday"), "since: 'yesterday' is neither epoch seconds nor ISO 8601"),
    "since true": (ask(since=True), "since:"),
    "since negative": (ask(since=-5), "since:"),
    "since in milliseconds": (ask(since=1_763_652_163_000), "milliseconds? give seconds"),
    "until year 1": (ask(until="0001-01-01"), "until:"),
    "until nan": (b'{"question": "a", "until": NaN}', "NaN is not a number"),
    "until infinite": (b'{"question": "a", "until": -Infinity}', "-Infinity is not a number"),
    "until 1e999": (b'{"question": "a", "until": 1e999}', "until:"),
    "thousands of digits": (b'{"question": "a", "until": 1' + b"0" * 4000 + b"}", "until:"),
    "deadline zero": (ask(deadline_ms=0), "deadline_ms:"),
    "deadline negative": (ask(deadline_ms=-1), "deadline_ms:"),
    "deadline a text": (ask(deadline_ms="8000"), "deadline_ms:"),
    "deadline of a year": (ask(deadline_ms=31_536_000_000), "deadline_ms:"),
    "evidence negative": (ask(evidence=-1), "evidence:"),
    "evidence a fraction": (ask(evidence=1.5), "evidence:"),
    "evidence huge": (ask(evidence=10**6), "evidence:"),
    "stream a text": (ask(stream="yes"), "stream:"),
    "id with a slash": (ask(id="a/b"), "id: 'a/b' must be"),
    "id with a wildcard": (ask(id="#"), "id: '#' must be"),
    "id empty": (ask(id=""), "id: '' must be"),
    "id too long": (ask(id="a" * 65), "id:"),
    "id with a newline": (ask(id="a\n"), "id:"),
    "id a number": (ask(id=7), "id:"),
    "reply wildcard": (ask(reply_to="clients/+/x"), "wildcard"),
    "reply everything": (ask(reply_to="#"), "wildcard"),
    "reply to the broker": (ask(reply_to="$SYS/x"), "begin"),
    "reply elsewhere": (ask(reply_to="homeassistant/x"), "may only lie below longwatch/answer/, clients/, ha/"),
    "reply over our own state": (ask(reply_to="longwatch/available"), "may only lie below"),
    "reply as a question": (ask(reply_to="longwatch/query"), "may only lie below"),
    "reply to the bare prefix": (ask(reply_to="longwatch/answer/"), "may only lie below"),
    "reply beside a prefix": (ask(reply_to="hacked/x"), "may only lie below"),
    "reply empty": (ask(reply_to=""), "reply topic ''"),
    "reply with nul": (ask(reply_to="clients/\x00"), "control character"),
    "reply too long": (ask(reply_to="clients/" + "x" * 300), "256 bytes"),
    "deeply nested": (b'{"question": ' + b"[" * 1500 + b"]" * 1500 + b"}", "nested too deeply"),
    "nested": (b'{"question": ' + b"[" * 50 + b"]" * 50 + b"}", "question: Input should be a valid string"),
    "a thousand unknown keys": (json.dumps({f"k{i}": 0 for i in range(300)}).encode(), "unknown key 'k0'"),
    "too deeply nested": (b'{"a":' * 600 + b"1" + b"}" * 600, "`question` is missing"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_question(name: str) -> None:
    payload, expected = BAD[name]
    with pytest.raises(BadQuery) as caught:
        parse_query(payload, ARRIVAL, RULES)
    message = str(caught.value)
    assert expected in message
    assert "\n" not in message
    assert len(message) < 600
    message.encode()
    assert caught.value.query_id == "fresh"
    assert caught.value.reply_to is None


def test_recursion_limit() -> None:
    rules = Rules(TOPICS, ("door",), 1_000_000, 200, 30.0)
    with pytest.raises(BadQuery, match="nested too deeply"):
        parse_query(b'{"question": ' + b"[" * 400_000, ARRIVAL, rules)


@pytest.mark.parametrize(("topic_camera", "payload"), [("dor", b"open?"), ("door", ask(cameras=["garage"]))])
def test_bad_camera_in_the_topic(topic_camera: str, payload: bytes) -> None:
    with pytest.raises(BadQuery, match="'door'"):
        parse(payload, camera=topic_camera)


@pytest.mark.parametrize(
    "payload",
    [
        ask(id="q-7", reply_to="clients/me", cameras=["nowhere"]),
        ask(id="q-7", reply_to="clients/me", bogus=1),
        b'{"id": "q-7", "reply_to": "clients/me", "question": "who',
        b'{"question": NaN, "id": "q-7", "reply_to": "clients/me"}',
        ask(question="x" * 5000, id="q-7", reply_to="clients/me")[:0]
        + b'{"id": "q-7", "reply_to": "clients/me", "question": "'
        + b"x" * 5000
        + b'"}',
    ],
)
def test_who_asked_badly_is_still_answered(payload: bytes) -> None:
    with pytest.raises(BadQuery) as caught:
        parse_query(payload, ARRIVAL, RULES)
    assert (caught.value.query_id, caught.value.reply_to) == ("q-7", "clients/me")


def test_a_bad_reply_topic_is_never_salvaged() -> None:
    with pytest.raises(BadQuery) as caught:
        parse_query(b'{"id": "bad/id", "reply_to": "longwatch/available", "question": "who', ARRIVAL, RULES)
    assert (caught.value.query_id, caught.value.reply_to) == ("fresh", None)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300) | st.binary(max_size=200).map(lambda tail: b"{" + tail))
def test_any_bytes(payload: bytes) -> None:
    try:
        query = parse_query(payload, ARRIVAL, RULES).query
    except QueryError as error:
        str(error).encode()
    else:
        assert query.question
        assert is_id(query.id)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from(["id", "question", "cameras", "since", "until", "stream", "evidence", "deadline_ms", "reply_to"])


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(KEYS | st.text(max_size=5), JSON_VALUES, max_size=9))
def test_any_object(raw: dict[str, object]) -> None:
    try:
        query = parse_query(json.dumps(raw).encode(), ARRIVAL, RULES).query
    except QueryError as error:
        str(error).encode()
    else:
        assert query.since_s is None or math.isfinite(query.since_s)


EPOCHS = st.floats(0, MAX_EPOCH_S)
IDS = st.from_regex(r"[A-Za-z0-9_.-]{1,64}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=100).filter(
    lambda text: text.strip() == text and not text.startswith(("{", "\ufeff"))
)


@settings(max_examples=150, deadline=None)
@given(
    IDS,
    TEXTS,
    st.lists(st.sampled_from(RULES.cameras), unique=True),
    st.none() | EPOCHS,
    st.booleans(),
    st.none() | st.integers(0, 16),
)
def test_queries_round_trip(
    query_id: str, text: str, cameras: list[str], since_s: float | None, stream: bool, evidence: int | None
) -> None:
    query = Query(query_id, text, tuple(cameras), since_s, None, stream, evidence, 1_000.0, 1_008.0)
    request = parse_query(encode_query(query, "clients/me"), ARRIVAL, RULES)
    assert request.query == query
    assert request.reply_to == "clients/me"


SPANS = st.builds(Span, EPOCHS, EPOCHS, st.integers(1, 10**6))
ANSWERS = st.builds(
    Answer,
    id=IDS,
    status=st.sampled_from(["ok", "no_evidence", "busy", "expired", "error"]),
    text=st.text(st.characters(exclude_categories=["Cs"]), max_size=200),
    confidence=st.none() | st.floats(0, 1),
    evidence=st.lists(st.builds(Evidence, st.sampled_from(RULES.cameras), SPANS, st.floats(0, 1)), max_size=3).map(
        tuple
    ),
    memory_from_s=st.none() | EPOCHS,
    memory_to_s=st.none() | EPOCHS,
    newest_age_s=st.none() | st.floats(0, 1e9),
    gaps=st.lists(
        st.builds(
            Gap, st.sampled_from(RULES.cameras), EPOCHS, st.none() | EPOCHS, st.sampled_from(["frozen", "ended"])
        ),
        max_size=3,
    ).map(tuple),
    asked_s=EPOCHS,
    answered_s=EPOCHS,
    timing=st.builds(Timing, st.floats(0, 1e9), st.none() | st.floats(0, 1e9), st.floats(0, 1e9)),
    model=st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)


@settings(max_examples=150, deadline=None)
@given(ANSWERS)
def test_answers_round_trip(answer: Answer) -> None:
    payload = encode_answer(answer, TOPICS)
    assert decode_answer(payload) == answer
    json.loads(payload, parse_constant=lambda name: pytest.fail(name))


def test_the_form_of_an_answer() -> None:
    span = Span(1_763_652_100.0, 1_763_652_163.25, 9)
    answer = Answer(
        "q1",
        "ok",
        "Yes.",
        confidence=math.nan,
        evidence=(Evidence("door", span, 1.5, b"\xff\xd8", 0.9), Evidence("door", span, 0.25)),
        memory_from_s=1.0,
        memory_to_s=2.0,
        asked_to_s=1.5,
        carriers=56,
        recalled=8,
        evicted=300,
        gaps=(Gap("door", 10.0, None, "frozen"),),
        timing=Timing(1.0, None, 3.0),
        model="tiny",
    )
    wire = json.loads(encode_answer(answer, TOPICS))
    assert wire["evidence"][0] == {
        "camera": "door",
        "t": 1_763_652_163.25,
        "iso": "2025-11-20T15:22:43.250Z",
        "span": [1_763_652_100.0, 1_763_652_163.25],
        "count": 9,
        "weight": 1.0,
        "confidence": 0.9,
        "frame": "longwatch/evidence/q1/0",
    }
    assert wire["evidence"][1]["frame"] is None
    assert wire["confidence"] is None
    assert wire["memory"] == {
        "from": 1.0,
        "to": 2.0,
        "asked_from": None,
        "asked_to": 1.5,
        "carriers": 56,
        "recalled": 8,
        "evicted": 300,
        "newest_age_s": None,
        "gaps": [{"camera": "door", "since": 10.0, "until": None, "reason": "frozen"}],
    }
    assert wire["timing_ms"] == {"queue": 1.0, "first_token": None, "total": 3.0}


def test_text_that_is_not_unicode_does_not_cost_the_answer() -> None:
    assert decode_answer(encode_answer(Answer("a", "ok", "x\ud800y"), TOPICS)).text == "x?y"
    assert decode_chunk(encode_chunk("a", 0, "\udfff")).text == "?"


def test_a_reader_ignores_keys_it_does_not_know() -> None:
    payload = json.dumps({"id": "a", "status": "ok", "answer": "b", "later": 1}).encode()
    assert decode_answer(payload).text == "b"
    with pytest.raises(QueryError, match="not an answer"):
        decode_answer(b"{}")


def test_schemas_are_fresh(pytestconfig: pytest.Config) -> None:
    folder = pytestconfig.rootpath / "daemon" / "schemas"
    on_disk = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.json")}
    assert on_disk == schemas(), "stale: run `python -m daemon.wire`"
