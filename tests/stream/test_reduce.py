"""Fewer visual tokens: levels nest, dull frames get fewer, and what is kept is what stood there."""

from __future__ import annotations

import pytest
import torch

from stream import reduce
from stream.reduce.m3 import M3, tile
from stream.reduce.uniform import Uniform
from stream.types import VisualTokens


def tokens(rows: int, columns: int) -> VisualTokens:
    feats = torch.randn(rows * columns, 8, generator=torch.Generator().manual_seed(2))
    return VisualTokens(feats, (rows, columns))


@pytest.mark.parametrize(
    ("grid", "budget", "expected"),
    [
        ((14, 14), 196, (1, 1)),
        ((14, 14), 195, (2, 2)),
        ((14, 14), 49, (2, 2)),
        ((14, 14), 36, (7, 7)),  # the authors' kernel gives 49 here: more than was asked for
        ((14, 14), 4, (7, 7)),
        ((14, 14), 1, (14, 14)),
        ((27, 27), 9, (9, 9)),
        ((3, 3), 8, (3, 3)),
        ((4, 6), 6, (2, 2)),
        ((4, 6), 1, (4, 6)),  # no square: all of it
    ],
)
def test_squares_tile_the_grid_within_the_budget(grid: tuple[int, int], budget: int, expected: tuple[int, int]) -> None:
    assert tile(grid, budget) == expected


def test_levels_of_the_pyramid_are_nested() -> None:
    whole = tokens(27, 27)
    fine = M3(dull=81).reduce(whole, 0.0)
    coarse = M3(dull=9).reduce(whole, 0.0)
    assert (fine.grid, coarse.grid) == ((9, 9), (3, 3))
    torch.testing.assert_close(M3(dull=9).reduce(fine, 0.0).feats, coarse.feats)
    torch.testing.assert_close(coarse.feats.mean(0), whole.feats.mean(0))  # so the carrier's input stays what it was


def test_a_pooled_token_is_the_mean_of_its_square() -> None:
    whole = tokens(4, 6)
    made = M3(dull=6).reduce(whole, 0.0)
    squares = whole.feats.view(4, 6, 8)
    torch.testing.assert_close(made.feats[4], squares[2:4, 2:4].reshape(4, 8).mean(0))


def test_an_even_picture_is_even_at_every_level() -> None:
    even = VisualTokens(torch.full((196, 8), 3.5), (14, 14))
    for budget in (1, 4, 49):
        made = M3(dull=budget).reduce(even, 0.0)
        assert torch.equal(made.feats, torch.full((budget, 8), 3.5))


def test_a_dull_frame_gets_fewer_than_a_keen_one() -> None:
    method, whole = M3(dull=1, keen=49, below=1.0), tokens(14, 14)
    sizes = [len(method.reduce(whole, score).feats) for score in (0.0, 0.99, 1.0, 1e6)]
    assert sizes == [1, 1, 49, 49]
    assert M3().reduce(whole, 1.0) is whole


def test_selected_tokens_stand_evenly() -> None:
    assert Uniform().places(9, 3) == [1, 4, 7]
    assert Uniform().places(196, 1) == [98]
    assert Uniform().places(7, 6) == [0, 1, 2, 4, 5, 6]


def test_a_method_is_made_from_a_map() -> None:
    assert reduce.make({"m3": {"dull": 4}}) == M3(dull=4)
