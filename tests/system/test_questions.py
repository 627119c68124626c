"""Forty questions while three cameras stream, then bad ones: everyone is answered once, and the daemon lives."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.system.client import Caller
from tests.system.rig import Clips, Rig

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
CAMERAS = ("street", "road", "hall")


@pytest.fixture(scope="module")
def busy(rigs: Callable[[], Rig], clips: Clips) -> Rig:
    """Three cameras that stream."""
    rig = rigs()
    for name in CAMERAS:
        rig.camera(name, getattr(clips, name))
    rig.start(*CAMERAS)
    return rig


def check_answer(caller: Caller, topic: str, answer: Any) -> None:
    """An `ok` answer is whole: chunks, evidence, pictures."""
    assert answer["status"] == "ok", answer
    assert caller.text(topic) == answer["answer"]
    assert answer["evidence"], answer
    for item in answer["evidence"]:
        jpeg = caller.wait(item["frame"]).payload
        assert (jpeg[:2], jpeg[-2:]) == (b"\xff\xd8", b"\xff\xd9"), item["frame"]
    assert sum(item["weight"] for item in answer["evidence"]) <= 1 + 1e-6
    assert answer["memory"]["from"] <= answer["memory"]["to"]


def test_forty_questions_while_three_cameras_stream(busy: Rig) -> None:
    """In flight at once: JSON with ids, topics of cameras, plain text, MQTT 5 and 3.1.1."""
    caller = busy.caller
    for name in CAMERAS:  # there is something to say of nine seconds ago
        caller.state(name, lambda state: (state["memory_from"] or state["at"]) < state["at"] - 10.0)
    with busy.calling(version5=False) as old:
        for n in range(10):
            caller.ask(f"json-{n}", "how many cars?", wait=False, cameras=[CAMERAS[n % 3]])
            caller.publish(f"longwatch/{CAMERAS[n % 3]}/query", f"is door {n} open?", wait=False)
            caller.publish(
                "longwatch/query",
                json.dumps({"question": f"what happened {n} s ago?", "evidence": 3}),
                wait=False,
                ResponseTopic=f"longwatch/answer/v5.{n}",
                CorrelationData=bytes([n, 0, 255]),
            )
            old.ask(f"old-{n}", "who came?", wait=False, reply_to=f"longwatch/answer/desk.{n}")
        named = [caller.wait(f"longwatch/answer/json-{n}") for n in range(10)]
        five = [caller.wait(f"longwatch/answer/v5.{n}") for n in range(10)]
        three = [old.wait(f"longwatch/answer/desk.{n}") for n in range(10)]

        def plain() -> list[Any]:
            got = caller.on("longwatch/answer/+")
            return [item for item in got if len(item.topic.rpartition("/")[2]) == 16]  # ids that the daemon chose

        assert len(busy.until(lambda: len(plain()) >= 10 and plain(), "ten plain answers")) == 10

    everything = [*named, *five, *three, *plain()]
    assert len(everything) == 40
    for got in everything:
        check_answer(caller, got.topic, got.json())
    assert [got.correlation for got in five] == [bytes([n, 0, 255]) for n in range(10)]
    assert [got.json()["id"] for got in three] == [f"old-{n}" for n in range(10)]
    for n, got in enumerate(named):
        assert {item["camera"] for item in got.json()["evidence"]} == {CAMERAS[n % 3]}
    # a question to all cameras is answered with a line for each
    assert all(got.json()["answer"].count(": ") >= 3 for got in five)
    counts = Counter(got.topic for got in caller.on("longwatch/answer/+"))
    assert len(counts) == 40
    assert set(counts.values()) == {1}, "an answer came twice"


def test_every_frame_is_accounted_for(busy: Rig) -> None:
    since = busy.caller.mark()
    for name in CAMERAS:
        state = busy.caller.state(name, since=since)
        assert state["frames_in"] > 0
        assert state["frames_in"] == state["frames_kept"] + state["frames_skipped"] + state["frames_dropped"], state
        assert state["fps"] > 0
        jpeg = busy.caller.wait(f"longwatch/{name}/snapshot").payload
        assert jpeg[:2] == b"\xff\xd8"
    status = busy.caller.wait("longwatch/status", since=since).json()
    assert (status["cameras_online"], status["cameras_total"]) == (3, 3)


BAD = [
    (b"\xff\xfe", "not UTF-8"),
    (b"", "empty question"),
    (b"   ", "empty question"),
    (b'{"question": ', "broken JSON at line 1"),
    (b"x" * 1_000_000, "1000000 bytes"),
    (b'{"question": "who?", "cameras": ["stret"]}', "did you mean 'street'?"),
    (b'{"question": "who?", "since": 2000, "until": 1000}', "is after until"),
    (b'{"question": "who?", "reply_to": "longwatch/answer/#"}', "wildcard"),
    (b'{"question": "who?", "reply_to": "longwatch/available"}', "may only lie below"),
    (b'{"question": "who?", "sinse": 1}', "did you mean 'since'?"),
    (b'{"question": ["who?"]}', "question"),
]


@pytest.mark.parametrize(("payload", "problem"), BAD, ids=[problem for _, problem in BAD])
def test_a_bad_question_is_told_what_is_wrong(busy: Rig, payload: bytes, problem: str) -> None:
    caller, since = busy.caller, busy.caller.mark()
    caller.publish("longwatch/query", payload)
    answer = caller.wait("longwatch/answer/+", since=since).json()
    assert answer["status"] == "error"
    assert problem in answer["answer"]
    assert "\n" not in answer["answer"]


def test_a_question_to_a_camera_that_is_not_there(busy: Rig) -> None:
    caller, since = busy.caller, busy.caller.mark()
    caller.publish("longwatch/garden/query", "who?")
    assert "unknown camera 'garden'" in caller.wait("longwatch/answer/+", since=since).json()["answer"]


def test_a_retained_question_is_refused_at_the_next_start_of_a_session(busy: Rig) -> None:
    """The live delivery of a retained publish is an ordinary message; only what the broker kept is old."""
    caller = busy.caller
    caller.publish("longwatch/query", json.dumps({"id": "kept", "question": "who?"}), retain=True)
    assert caller.answer("kept")["status"] == "ok"
    caller.publish("longwatch/query", b"", retain=True)  # clearing it is an empty question to who is subscribed


def test_after_all_that_it_still_answers(busy: Rig) -> None:
    busy.caller.ask("still-there")
    check_answer(busy.caller, "longwatch/answer/still-there", busy.caller.answer("still-there"))
    assert busy.daemon is not None
    assert busy.daemon.alive
    assert "Traceback" not in busy.daemon.log()
    assert "question not taken" not in busy.daemon.log()
