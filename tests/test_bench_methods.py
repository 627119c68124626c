"""`bench/methods.py`: equal budgets are equal, gains are paired, frontiers hold what no other beats, rows run."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stream.types import Frame
from tests.models import random_frames, random_model

NAMES = ("cost", "gate", "math", "page", "play", "result", "rows")


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    """The scripts as modules; their neighbours are found as when they are run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).resolve().parents[1] / "bench")
        modules = {name: importlib.import_module(f"methods_{name}") for name in NAMES}
        yield SimpleNamespace(**modules, main=importlib.import_module("methods"))
    torch.set_num_threads(1)


# -- arithmetic --------------------------------------------------------------------------------------------------------


def test_a_gain_counts_the_same_question_under_both(bench: Any) -> None:
    own, other = [True, False, False, True], [True, True, True, False]
    gain = bench.math.paired(own, other)
    assert (gain.points, gain.won, gain.lost) == (-25.0, 1, 2)
    assert gain.verdict == "level", "four questions prove nothing"
    assert bench.math.paired(own, own) == bench.math.Gain(0.0, 0.0, 0, 0)


def test_an_interval_is_that_of_a_mean_of_differences(bench: Any) -> None:
    gain = bench.math.paired([True] * 400, [True] * 380 + [False] * 20)
    assert gain.points == 5.0
    assert 2.0 < gain.within < 2.3  # 1.96 sqrt(0.05 * 0.95 / 400)
    assert gain.verdict == "better"
    assert bench.math.paired([False] * 20 + [True] * 380, [True] * 400).verdict == "worse"


def test_questions_that_are_not_the_same_are_no_pair(bench: Any) -> None:
    with pytest.raises(ValueError, match=r"shorter|longer"):
        bench.math.paired([True], [True, False])


def test_a_frontier_is_what_no_other_beats(bench: Any) -> None:
    rows = [("dear", 90.0, 5.0), ("best", 90.0, 4.0), ("cheap", 70.0, 1.0), ("poor", 60.0, 2.0), ("twin", 70.0, 1.0)]
    cells = [bench.math.Cell(*row) for row in rows]
    assert bench.math.frontier(cells) == ["best", "cheap", "twin"]
    assert bench.math.frontier([*cells, bench.math.Cell("unknown", None, 0.0)]) == ["best", "cheap", "twin"]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_whatever_is_not_on_the_frontier_is_beaten_by_something_that_is(
    bench: Any, points: list[tuple[int, int]]
) -> None:
    cells = [bench.math.Cell(str(place), float(right), float(ms)) for place, (right, ms) in enumerate(points)]
    front = {int(name) for name in bench.math.frontier(cells)}
    for place, (right, ms) in enumerate(points):
        beaten = [points[a] for a in front if points[a][0] >= right and points[a][1] <= ms and points[a] != (right, ms)]
        assert (place in front) == (not beaten)


def test_the_best_is_no_plain_choice(bench: Any) -> None:
    cells = [bench.math.Cell(name, right, 1.0) for name, right in (("uniform", 99.0), ("aim", 80.0), ("m3", 85.0))]
    assert bench.math.best(cells) == "m3"
    assert bench.math.best(cells[:1]) is None


