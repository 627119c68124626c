"""Who goes first: questions, frames, all cameras evenly; deadlines that cannot be met; one forward for all answers."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace

import pytest
from torch import Tensor

from daemon.job import Sinks
from daemon.messages import Query
from memory.view import MemoryView
from stream.attention import Step
from stream.kv import Work
from stream.model.llava_onevision import LlavaOnevision
from stream.types import Carrier, Frame
from tests.daemon.driven import Bench
from tests.models import random_frames, random_model


@pytest.fixture(scope="module")
def model() -> LlavaOnevision:
    return random_model()


def test_a_passed_deadline_is_expired_and_a_full_queue_busy(model: LlavaOnevision) -> None:
    bench = Bench(model, max_queue=2)
    bench.frames(2)
    bench.ask("late", deadline_s=999.0)
    bench.ask("fine")
    bench.ask("too-many")
    bench.ask("one-more")
    assert [(answer.id, answer.status) for answer in bench.answers] == [("late", "expired"), ("one-more", "busy")]
    statuses = {answer.id: answer.status for answer in bench.settle()}
    assert statuses == {"one-more": "busy", "late": "expired", "fine": "ok", "too-many": "ok"}


def test_a_deadline_that_cannot_be_met_is_said_at_once(model: LlavaOnevision) -> None:
    """What answers took lately, times the rounds that are before it: hopeless ones do not wait in vain."""
    bench = Bench(model, max_queue=64)
    bench.frames(2)
    for number in range(8):
        bench.ask(f"learn-{number}")
        bench.engine.turn()
        bench.clock.now_s += 2.0
        bench.settle(10)
    assert [answer.status for answer in bench.answers] == ["ok"] * 8
    bench.answers.clear()
    for number in range(40):
        bench.ask(f"before-{number}")
    now_s = bench.clock.now_s
    bench.ask("hopeless", deadline_s=now_s + 5.0)
    bench.ask("fine", deadline_s=now_s + 15.0)
    (answer,) = bench.answers
    assert (answer.id, answer.status) == ("hopeless", "busy")
    assert answer.text == "40 questions are before it, about 10 s; it has 5 s"
    assert {found.status for found in bench.settle(200)} == {"busy", "ok"}


def test_a_deadline_that_passes_in_the_queue_is_said_at_the_next_turn(model: LlavaOnevision) -> None:
    bench = Bench(model, max_tokens=64, max_queue=64)
    bench.frames(2)
    for number in range(20):
        bench.ask(f"long-{number}")
    bench.ask("short", deadline_s=bench.clock.now_s + 1.0)
    bench.engine.turn()
    bench.clock.now_s += 2.0
    bench.engine.turn()
    assert [(answer.id, answer.status) for answer in bench.answers] == [("short", "expired")]


def test_all_answers_take_their_next_word_in_one_forward(
    model: LlavaOnevision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Together they say what each says alone; questions that come later join."""
    bench = Bench(model, cameras=2, max_tokens=6)
    bench.frames(5, "cam0")
    bench.frames(3, "cam1", seed=1)
    asked = {"a": {"question": "what?"}, "b": {"question": "what is red now?"}, "c": {"cameras": ("cam1",)}}
    alone = {}
    for query_id, fields in asked.items():
        bench.ask(query_id, **fields)
        alone[query_id] = bench.settle()[-1]
    sizes = []
    whole = model.forward_all
    monkeypatch.setattr(model, "forward_all", lambda steps: (sizes.append(len(steps)), whole(steps))[1])
    bench.answers.clear()
    for query_id, fields in asked.items():
        bench.ask(query_id, **fields)
        bench.engine.turn()
    together = {answer.id: answer for answer in bench.settle()}
    assert sizes[:3] == [1, 2, 3]
    assert max(sizes) == 3
    for query_id, answer in together.items():
        assert answer.text == alone[query_id].text
        assert answer.confidence == pytest.approx(alone[query_id].confidence, rel=1e-4)


