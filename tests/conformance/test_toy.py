"""Adding a method needs one file, one table line and one golden value: shown with a reducer that is nobody's.

Everything else follows from the three: it is built from a configuration, checked with it, held to what its stage
promises, and described on its stage's page.
"""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from daemon.methods import check_methods
from daemon.papers import STAGES, shelf
from daemon.settings import Settings, parse
from daemon.stage_page import stage_page
from stream import reduce
from stream.errors import ConfigError
from stream.reduce.chain import chain
from tests.conformance import test_reduce as promises
from tests.conformance import test_tables as tables

FILE = '''"""The longest tokens stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from stream.policy import Paper
from stream.reduce import Seen
from stream.reduce.dull import Selecting


@dataclass(frozen=True)
class Longest(Selecting):
    """Tokens of the largest norm.

    `dull`: tokens of a frame whose gate score is below `below`; 0 is all of them.
    `keen`: tokens of every other frame; 0 is all of them.
    `below`: a frame with a lower score is dull.
    """

    paper: ClassVar[Paper] = Paper("the longest tokens", "", "baseline")

    def places(self, seen: Sequence[Seen], budget: int) -> Tensor:
        """See Selecting."""
        return seen[-1].tokens.feats.float().norm(dim=-1).topk(budget).indices.sort().values
'''
MOST_LINES = 200  # of a method's file


@pytest.fixture(autouse=True)
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file and the line."""
    (tmp_path / "longest_toy.py").write_text(FILE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(reduce.TABLE, "longest", "longest_toy:Longest")


def settings_of(options: Any, **memory: Any) -> Settings:
    return parse({"cameras": {"door": {"url": "x"}}, "model": {"reduce": options}, "memory": memory}, "x.yaml")


def test_it_is_built_from_a_configuration() -> None:
    settings = settings_of([{"m3": {"keen": 6}}, {"longest": {"keen": 2}}])
    check_methods(settings)
    (given,) = promises.seen(score=9.0)
    found = chain(settings.model.reduce).reduce(given)
    assert len(found.feats) == 2
    norms = chain(settings.model.reduce[:1]).reduce(given).feats.norm(dim=-1)
    assert torch.equal(found.feats.norm(dim=-1).sort().values, norms.sort().values[-2:])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("longst", "model.reduce.0.longst: unknown method; did you mean 'longest'?"),
        ({"longest": {"duil": 2}}, "model.reduce.0.longest.duil: unknown option; did you mean 'dull'?"),
        ({"longest": {"dull": -1}}, "model.reduce.0.longest: dull and keen are numbers of tokens"),
        (["longest", "m3"], "model.reduce.1.m3: needs the token grid, which model.reduce.0.longest takes apart"),
    ],
)
def test_it_is_checked_with_the_configuration(options: Any, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_methods(settings_of(options), "x.yaml")
    assert expected in str(caught.value)


def calls(test: Callable[..., None], name: str) -> Iterator[dict[str, Any]]:
    """The arguments that pytest would call `test` with for method `name`, if it is for all methods of the table."""
    axes: list[list[dict[str, Any]]] = []
    for mark in getattr(test, "pytestmark", []):
        keys = mark.args[0].split(",") if isinstance(mark.args[0], str) else list(mark.args[0])
        rows = [dict(zip(keys, row if len(keys) > 1 else [row], strict=True)) for row in mark.args[1]]
        if "name" in keys:
            if not set(reduce.TABLE) - {"none", name} <= {row["name"] for row in rows}:
                return
            rows = [{**{key: {} for key in keys}, "name": name}]
        axes.append(rows)
    for parts in itertools.product(*axes):
        yield {key: value for part in parts for key, value in part.items()}


PROMISES = [test for key, test in vars(promises).items() if key.startswith("test_") and any(calls(test, "longest"))]


def test_there_are_promises_to_keep() -> None:
    assert len(PROMISES) >= 8


@pytest.mark.parametrize("test", PROMISES, ids=lambda test: test.__name__)
def test_it_keeps_what_its_stage_promises(test: Callable[..., None]) -> None:
    for arguments in calls(test, "longest"):
        test(**arguments)


def test_it_has_its_golden_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tables.golden("model.reduce")
    monkeypatch.setattr(tables, "FOLDER", tmp_path)
    tables.write("model.reduce")
    after = tables.golden("model.reduce")
    assert {name: after[name] for name in before} == before, "no other value changes"
    assert list(after) == [*before, "longest"]
    assert after["longest"][0] == sorted(after["longest"][0])
    tables.test_golden_and_deterministic("model.reduce", "longest")
    tables.test_every_golden_value_has_a_method("model.reduce")
    tables.test_options_are_checked_by_name("model.reduce", "longest")
    tables.test_a_misspelt_name_is_met_with_the_right_one("model.reduce", "longest")


def test_it_is_on_the_page() -> None:
    (stage,) = [stage for stage in STAGES if stage.key == "model.reduce"]
    text = stage_page(stage)
    assert "## `longest`\n\nTokens of the largest norm.\n\n- `dull`: tokens of a frame" in text
    assert "- Fidelity: `baseline`\n- Option `dull`: whole number, default `1`" in text


def test_no_method_file_is_longer_than_it_should_be() -> None:
    modules = {item.method.__module__ for item in shelf([stage for stage in STAGES if stage.key != "memory.positions"])}
    assert "longest_toy" in modules
    for module in modules:
        spec = importlib.util.find_spec(module)
        assert spec is not None
        assert spec.origin is not None
        lines = len(Path(spec.origin).read_text(encoding="utf-8").splitlines())
        assert lines <= MOST_LINES, f"{module} has {lines} lines"


def test_every_method_has_a_file_of_its_own() -> None:
    found = [item.method.__module__ for item in shelf([stage for stage in STAGES if stage.key != "memory.positions"])]
    assert sorted(found) == sorted(set(found))
