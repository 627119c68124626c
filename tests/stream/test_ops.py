"""Arithmetic that published methods share, against a second way to get the same."""

from __future__ import annotations

import pytest
import torch

from stream.ops import outliers, pooled, strongest


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
    """What its LocalOutlierFactor(n_neighbors).fit_predict gives for these numbers; 60 are cut to the 39 there are."""
    scores = (torch.arange(40) * 7919 % 97 / 97) ** 4
    assert torch.nonzero(outliers(scores, neighbours)).flatten().tolist() == found


@pytest.mark.parametrize("count", [0, 1, 2, 30])
def test_nothing_lies_alone_where_all_are_equal(count: int) -> None:
    assert not outliers(torch.ones(count), 5).any()


def test_the_largest_share_of_a_head_is_kept_as_it_is() -> None:
    weights = torch.tensor([[[0.5, 0.1, 0.4], [0.2, 0.3, 0.5], [0.1, 0.6, 0.3]], torch.full((3, 3), 1 / 3).tolist()])
    found = strongest(weights, 0.4)
    assert torch.equal(found[0], weights[0] * (weights[0] >= 0.3)), "the fifth of nine is 0.3"
    assert torch.equal(found[1], weights[1]), "equal ones stay"
    assert torch.equal(strongest(weights, 1.0), weights)


@pytest.mark.parametrize(
    ("grid", "count", "expected"),
    [
        ((14, 14), 16, (4, 4)),
        ((14, 14), 49, (7, 7)),
        ((14, 14), 1, (1, 1)),
        ((4, 6), 7, (2, 3)),
        ((1, 9), 4, (1, 4)),
        ((9, 1), 4, (4, 1)),
        ((3, 3), 9, (3, 3)),
        ((3, 3), 2, (1, 2)),
    ],
)
def test_a_grid_is_pooled_within_the_count(grid: tuple[int, int], count: int, expected: tuple[int, int]) -> None:
    x = torch.randn(grid[0] * grid[1], 5, generator=torch.Generator().manual_seed(1))
    made, shape = pooled(x, grid, count)
    assert shape == expected
    assert len(made) == shape[0] * shape[1] <= count
    for row in range(shape[0]):
        top, below = grid[0] * row // shape[0], -(-grid[0] * (row + 1) // shape[0])
        for column in range(shape[1]):
            left, right = grid[1] * column // shape[1], -(-grid[1] * (column + 1) // shape[1])
            square = x.view(*grid, 5)[top:below, left:right]
            torch.testing.assert_close(made[row * shape[1] + column], square.mean((0, 1)))
