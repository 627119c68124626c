"""The diary in the engine: lines of what happened, once each, never before a question, a frame or a call."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from daemon.diary.finder import Finder
from daemon.diary.scribe import POLL_S, UNCLEAR, Scribe
from daemon.diary.spec import DiarySettings
from memory.archive import Line
from memory.archive.diary import lines
from memory.recall.search import How, Limits
from stream.model.llava_onevision import LlavaOnevision
from tests.daemon.recalling import T0, WAIT_S, Watch, small_model, watching

QUIET_S = 100.0


@pytest.fixture(scope="module")
def model() -> LlavaOnevision:
    return small_model()


class Diary:
    """A watch with a diary, one turn at a time."""

    def __init__(self, watch: Watch, threads: ThreadPoolExecutor, **options: Any) -> None:
        self.watch, self.threads = watch, threads
        self.reader = watch.archive.reader()
        self.told: list[Line] = []
        self.settings = DiarySettings(**{"share": 1.0, "max_tokens": 3, **options})
        self.scribe = self.begin()

    def begin(self) -> Scribe:
        """As at a start: nothing is known but what the archive holds."""
        watch, positions = self.watch, self.watch.bank().policy.positions

        def tell(line: Line) -> bool:
            self.told.append(line)
            return watch.archive.tell(line)

        engine = watch.engine
        finder = Finder(self.reader, How(positions, Limits(8)))
        self.scribe = engine.writing = Scribe(
            watch.model,
            positions,
            finder,
            self.threads,
            self.settings,
            engine._answers.settings,
            engine.outlook,
            watch.counters,
            tell,
        )
        return self.scribe

    def event(self, frames: int = 3) -> None:
        """Something happens, and then nothing for long enough."""
        self.watch.clock.now_s += QUIET_S
        self.watch.watch(frames)
        self.watch.clock.now_s += QUIET_S

    def stop(self) -> None:
        """Nothing is written until `begin`."""
        self.watch.engine.writing = None

    def settle(self) -> None:
        """Turn until nothing is to be written any more."""
        end_s = time.monotonic() + WAIT_S
        quiet = 0
        while quiet < 3:
            assert time.monotonic() < end_s, "it does not end"
            self.watch.clock.now_s += POLL_S
            for _ in range(8):
                self.watch.engine.turn()
                self.threads.submit(int).result()  # what was asked of the thread is done
            quiet = 0 if self.scribe.waiting or self.scribe._job else quiet + 1
        assert self.watch.archive.flush(WAIT_S)

    def lines(self, **how: Any) -> list[Line]:
        return lines(self.reader, **how)


@contextmanager
def diary(model: LlavaOnevision, folder: Path, cameras: int = 1, **options: Any) -> Iterator[Diary]:
    with watching(model, folder, cameras=cameras) as watch:
        threads = ThreadPoolExecutor(1, "diary")
        kept = Diary(watch, threads, **options)
        try:
            yield kept
        finally:
            threads.shutdown()
            kept.reader.close()


def test_each_event_has_one_line_with_its_time(model: LlavaOnevision, tmp_path: Path) -> None:
    with diary(model, tmp_path, cameras=2) as kept:
        begins = []
        for frames in (1, 4, 2):
            kept.event(frames)
            begins.append((kept.watch.clock.now_s - QUIET_S - frames + 1, float(frames - 1)))
        kept.settle()
        for camera in ("cam0", "cam1"):
            found = kept.lines(camera=camera)
            assert [(line.first_s, line.last_s - line.first_s) for line in found] == begins
            assert all(line.kind == "event" and line.text and line.model for line in found)
        assert kept.watch.counters.value("diary_lines") == 6
        kept.settle()
        assert len(kept.told) == 6, "none is told twice"


def test_a_restart_anywhere_gives_the_same_lines(model: LlavaOnevision, tmp_path: Path) -> None:
    def run(folder: Path, restarts: tuple[int, ...]) -> list[tuple[float, float, str]]:
        with diary(model, folder) as kept:
            for number in range(4):
                kept.event(2)
                for turn in range(12):
                    kept.watch.clock.now_s += POLL_S
                    kept.watch.engine.turn()
                    kept.threads.submit(int).result()
                    if 12 * number + turn in restarts:
                        kept.begin()
            kept.settle()
            return [(line.first_s, line.last_s, line.text) for line in kept.lines()]

    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    whole = run(tmp_path / "whole", ())
    assert len(whole) == 4
    assert run(tmp_path / "cut", (3, 5, 6, 14, 15, 17, 29, 40, 41)) == whole


def test_a_question_never_waits_for_more_than_the_forward_that_runs(
    model: LlavaOnevision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with diary(model, tmp_path, max_tokens=40) as kept:
        for _ in range(3):
            kept.event(3)
        engine, forwards, wrote = kept.watch.engine, [0], []
        forward, turn = model.forward_all, kept.scribe.turn

        def counted(steps: Any) -> Any:
            forwards[0] += 1
            return forward(steps)

        def writes(banks: Any) -> None:
            before = forwards[0]
            turn(banks)
            wrote.append((engine.queued, forwards[0] - before))

        monkeypatch.setattr(model, "forward_all", counted)
        monkeypatch.setattr(kept.scribe, "turn", writes)
        for number in range(12):  # in whatever state the diary is
            for _ in range(number):
                kept.watch.clock.now_s += POLL_S
                engine.turn()
                kept.threads.submit(int).result()
            kept.watch.ask()
            seen = len(wrote)
            while engine.queued:
                before = len(wrote)
                engine.turn()
                assert not engine.queued or len(wrote) == before, "not while a question is on its way"
            assert len(wrote) <= seen + 1
        assert all(queued == 0 and made <= 1 for queued, made in wrote)
        assert sum(made for _, made in wrote) > 10, "it was written meanwhile"
        kept.settle()
        assert len(kept.lines()) == 3


def test_frames_go_first_and_a_line_goes_on_afterwards(model: LlavaOnevision, tmp_path: Path) -> None:
    with diary(model, tmp_path) as kept:
        kept.event()
        while kept.scribe._job is None or kept.scribe._job.session is None:
            kept.watch.clock.now_s += POLL_S
            kept.watch.engine.turn()
            kept.threads.submit(int).result()
        session = kept.scribe._job.session
        kept.watch.engine._frames = True
        assert not kept.watch.engine._nobody_waits
        kept.watch.engine.turn()
        assert kept.scribe._job is None or kept.scribe._job.session is session
        kept.settle()
        assert len(kept.lines()) == 1


def test_no_more_than_its_share(model: LlavaOnevision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with diary(model, tmp_path, share=0.25) as kept:
        forward, spent_s = model.forward_all, [0.0]

        def slow(steps: Any) -> Any:
            kept.watch.clock.now_s += 2.0
            spent_s[0] += 2.0
            return forward(steps)

        for _ in range(5):
            kept.event(2)
        monkeypatch.setattr(model, "forward_all", slow)
        began_s = kept.watch.clock.now_s
        while kept.watch.clock.now_s < began_s + 400:
            kept.watch.clock.now_s += 0.5
            kept.watch.engine.turn()
            kept.threads.submit(int).result()
        assert 20 <= spent_s[0] <= 0.25 * 400 + 4
        assert kept.lines()


def test_what_cannot_be_written_in_time_is_counted_and_said(model: LlavaOnevision, tmp_path: Path) -> None:
    with diary(model, tmp_path, backlog=4) as kept:
        kept.stop()
        for _ in range(11):
            kept.event(1)
        kept.begin()
        kept.settle()
        found = kept.lines()
        assert [line.kind for line in found] == ["missed", "event", "event"]
        assert found[0].text == "9 events could not be described"
        assert found[0].last_s - found[0].first_s > 8 * QUIET_S
        assert kept.watch.counters.value("diary_missed") == 9
        kept.begin()
        kept.settle()
        assert len(kept.lines()) == 3


def test_a_fault_costs_one_line(model: LlavaOnevision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with diary(model, tmp_path) as kept:
        for _ in range(3):
            kept.event(1)
        forward, broken = model.forward_all, [True]

        def breaks(steps: Any) -> Any:
            if broken.pop() if broken else False:
                raise RuntimeError("out of memory, say")
            return forward(steps)

        monkeypatch.setattr(model, "forward_all", breaks)
        kept.settle()
        assert [line.kind for line in kept.lines()] == ["missed", "event", "event"]
        assert kept.watch.counters.value("diary_faults") == 1
        kept.watch.ask()
        assert kept.watch.settle()[-1].status == "ok"


def test_a_line_that_is_being_written_when_its_time_is_erased_is_not(model: LlavaOnevision, tmp_path: Path) -> None:
    with diary(model, tmp_path) as kept:
        kept.event(2)
        kept.event(2)
        while kept.scribe._job is None or kept.scribe._job.session is None:
            kept.watch.clock.now_s += POLL_S
            kept.watch.engine.turn()
            kept.threads.submit(int).result()
        span = kept.scribe._job.span
        kept.watch.archive.forget(None, span.first_s, span.last_s).result(WAIT_S)
        kept.settle()
        assert len(kept.lines()) == 1
        assert kept.lines()[0].first_s > span.last_s
        assert kept.scribe.waiting == 0


def test_nothing_is_written_where_it_is_switched_off(model: LlavaOnevision, tmp_path: Path) -> None:
    with diary(model, tmp_path, enabled=False) as kept:
        kept.event()
        kept.settle()
        assert kept.told == []
        assert not kept.scribe.due
        kept.scribe.settings = kept.settings.model_copy(update={"enabled": True})
        kept.settle()
        assert len(kept.lines()) == 1


def test_an_answer_that_says_nothing_is_not_invented_upon(
    model: LlavaOnevision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.session.Session.text", lambda *_: " Nothing. ")
    with diary(model, tmp_path) as kept:
        kept.event()
        kept.settle()
        (line,) = kept.lines()
        assert (line.text, line.confidence) == (UNCLEAR, None)


def test_a_day_that_is_over_gets_its_line_when_all_is_told(model: LlavaOnevision, tmp_path: Path) -> None:
    with diary(model, tmp_path, backlog=500) as kept:
        for _ in range(5):
            kept.event(1)
        kept.settle()
        assert [line.kind for line in kept.lines()] == ["event"] * 5
        kept.watch.clock.now_s += 86_400
        kept.event(1)
        for _ in range(2):
            kept.begin()
            kept.settle()
        (day,) = [line for line in kept.lines() if line.kind == "day"]
        assert day.text.startswith("5 events from 10:01 to 10:")
        assert (day.first_s, day.last_s) == (T0 - 36_000, T0 - 36_000 + 86_400)
        assert kept.lines(words="events") == [day]


def test_frames_from_before_the_diary_are_left_alone(model: LlavaOnevision, tmp_path: Path) -> None:
    with diary(model, tmp_path) as kept:
        kept.stop()
        kept.event(2)
        kept.watch.clock.now_s += 4000
        kept.event(2)
        kept.begin()
        kept.settle()
        assert len(kept.lines()) == 1
        assert kept.lines()[0].first_s > T0 + 4000


def test_the_view_is_of_the_span_alone(model: LlavaOnevision, tmp_path: Path) -> None:
    with diary(model, tmp_path) as kept:
        kept.stop()
        for _ in range(3):
            kept.event(3)
        found = kept.scribe._finder.poll(["cam0"], kept.watch.clock.now_s, kept.settings, kept.scribe.answer.speech)
        span = found.spans[1]
        fork = kept.watch.bank().fork(span.first_s, span.last_s, span.last_s)
        view = kept.scribe._finder.view(fork, "what?", span)
        assert len(view.moments) == 3
        assert all(span.first_s <= moment.span.first_s <= span.last_s for moment in view.moments)
        gone = replace(span, first_s=1.0, last_s=2.0)
        assert not kept.scribe._finder.view(kept.watch.bank().fork(1.0, 2.0, 2.0), "what?", gone)
