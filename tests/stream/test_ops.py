"""Arithmetic that published methods share, against a second way to get the same."""

from __future__ import annotations

import pytest
import torch

from stream.ops import outliers


@pytest.mark.parametrize(
    ("neighbours", "found"),
    [
        (3, [5, 8, 19, 24, 25, 30, 33]),
        (5, [2, 5, 10, 13, 16, 19, 24, 27, 30, 35, 38]),
        (10, [4, 7, 10, 13, 14, 15, 18, 21, 24, 25, 29, 32, 35]),
        (60, []),
    ],
)
def test_outliers_are_those_of_scikit_learn(neighbours: int, found: list[int]) -> None:
    """What its LocalOutlierFactor(n_neighbors).fit_predict gives for the same numbers; 60 are cut to the 39 there are."""
    scores = (torch.arange(40) * 7919 % 97 / 97) ** 4
    assert torch.nonzero(outliers(scores, neighbours)).flatten().tolist() == found


@pytest.mark.parametrize("count", [0, 1, 2, 30])
def test_nothing_lies_alone_where_all_are_equal(count: int) -> None:
    assert not outliers(torch.ones(count), 5).any()
