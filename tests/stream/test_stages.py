"""The stopwatch: spans nest per thread, nothing is kept beyond the limit, and off it does nothing."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import pytest

from stream.stages import OFF, Recorder


def ticking() -> Recorder:
    """A recorder whose clock goes on by one nanosecond each time it is read."""
    return Recorder(clock_ns=itertools.count().__next__)


def test_spans_nest_and_know_their_parents() -> None:
    made = ticking()
    with made.span("frame"):
        with made.span("tower"):
            pass
        made.note("jpeg", 1, 1)
    with made.span("question"):
        pass
    tower, jpeg, frame, question = made.spans
    assert [item.name for item in made.spans] == ["tower", "jpeg", "frame", "question"]
    assert tower.parent == jpeg.parent == frame.number
    assert frame.parent is question.parent is None
    assert frame.began_ns < tower.began_ns
    assert tower.lasted_ns < frame.lasted_ns


def test_a_span_that_raises_is_measured_and_closed() -> None:
    made = ticking()
    with pytest.raises(KeyError), made.span("frame"):
        raise KeyError
    with made.span("next"):
        pass
    assert [(item.name, item.parent) for item in made.spans] == [("frame", None), ("next", None)]


def test_every_step_of_an_iterator_is_measured_and_the_items_pass() -> None:
    made = ticking()
    assert list(made.steps("decode", [1, None, 3])) == [1, None, 3]
    assert [item.name for item in made.spans] == ["decode"] * 3
    assert list(OFF.steps("decode", [1, None, 3])) == [1, None, 3]


def test_an_iterator_that_breaks_leaves_nothing_open() -> None:
    made = ticking()

    def broken() -> Iterator[int]:
        yield 1
        raise KeyError

    with pytest.raises(KeyError):
        list(made.steps("decode", broken()))
    with made.span("next"):
        pass
    assert [(item.name, item.parent) for item in made.spans] == [("decode", None), ("next", None)]


def test_threads_do_not_mix() -> None:
    made = Recorder()

    def search() -> None:
        with made.span("search"):
            pass

    with made.span("frame"):
        worker = threading.Thread(target=search, name="recall")
        worker.start()
        worker.join()
        with made.span("tower"):
            pass
    found = {item.name: item for item in made.spans}
    assert found["tower"].parent == found["frame"].number
    assert found["search"].parent is None
    assert found["search"].thread == "recall"


def test_no_more_than_the_limit_is_kept() -> None:
    made = Recorder(limit=2)
    for name in "abc":
        made.note(name, 0, 0)
    assert [item.name for item in made.spans] == ["a", "b"]
    assert made.dropped == 1
    with pytest.raises(ValueError, match="limit 0"):
        Recorder(limit=0)


def test_queued_work_is_settled_before_a_span_ends() -> None:
    settled: list[str] = []
    made = Recorder(settle=lambda: settled.append("now"))
    with made.span("tower"):
        assert settled == []
    assert settled == ["now"]


def test_off_measures_nothing() -> None:
    with OFF.span("frame"), OFF.span("tower"):
        OFF.note("jpeg", 0, 1)
