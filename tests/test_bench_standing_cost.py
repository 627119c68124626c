"""`bench/standing_cost.py`: as many different questions as it says, and a table that adds up."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.models import random_model


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    """The script as a module; its neighbours are found as when it is run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).resolve().parents[1] / "bench")
        yield importlib.import_module("standing_cost")


def test_a_hundred_questions_differ_and_the_ten_are_some_of_them(bench: Any) -> None:
    assert len(set(bench.hundred())) == len(bench.hundred()) == 100
    assert len(bench.ten()) == 10
    assert set(bench.questions(1)) < set(bench.ten()) < set(bench.hundred())


def test_ratios_are_of_medians(bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    took = {"absorb": 5.0, "fork": 1.0, "1": 10.0, "10": 20.0, "100": 60.0}
    took |= {"pepe 10": 30.0, "pepe 100": 120.0, "each 10": 50.0, "each 100": 500.0}
    found = {
        name: [bench.Took(ms, 2 * ms), bench.Took(ms, 2 * ms), bench.Took(900.0, 1.0)] for name, ms in took.items()
    }
    yard = SimpleNamespace(core=SimpleNamespace(model=random_model()), banks={"cam0": None})
    result = bench.summary(found, yard)
    assert (result["ratio"], result["ratio_each"], result["ratio_round"]) == (3.0, 10.0, 2.6)
    assert (result["ratio_pepe"], result["rules"]) == (4.0, "prompt_cache")
    assert result["fixed_share"] == {"10": 0.5, "100": 0.17}
    bench.show(result)
    assert "3.00" in capsys.readouterr().out