@pytest.mark.parametrize("target", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("rising", [True, False])
def test_a_budget_is_matched_from_either_side(bench: Any, target: float, rising: bool) -> None:
    found = bench.math.matched(lambda x: x / 100 if rising else 1 - x / 100, 0.01, 100.0, target)
    assert abs(found / 100 - (target if rising else 1 - target)) < 0.01


def test_a_budget_out_of_reach_is_matched_as_near_as_may_be(bench: Any) -> None:
    assert bench.math.matched(lambda x: min(x, 0.4), 0.1, 1.0, 0.9) == pytest.approx(0.4, abs=0.61)
    assert bench.math.matched(lambda x: x, 0.1, 1.0, 5.0) == 1.0


# -- rows --------------------------------------------------------------------------------------------------------------


def test_every_method_of_every_stage_has_a_row(bench: Any) -> None:
    for stage in bench.rows.STAGES:
        rows = bench.rows.every(stage, "tiny", {})
        assert {row.method for row in rows} == set(bench.rows.table(stage)), stage
        assert len({row.key for row in rows}) == len(rows)
        assert rows[0].identity


def test_budgets_are_what_their_names_say(bench: Any) -> None:
    model = random_model()
    rows = {
        row.key: row for stage in ("reduce", "retain", "recall", "focus") for row in bench.rows.every(stage, "tiny", {})
    }
    cores, failed = bench.rows.prepared(rows.values(), model)
    assert not failed
    for key, core in cores.items():
        row = rows[key]
        if row.identity:
            continue
        if row.stage == "retain":
            assert core.policy.budget.carriers == int(row.budget)
        elif row.stage == "recall":
            assert core.policy.budget.carriers + core.recalled == int(row.budget), "what a question reads at most"
        elif row.stage == "focus":
            assert core.sight.room == int(row.budget)
    assert bench.rows.pooled(16) == {"frames": 4, "side": 2}
    assert bench.rows.pooled(4) == {"frames": 4, "side": 1}
    assert bench.rows.percent("70 %") == 0.7
    assert bench.rows.percent("1/8") == 0.125


def test_a_method_that_prunes_at_depths_ends_with_the_budget(bench: Any) -> None:
    method = bench.rows.kind("prefill", "uniform")
    assert bench.rows.falling(method(keep=(0.9, 0.5), depths=(0.2, 0.6)), 0.25) == {"keep": [0.5, 0.25]}


def test_gates_are_tuned_to_their_share(bench: Any) -> None:
    frames = [replace(frame, camera="street") for frame in random_frames(40)]
    for options, low, high in (({"fps": 0.5}, 0.45, 0.55), ({"fps": 1.0}, 1.0, 1.0)):
        assert low <= len(bench.gate.kept("stride", options, frames)) / len(frames) <= high


def test_a_codec_tells_every_frame_something(bench: Any) -> None:
    told = bench.gate.coded(random_frames(6))
    assert told[0].key_frame
    assert all(frame.packet_bytes > 0 for frame in told)
    assert [frame.index for frame in told] == list(range(6))


# -- running -----------------------------------------------------------------------------------------------------------


def test_a_picture_is_seen_once_for_all_rows(bench: Any) -> None:
    model = random_model()
    known, image = bench.play.Known(model, taps=(1, 2)), np.zeros((1, 96, 96, 3), np.uint8)
    first, again = known.encode(image, None, (1,))[0], known.encode(image)[0]
    assert first.feats is again.feats
    assert list(first.taps) == [1]
    assert first.taps[1] is not known.encode(image, None, (1,))[0].taps[1], "what one reader computed is not another's"
    assert torch.equal(first.feats, model.encode(image)[0].feats)


def test_rows_play_and_one_that_fails_is_named(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model()
    rows = [row for row in bench.rows.every("reduce", "tiny", {}) if row.method in ("none", "uniform", "m3")]
    cores, _ = bench.rows.prepared(rows, model)

    def broken(seen: Any) -> None:
        raise RuntimeError("no such tokens")

    monkeypatch.setattr(cores["reduce/m3@4"].encoder.reduce, "reduce", broken)
    frames: list[Frame] = random_frames(3)
    result = bench.play.play(rows, cores, frames, {})
    assert set(result.failed) == {"reduce/m3@4"}
    assert "no such tokens" in result.failed["reduce/m3@4"]
    assert result.cosines["reduce/none@all"] == pytest.approx([1.0, 1.0])
    assert result.tokens["reduce/uniform@2"] == [2, 2, 2]


def test_costs_of_every_stage_are_measured(bench: Any) -> None:
    costs = bench.cost.Costs("tiny", 2, random_model())
    for stage in ("tower", "carrier", "retain", "recall", "focus"):
        rows = [row for row in bench.rows.every(stage, "tiny", {}) if row.identity or row.method == "uniform"]
        cores, _ = bench.rows.prepared(rows, costs.plain)
        found, failed = bench.cost.measured(costs, rows, cores)
        assert not failed, failed
        assert all(cost["ms"] >= 0 for cost in found.values())
        assert found[rows[-1].key]["tokens_out"] <= found[rows[0].key]["tokens_in"] or stage == "carrier"


def test_a_summary_names_what_loses_to_the_plain_choice(bench: Any) -> None:
    rows = [row for row in bench.rows.every("retain", "tiny", {}) if row.method in ("fifo", "uniform", "adjacent")]
    played = bench.play.Result(kinds=["past"] * 200)
    for row in rows:
        hits = {"fifo": 100, "uniform": 150, "adjacent": 180}[row.method]
        played.rights[row.key] = [place < hits for place in range(200)]
    cost = {row.key: {"ms": 1.0, "tokens_in": 9.0, "tokens_out": 8.0, "bytes": 1.0, "cosine": None} for row in rows}
    found = [bench.main.Found(("play", "retain", 0), played), bench.main.Found(("cost", "retain", "tiny"), costs=cost)]
    result = bench.result.summary({"retain": rows}, {"retain": {}}, found, {"retain/x@8": "why"})
    assert result["frontier"]["retain"]["8"] == ["adjacent"]
    assert {(item["method"], item["budget"]) for item in result["beaten_by_uniform"]} == {
        ("fifo", budget) for budget in ("24", "16", "8")
    }
    assert result["frontier_beats_uniform"] == {"budgets": 3, "met": 3, "beyond_chance": 3}
    assert result["failed"] == {"retain/x@8": "why"}
    whole = result | {"streams": {}, "machine": "m", "date": "2026-01-01", "commit": "c", "processor_s": 1.0}
    text = bench.page.page(whole)
    assert "is worse than `uniform`: `fifo` (-25.0" in text
    assert "`retain/x@8`: why" in text