def test_a_broken_forward_costs_one_question(model: LlavaOnevision, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(model)
    bench.frames(4)
    bench.ask("good")
    bench.ask("long", question="what is it " * 9)
    whole = model.forward_all

    def picky(steps: list[Step]) -> list[Tensor]:
        if any(step.embeds.shape[1] > 30 for step in steps):
            raise RuntimeError("out of memory, say")
        return whole(steps)

    monkeypatch.setattr(model, "forward_all", picky)
    assert {answer.id: answer.status for answer in bench.settle()} == {"good": "ok", "long": "error"}
    assert bench.counters.value("question_faults") == 1
    assert bench.counters.value("forward_faults") == 1


def test_overload_is_shared_evenly(model: LlavaOnevision, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch takes as many frames as patience allows; the cameras that waited longest are in it."""
    bench = Bench(model, cameras=5, patience_s=0.5)
    sizes = []
    whole = bench.encoder.absorb

    def slow(work: list[Work]) -> list[Carrier]:
        bench.clock.now_s += 0.2 * len(work)
        sizes.append(len(work))
        return whole(work)

    monkeypatch.setattr(bench.encoder, "absorb", slow)
    for number in range(20):
        for name, camera in bench.cameras.items():
            camera.mailbox.put(replace(random_frames(1, number, name)[0], index=number))
        bench.engine.notify()
        bench.engine.turn()
    assert sizes == [5] + [2] * 19
    absorbed = [camera.bank.absorbed for camera in bench.cameras.values()]
    dropped = [camera.mailbox.counts().dropped for camera in bench.cameras.values()]
    assert max(absorbed) - min(absorbed) <= 1
    assert max(dropped) - min(dropped) <= 1
    assert sum(absorbed) + sum(dropped) + sum(len(camera.mailbox) for camera in bench.cameras.values()) == 100


def test_frames_get_as_much_time_as_answers_under_a_flood(
    model: LlavaOnevision, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(model, max_tokens=64, max_queue=64)
    bench.frames(2)
    spent = {"frames": 0.0, "answers": 0.0}
    absorb, forward = bench.encoder.absorb, model.forward_all

    def slow_frame(work: list[Work]) -> list[Carrier]:
        spent["frames"] += 4.0
        bench.clock.now_s += 4.0
        return absorb(work)

    def slow_word(steps: list[Step]) -> list[Tensor]:
        spent["answers"] += 0.5
        bench.clock.now_s += 0.5
        return forward(steps)

    monkeypatch.setattr(bench.encoder, "absorb", slow_frame)
    frames = iter(random_frames(60, 0, "cam0")[2:])
    for number in range(30):
        bench.ask(f"q{number}", deadline_s=None)
    monkeypatch.setattr(model, "forward_all", lambda steps: slow_word(steps) if steps[0].mass else forward(steps))
    for _ in range(80):
        if not len(bench.cameras["cam0"].mailbox):
            bench.cameras["cam0"].mailbox.put(next(frames))
            bench.engine.notify()
        bench.engine.turn()
    assert 0.3 < spent["frames"] / (spent["frames"] + spent["answers"]) < 0.6


def test_a_deadline_passes_while_the_answer_is_written(model: LlavaOnevision) -> None:
    bench = Bench(model, max_tokens=64)
    bench.frames(2)
    bench.ask("slow", deadline_s=1001.0)
    bench.engine.turn()
    assert not bench.answers
    bench.clock.now_s = 1002.0
    assert [answer.status for answer in bench.settle(2)] == ["expired"]


def test_cameras_are_absorbed_in_one_batch(model: LlavaOnevision, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(model, cameras=3)
    sizes = []
    whole = bench.encoder.absorb
    monkeypatch.setattr(bench.encoder, "absorb", lambda work: (sizes.append(len(work)), whole(work))[1])
    for number in range(3):
        bench.cameras[f"cam{number}"].mailbox.put(random_frames(1, number, f"cam{number}")[0])
    bench.engine.notify()
    bench.engine.turn()
    assert sizes == [3]
    assert [len(camera.bank) for camera in bench.cameras.values()] == [1, 1, 1]


def test_questions_go_before_frames(model: LlavaOnevision, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(model, max_tokens=8)
    bench.frames(2)
    order: list[str] = []
    whole = bench.encoder.absorb
    monkeypatch.setattr(bench.encoder, "absorb", lambda work: (order.append("frame"), whole(work))[1])
    for frame in random_frames(4, 0, "cam0")[2:]:
        bench.cameras["cam0"].mailbox.put(frame)
    bench.engine.notify()
    query = Query(id="q", question="what?")
    bench.engine.ask(query, Sinks(lambda _text: order.append("token"), lambda _answer: order.append("answer")))
    for _ in range(20):
        bench.engine.turn()
    assert order.index("answer") < order.index("frame")


def test_frames_wait_in_the_mailbox_not_in_a_queue(model: LlavaOnevision) -> None:
    bench = Bench(model)
    frames: list[Frame] = random_frames(10, 0, "cam0")
    for frame in frames:
        bench.cameras["cam0"].mailbox.put(frame)
    bench.engine.notify()
    bench.settle(5)
    counts = bench.cameras["cam0"].mailbox.counts()
    assert (counts.taken, counts.dropped) == (2, 8)
    assert bench.cameras["cam0"].bank.frames == [8, 9]


def test_frames_wait_a_moment_for_a_search(model: LlavaOnevision, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a question waits for two batches: when it comes, and after its search. A slow disk holds nobody up."""
    bench = Bench(model)
    bench.frames(3)
    searching: Future[list[MemoryView]] = Future()
    views: list[MemoryView] = []

    def submit(given: list[MemoryView], *_rest: object) -> Future[list[MemoryView]]:
        views.extend(given)
        return searching

    monkeypatch.setattr(bench.engine._answers.recaller, "submit", submit)
    bank, mailbox = bench.cameras["cam0"].bank, bench.cameras["cam0"].mailbox
    bench.ask()
    bench.engine.turn()
    mailbox.put(random_frames(4, 0, "cam0")[3])
    bench.engine.notify()
    absorbed = []
    for step_s in (0.0, 0.06, 0.06):
        bench.clock.now_s += step_s
        bench.engine.turn()
        absorbed.append(bank.absorbed)
    assert absorbed == [3, 3, 4]
    searching.set_result(views)
    assert [answer.status for answer in bench.settle()] == ["ok"]
