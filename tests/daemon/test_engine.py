"""The engine with the real (untrained) network: who is answered when, with what, and that nothing ends it."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from daemon.gaps import GapLog
from daemon.job import Sinks
from daemon.messages import Answer, Query
from stream.model.llava_onevision import LlavaOnevision
from tests.daemon.driven import Bench
from tests.memory.test_bank import state
from tests.models import random_frames, random_model

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")


@pytest.fixture(scope="module")
def model() -> LlavaOnevision:
    return random_model()


def test_a_question_is_answered_with_evidence_and_timing(model: LlavaOnevision) -> None:
    bench = Bench(model)
    bench.frames(9)
    bench.ask(evidence=3)
    (answer,) = bench.settle()
    assert answer.status == "ok"
    assert answer.confidence is not None
    assert len(answer.evidence) == 3
    weights = [item.weight for item in answer.evidence]
    assert weights == sorted(weights, reverse=True)
    assert all(item.camera == "cam0" for item in answer.evidence)
    assert (answer.memory_from_s, answer.memory_to_s) == (1000.0, 1008.0), "spans are extended, not lost"
    assert answer.timing.first_token_ms is not None
    assert "".join(text for _, text in bench.chunks) == answer.text


def test_asking_changes_nothing_and_twice_is_the_same(model: LlavaOnevision) -> None:
    """DESIGN rule 3, through the whole engine."""
    bench = Bench(model)
    bench.frames(9)
    before = state(bench.cameras["cam0"].bank)
    for number in range(20):
        bench.ask(f"q{number}", since_s=1003.0 if number % 2 else None)
    answers = bench.settle(80)
    assert state(bench.cameras["cam0"].bank) == before
    assert len(answers) == 20
    assert len({(answer.text, answer.confidence, answer.evidence) for answer in answers}) == 2


def test_nothing_seen_is_no_evidence(model: LlavaOnevision) -> None:
    bench = Bench(model)
    bench.ask("early")
    bench.frames(3)
    bench.ask("elsewhere", since_s=1.0, until_s=2.0)
    early, elsewhere = bench.settle()
    assert (early.status, early.text) == ("no_evidence", "camera cam0 has not been seen yet")
    assert (elsewhere.status, elsewhere.text) == ("no_evidence", "nothing is remembered of that time")
    assert not early.evidence
    assert elsewhere.memory_from_s == 1000.0


def test_a_question_that_does_not_fit_is_an_error(model: LlavaOnevision) -> None:
    bench = Bench(model)
    bench.frames(2)
    bench.ask("long", question="x " * 3000)
    (answer,) = bench.settle()
    assert answer.status == "error"
    assert "tokens, at most" in answer.text


def test_several_cameras_are_named_in_the_answer(model: LlavaOnevision) -> None:
    bench = Bench(model, cameras=3)
    for number in (0, 2):
        bench.frames(4, f"cam{number}", seed=number)
    bench.ask("all")
    bench.ask("one", cameras=("cam2",))
    answers = {answer.id: answer for answer in bench.settle()}
    lines = answers["all"].text.splitlines()
    assert [line.split(":")[0] for line in lines] == ["cam0", "cam2", "cam1"], (
        "the one that could not be asked comes last"
    )
    assert lines[-1] == "cam1: camera cam1 has not been seen yet"
    assert lines[1].strip() == f"cam2: {answers['one'].text}".strip()
    assert "".join(text for name, text in bench.chunks if name == "all") == answers["all"].text


def test_gaps_inside_the_asked_range_are_named(model: LlavaOnevision) -> None:
    gaps = GapLog()
    gaps.down("cam0", 900.0, "frozen")
    gaps.up("cam0", 950.0)
    gaps.down("cam0", 990.0, "ended")
    gaps.down("cam0", 992.0, "refused")
    bench = Bench(model, gaps=gaps)
    bench.frames(2)
    bench.ask("all")
    bench.ask("late", since_s=960.0)
    every, late = (answer.gaps for answer in bench.settle())
    assert [(gap.since_s, gap.until_s, gap.reason) for gap in every] == [
        (900.0, 950.0, "frozen"),
        (990.0, None, "refused"),
    ]
    assert [gap.since_s for gap in late] == [990.0]


def test_a_fault_of_one_question_does_not_reach_the_others(
    model: LlavaOnevision, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(model)
    bench.frames(2)
    good = model.question_ids

    def bad(question: str) -> list[int]:
        if question == "boom":
            raise RuntimeError("out of memory, say")
        return good(question)

    monkeypatch.setattr(model, "question_ids", bad)
    bench.ask("bad", question="boom")
    bench.ask("good")
    assert {answer.id: answer.status for answer in bench.settle()} == {"bad": "error", "good": "ok"}
    assert bench.counters.value("question_faults") == 1


def test_the_thread_survives_a_broken_frame_and_stops_cleanly(model: LlavaOnevision) -> None:
    bench = Bench(model)
    engine = bench.engine
    answered = threading.Event()
    engine.start()
    good = random_frames(3, 0, "cam0")
    mailbox = bench.cameras["cam0"].mailbox
    mailbox.put(replace(good[0], image=good[0].image[:5]))  # a wrong size: our own bug, say
    engine.notify()
    for _ in range(600):  # half a minute: a traceback takes its time on a busy machine
        if bench.counters.value("engine_faults"):
            break
        threading.Event().wait(0.05)
    mailbox.put(good[1])
    engine.notify()
    for _ in range(600):
        if len(bench.cameras["cam0"].bank):
            break
        threading.Event().wait(0.05)
    found: list[Answer] = []
    engine.ask(
        Query(id="q", question="what?"), Sinks(lambda _t: None, lambda item: (found.append(item), answered.set()))
    )
    assert answered.wait(20)
    assert found[0].status == "ok"
    assert bench.counters.value("engine_faults") == 1
    assert engine.stop(20)
    engine.ask(Query(id="late", question="what?"), Sinks(lambda _t: None, found.append))
    assert (found[1].status, found[1].text) == ("busy", "stopping")


def test_a_still_camera_keeps_its_newest_span_growing(model: LlavaOnevision) -> None:
    bench = Bench(model)
    bench.frames(1)
    bench.newest["cam0"] = 1060.0
    bench.engine.turn()
    assert bench.cameras["cam0"].bank.spans[-1].last_s == 1060.0


def test_exchanged_cameras_keep_their_memory(model: LlavaOnevision) -> None:
    bench = Bench(model, cameras=2)
    bench.frames(3, "cam1")
    bench.engine.exchange({"cam1": bench.cameras["cam1"]})
    bench.ask("q")
    (answer,) = bench.settle()
    assert answer.status == "ok"
    assert list(bench.engine.snapshot()) == ["cam1"]
    assert bench.engine.snapshot()["cam1"][0] == 3


def test_a_camera_that_left_is_not_answered_with_what_others_saw(model: LlavaOnevision) -> None:
    bench = Bench(model, cameras=2)
    bench.frames(2, "cam0")
    bench.frames(2, "cam1")
    bench.ask("q", cameras=("cam1",))
    bench.engine.exchange({"cam0": bench.cameras["cam0"]})  # while the question waits
    (answer,) = bench.settle()
    assert (answer.status, answer.evidence) == ("no_evidence", ())


def test_frames_of_a_replaced_reader_are_passed_over(model: LlavaOnevision) -> None:
    bench = Bench(model)
    bench.frames(4)
    bench.cameras["cam0"].mailbox.put(random_frames(3, 0, "cam0")[2])
    bench.engine.notify()
    bench.settle(2)
    assert bench.cameras["cam0"].bank.frames == [0, 1, 2, 3]
    assert bench.counters.value("frames_stale") == 1
