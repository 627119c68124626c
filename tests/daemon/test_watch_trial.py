"""A standing question over a recording: what it finds is told as it is played, and measured against what is so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from daemon.watch.trial import Found, score, truth
from stream.errors import ConfigError


def found(kind: str, told_s: float, start_s: float, end_s: float | None = None) -> Found:
    return Found("it", kind, told_s, start_s, end_s, 0.9)


def test_what_is_right_and_what_is_missed() -> None:
    told = [
        found("new", 12, 10),
        found("end", 22, 10, 20),
        found("new", 60, 58),
        found("end", 66, 58, 65),
        found("new", 104, 102),
    ]
    own = score(told, [(10, 20), (30, 40), (101, 120)], 1800)
    assert (own.events, own.spans) == (3, 3)
    assert own.precision == pytest.approx(2 / 3)
    assert own.recall == pytest.approx(2 / 3)
    assert own.median_delay_s == pytest.approx(2.5)
    assert own.false_alarms_per_hour == pytest.approx(2.0)


def test_two_events_of_one_span_are_both_right_and_one_event_may_hit_two() -> None:
    twice = [found("new", 11, 10), found("end", 13, 10, 12), found("new", 16, 15), found("end", 20, 15, 19)]
    assert score(twice, [(10, 20)], 60).precision == 1.0
    assert score([found("new", 11, 10), found("end", 41, 10, 40)], [(10, 20), (30, 40)], 60).recall == 1.0


def test_what_nobody_can_say_is_neither_right_nor_false() -> None:
    told = [found("new", 11, 10), found("end", 13, 10, 12), found("new", 31, 30), found("new", 51, 50)]
    own = score([*told, found("end", 33, 30, 32)], [(10, 12)], 3600, unsure=[(29, 31)])
    assert (own.events, own.precision, own.false_alarms_per_hour) == (2, 0.5, 1.0)


def test_nothing_to_measure_is_none() -> None:
    own = score([], [], 0.0)
    assert (own.precision, own.recall, own.median_delay_s, own.false_alarms_per_hour) == (None, None, None, None)


def test_truth_is_read_in_order(tmp_path: Path) -> None:
    path = tmp_path / "truth.json"
    path.write_text(json.dumps({"spans": [[5, 6], [1, 2.5]]}))
    assert truth(path) == [(1.0, 2.5), (5.0, 6.0)]


@pytest.mark.parametrize("text", ["", "[]", '{"spans": [[1]]}', '{"spans": [[3, 2]]}', '{"spans": [["a", 2]]}', "{}"])
def test_a_bad_truth_names_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "truth.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"truth\.json"):
        truth(path)
