"""What every retention promises."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from memory import retain
from memory.retain import Rows
from stream.errors import ConfigError
from stream.policy import build
from stream.types import Span


def rows(count: int = 9) -> Rows:
    generator = torch.Generator().manual_seed(5)
    digests = torch.randn(count, 6, generator=generator)
    times = [0, 1, 2, 3, 8, 9, 20, 21, 40][:count]
    return Rows(digests, [Span(t, t) for t in map(float, times)], times, absorbed=3 * count)


def run(name: str) -> Any:
    choice = build("memory.retain", retain.TABLE, name).choose(rows(), torch.Generator().manual_seed(7))
    return [choice.leaves, choice.into, choice.how]


@pytest.mark.parametrize("name", retain.TABLE)
@pytest.mark.parametrize("count", [2, 3, 9])
def test_retention_never_names_the_newest(name: str, count: int) -> None:
    method = build("memory.retain", retain.TABLE, name)
    given = rows(count)
    before = given.digests.clone()
    for seed in range(20):
        choice = method.choose(given, torch.Generator().manual_seed(seed))
        assert 0 <= choice.leaves < count - 1
        assert choice.into is None or (0 <= choice.into < count and choice.into != choice.leaves)
    assert torch.equal(given.digests, before)
    equal = Rows(torch.ones(count, 6), given.spans, given.frames, given.absorbed)
    assert 0 <= method.choose(equal, torch.Generator().manual_seed(0)).leaves < count - 1


@pytest.mark.parametrize("name", retain.TABLE)
def test_a_choice_depends_on_the_rows_and_the_seed_alone(name: str) -> None:
    """Nothing is kept between calls: a bank that was restored forgets as one that never stopped."""
    used, fresh = (build("memory.retain", retain.TABLE, name) for _ in range(2))
    for count in (9, 4, 9):
        used.choose(rows(count), torch.Generator().manual_seed(1))
    for seed in range(10):
        found = used.choose(rows(), torch.Generator().manual_seed(seed))
        assert found == fresh.choose(rows(), torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["zero", "constant", "tiny", "large"])
@pytest.mark.parametrize("name", retain.TABLE)
def test_any_digests_give_a_choice_that_a_bank_can_follow(name: str, kind: str, dtype: torch.dtype) -> None:
    given = rows()
    digests = {
        "zero": torch.zeros(9, 6),
        "constant": torch.ones(9, 6),
        "tiny": 1e-6 * given.digests,
        "large": 1e4 * given.digests,
    }[kind].to(dtype)
    method = build("memory.retain", retain.TABLE, name)
    for seed in range(5):
        choice = method.choose(replace(given, digests=digests), torch.Generator().manual_seed(seed))
        assert 0 <= choice.leaves < 8
        assert (choice.into is None) == (choice.how == "drop")
        assert choice.into is None or (choice.into != choice.leaves and 0 <= choice.into < 9)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("adjacent", {"when_full": "burn"}, "when_full"),
        ("anypair", {"when_full": "burn"}, "when_full"),
        ("sinks", {"sinks": -1}, "sinks"),
        ("decay", {"tau_s": 0.0}, "tau_s"),
        ("decay", {"leaves": "most"}, "leaves"),
        ("kmeans", {"iterations": 0}, "iterations"),
        ("forest", {"spare": 0}, "spare"),
        ("hot", {"neighbours": 0}, "neighbours"),
    ],
)
def test_values_that_make_no_sense_are_refused(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build("memory.retain", retain.TABLE, name, options)
