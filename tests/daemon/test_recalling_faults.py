"""Disks that are slow, broken or gone: the watching goes on, the bank answers, and nothing is left behind."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from daemon.answering import SEARCH_S
from daemon.job import Sinks
from daemon.messages import Answer, Query
from stream.model.llava_onevision import LlavaOnevision
from tests.daemon.recalling import T0, WAIT_S, BrokenReader, SlowReader, Watch, small_model, watching


@pytest.fixture(scope="module")
def model() -> LlavaOnevision:
    return small_model()


def searching(watch: Watch) -> SlowReader:
    """Ask about the past, and turn until the reader stands still in the middle of it."""
    reader = watch.reader
    assert isinstance(reader, SlowReader)
    for _ in range(5):
        watch.engine.turn()
    assert reader.begun.wait(WAIT_S)
    assert not watch.answers
    return reader


def test_a_slow_disk_stops_no_frame_and_the_bank_answers_in_the_end(model: LlavaOnevision, tmp_path: Path) -> None:
    with watching(model, tmp_path, SlowReader) as watch:
        watch.watch(9)
        for _ in range(2):
            watch.ask("what passed first?", evidence=8)
        reader = searching(watch)
        now_s = watch.clock.now_s
        watch.watch(3, 0.5)
        watch.engine.turn()  # the first one had to wait a moment
        assert watch.bank().newest_frame == 11, "frames went on while the disk was waited for"
        assert not watch.answers
        watch.clock.now_s = now_s + SEARCH_S + 0.1
        slow = watch.settle()
        assert [answer.status for answer in slow] == ["ok", "ok"]
        for answer in slow:
            assert (answer.carriers, answer.recalled) == (4, 0)
            assert [item.span.first_s for item in sorted(answer.evidence, key=lambda item: item.span.first_s)] == [
                T0 + frame for frame in (5, 6, 7, 8)
            ], "as the bank was when the question came"
        assert watch.counters.value("recall_timeouts") == 2
        reader.go.set()
        later = watch.answer("what passed first?")
        assert later.recalled == 4, "the disk is back"
        assert reader.searches == 2, "nobody waited any more for the second: it was not searched for"


def test_a_deadline_passes_while_the_archive_is_searched(model: LlavaOnevision, tmp_path: Path) -> None:
    with watching(model, tmp_path, SlowReader) as watch:
        watch.watch(9)
        for _ in range(2):
            watch.ask("what passed first?", deadline_s=watch.clock.now_s + 2.0)
        reader = searching(watch)
        watch.clock.now_s += 2.1
        assert {answer.status for answer in watch.settle()} == {"expired"}
        assert watch.engine.queued == 0
        reader.go.set()
        assert watch.answer("what passed first?").recalled == 4
        assert reader.searches == 2


def test_a_reader_that_raises_costs_the_archive_and_not_the_answer(model: LlavaOnevision, tmp_path: Path) -> None:
    with watching(model, tmp_path, BrokenReader) as watch:
        watch.watch(9)
        answer = watch.answer("what passed first?")
        assert (answer.status, answer.carriers, answer.recalled) == ("ok", 4, 0)
        assert watch.counters.value("recall_faults") == 1
        assert watch.counters.value("question_faults") == 0


@pytest.mark.parametrize("content", [None, b"", b"no database at all " * 500])
def test_an_archive_that_cannot_be_opened_is_counted_and_the_bank_answers(
    model: LlavaOnevision, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "other.sqlite"
    if content is not None:
        path.write_bytes(content)
    with watching(model, tmp_path, path=path) as watch:
        watch.watch(9)
        answer = watch.answer("what passed first?", since_s=T0 + 6.0)
        assert (answer.status, answer.carriers, answer.recalled) == ("ok", 3, 0)
        assert (answer.memory_from_s, answer.memory_to_s) == (T0 + 5.0, T0 + 8.0)
        assert watch.counters.value("recall_faults") == 1
    if content is not None:
        assert path.read_bytes() == content, "a reader changes nothing"


def test_the_thread_answers_at_once_when_a_search_is_done_and_stops_while_one_runs(
    model: LlavaOnevision, tmp_path: Path
) -> None:
    with watching(model, tmp_path, SlowReader) as watch:
        watch.watch(9)
        found: list[Answer] = []
        answered = threading.Event()
        sinks = Sinks(lambda _text: None, lambda item: (found.append(item), answered.set()))
        watch.engine.start()
        watch.engine.ask(Query(id="q", question="what passed first?"), sinks)
        assert isinstance(watch.reader, SlowReader)
        assert watch.reader.begun.wait(WAIT_S)
        began_s = time.process_time()
        time.sleep(0.5)
        assert time.process_time() - began_s < 0.25, "it sleeps while the disk is waited for"
        stopped: list[bool] = []
        stopper = threading.Thread(target=lambda: stopped.append(watch.engine.stop(WAIT_S)))
        stopper.start()
        watch.reader.go.set()
        assert answered.wait(WAIT_S)
        stopper.join(WAIT_S)
        assert stopped == [True]
        assert (found[0].status, found[0].recalled) == ("ok", 4), "what was asked is answered first"


def test_a_full_house_that_waits_for_the_disk_does_not_spin(model: LlavaOnevision, tmp_path: Path) -> None:
    with watching(model, tmp_path, SlowReader) as watch:
        watch.watch(9)
        for _ in range(20):
            watch.ask("what passed first?")
        searching(watch)
        assert not watch.engine._answers.busy, "more wait, but none can be opened"
        assert isinstance(watch.reader, SlowReader)
        watch.reader.go.set()
        assert len(watch.settle()) == 20
