"""One loop over every method of every stage: the promises that all of them make, and one golden value each.

A new method is one file, one line in its stage's table and one golden value
(`python -m tests.conformance.test_tables STAGE` writes tests/golden/methods/STAGE.json; look at the values before you
commit them). What the methods of one stage promise is in that stage's file here.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from memory import focus, recall, retain, rules
from stream import carrier, gate, prefill, reduce, tower
from stream.errors import UnknownMethod
from stream.policy import Paper, build, load
from tests.conformance import (
    test_carrier,
    test_focus,
    test_gate,
    test_prefill,
    test_recall,
    test_reduce,
    test_retain,
    test_rules,
    test_tower,
)

STAGES = {  # as in configuration errors: table, and what a method does with the fixed input of its stage, as plain data
    "gate": (gate.TABLE, test_gate.run),
    "model.tower": (tower.TABLE, test_tower.run),
    "model.reduce": (reduce.TABLE, test_reduce.run),
    "model.carrier": (carrier.TABLE, test_carrier.run),
    "model.prefill": (prefill.TABLE, test_prefill.run),
    "memory.retain": (retain.TABLE, test_retain.run),
    "memory.recall": (recall.TABLE, test_recall.run),
    "memory.focus": (focus.TABLE, test_focus.run),
    "rules": (rules.TABLE, test_rules.run),
}
EVERY = [(stage, name) for stage, (table, _) in STAGES.items() for name in table]
FOLDER = Path(__file__).parents[1] / "golden" / "methods"


def golden(stage: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((FOLDER / f"{stage}.json").read_text(encoding="utf-8"))
    return values


def run(stage: str, name: str) -> Any:
    return json.loads(json.dumps(STAGES[stage][1](name)))


@pytest.mark.parametrize(("stage", "name"), EVERY)
def test_golden_and_deterministic(stage: str, name: str) -> None:
    found = run(stage, name)
    assert same(found, golden(stage)[name]), f"{found} is not {golden(stage)[name]}"
    assert run(stage, name) == found


def same(found: Any, wanted: Any) -> bool:
    """Equal, numbers but for what another processor's sums may differ by."""
    if isinstance(found, list) and isinstance(wanted, list):
        return len(found) == len(wanted) and all(same(a, b) for a, b in zip(found, wanted, strict=True))
    if isinstance(found, float) or isinstance(wanted, float):
        return isinstance(wanted, (int, float)) and math.isclose(found, wanted, rel_tol=1e-3, abs_tol=2e-4)
    return bool(found == wanted)


def test_golden_values_can_fail() -> None:
    assert same([[1, 0.5]], [[1, 0.50001]])
    for other in ([[1, 0.6]], [[2, 0.5]], [[1]], [], [[1, None]]):
        assert not same([[1, 0.5]], other)


@pytest.mark.parametrize("stage", STAGES)
def test_every_golden_value_has_a_method(stage: str) -> None:
    assert list(golden(stage)) == list(STAGES[stage][0])


@pytest.mark.parametrize(("stage", "name"), EVERY)
def test_options_are_checked_by_name(stage: str, name: str) -> None:
    table, _ = STAGES[stage]
    method = load(stage, table, name)
    assert dataclasses.is_dataclass(method)
    assert isinstance(method.paper, Paper)
    assert method.__doc__
    with pytest.raises(UnknownMethod, match=f"{stage} method '{name}' has no option 'colour'"):
        build(stage, table, name, {"colour": 1})


@pytest.mark.parametrize(("stage", "name"), EVERY)
def test_a_misspelt_name_is_met_with_the_right_one(stage: str, name: str) -> None:
    with pytest.raises(UnknownMethod, match=f"did you mean '{name}'"):
        build(stage, STAGES[stage][0], name + "x")


def write(stage: str) -> None:
    """The golden values of a stage, one method a line."""
    lines = [f"{json.dumps(name)}: {json.dumps(run(stage, name))}" for name in STAGES[stage][0]]
    (FOLDER / f"{stage}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    for chosen in sys.argv[1:] or STAGES:
        write(chosen)
