"""A profile adds up, its trace is nested, and the command writes both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from daemon.profile import lines, stages, trace, write_trace
from stream.errors import LongwatchError
from stream.stages import Recorder, Timed


class Hand:
    """A clock that is set by hand."""

    now_ms = 0.0

    def __call__(self) -> int:
        return int(self.now_ms * 1e6)


def recorded() -> Recorder:
    """Two frames of 10 and 30 ms with tower and language model, and a question of 5 ms."""
    clock = Hand()
    made = Recorder(clock_ns=clock)
    for lasted_ms in (10, 30):
        with made.span("frame"):
            with made.span("tower"):
                clock.now_ms += lasted_ms / 2
            with made.span("language"):
                clock.now_ms += lasted_ms / 10
                with made.span("rotate"):
                    clock.now_ms += lasted_ms / 10
            clock.now_ms += lasted_ms * 3 / 10
    with made.span("question"):
        clock.now_ms += 5
    return made


def test_the_parts_and_what_they_leave_over_make_the_whole() -> None:
    frame, question = stages(recorded().spans)
    assert (frame.name, frame.total_ms, frame.each_ms) == ("frame", 40.0, [10.0, 30.0])
    assert {name: part.total_ms for name, part in frame.inside.items()} == {"tower": 20.0, "language": 8.0}
    assert frame.inside["language"].inside["rotate"].total_ms == 4.0
    assert (frame.other_ms, frame.inside["language"].other_ms) == (12.0, 4.0)
    assert (question.total_ms, question.other_ms, question.inside) == (5.0, 5.0, {})


def test_the_report_can_be_read_without_help() -> None:
    text = "\n".join(lines(recorded().spans, dropped=3))
    rows = {row.split()[0]: row.split()[1:] for row in text.splitlines() if row.startswith("  ")}
    assert "2 x frame (that the gate kept, taken into memory)" in text
    assert rows["frame"] == ["2", "40.0", "20.00", "30.00", "30.00", "100.0", "%"]
    assert rows["tower"] == ["2", "20.0", "10.00", "15.00", "15.00", "50.0", "%"]
    assert rows["other"] == ["12.0", "30.0", "%"]
    assert text.index("tower") < text.index("language") < text.index("rotate") < text.index("question")
    assert "3 spans" in text


def nested(events: list[dict[str, Any]]) -> None:
    """Any two events of a thread lie one in the other, or apart: what a viewer draws as a stack."""
    by_thread: dict[int, list[tuple[float, float]]] = {}
    for event in events:
        if event["ph"] == "X":
            by_thread.setdefault(event["tid"], []).append((event["ts"], event["ts"] + event["dur"]))
    for spans in by_thread.values():
        stack: list[float] = []
        for begin, end in sorted(spans, key=lambda span: (span[0], -span[1])):
            while stack and stack[-1] <= begin + 1e-3:
                stack.pop()
            assert not stack or end <= stack[-1] + 1e-3
            stack.append(end)


def test_the_trace_is_what_a_viewer_opens() -> None:
    events = trace(recorded().spans)
    assert events[0]["ph"] == "M"
    assert events[0]["args"]["name"] == "MainThread"
    assert all(event["ph"] == "X" and {"name", "ts", "dur", "pid", "tid"} <= set(event) for event in events[1:])
    assert [event["name"] for event in events[1:]] == 2 * ["frame", "tower", "language", "rotate"] + ["question"]
    assert [event["cat"] for event in events[1:]] == 8 * ["frame"] + ["question"]
    assert (events[1]["ts"], events[1]["dur"]) == (0.0, 10_000.0)
    nested(events)


def test_a_span_without_its_parent_is_no_work_of_its_own() -> None:
    lost = Timed(number=9, parent=8, name="tower", thread="engine", began_ns=0, lasted_ns=5)
    assert stages([lost]) == []
    assert list(lines([])) == []


def test_a_trace_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(LongwatchError, match="choose another --trace"):
        write_trace(tmp_path / "none" / "trace.json", [])
    write_trace(tmp_path / "trace.json", recorded().spans)
    assert len(json.loads((tmp_path / "trace.json").read_text())) == 1 + 9
