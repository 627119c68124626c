"""Companions: codes stand for clusters, semantic tokens gather what is alike, and both give back what they lost."""

from __future__ import annotations

import pytest
import torch

from stream import carrier
from stream.carrier.codes import Codes
from stream.carrier.mean import Mean
from stream.carrier.semtok import SemTok, semantic, spread
from stream.types import VisualTokens


def tokens(rows: int = 6, columns: int = 6, width: int = 16, seed: int = 0) -> VisualTokens:
    """Smooth over the grid, as features of pictures are."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, width, 3, 3, generator=rng)
    fine = torch.nn.functional.interpolate(coarse, (rows, columns), mode="bilinear")[0].flatten(1).T
    return VisualTokens(fine + 0.05 * torch.randn(rows * columns, width, generator=rng), (rows, columns))


def test_one_semantic_token_at_any_heat_is_the_mean() -> None:
    given = tokens()
    made = SemTok(companions=1, temperature=1e9).embed(given)
    assert len(made) == 2
    torch.testing.assert_close(made[0], made[1])
    torch.testing.assert_close(made[1:], Mean().embed(given))


def test_semantic_tokens_start_from_regions_as_many_as_fit() -> None:
    for grid, count, expected in [
        ((14, 14), 16, 16),
        ((27, 27), 16, 16),
        ((3, 3), 16, 9),
        ((3, 3), 4, 4),
        ((1, 5), 16, 5),
        ((4, 6), 16, 15),
    ]:
        x = torch.randn(grid[0] * grid[1], 8, generator=torch.Generator().manual_seed(1))
        assert len(semantic(x, grid, count, 0.1)) == expected


@pytest.mark.parametrize("temperature", [1e-3, 0.05, 10.0])
def test_semantic_tokens_stay_in_the_convex_hull(temperature: float) -> None:
    """Along any direction none lies beyond the outermost token."""
    x = tokens().feats
    found = semantic(x, (6, 6), 16, temperature)
    sight = torch.randn(16, 500, generator=torch.Generator().manual_seed(2))
    assert ((found @ sight).amax(0) <= (x @ sight).amax(0) + 1e-4).all()


def test_a_constant_frame_has_equal_semantic_tokens() -> None:
    found = semantic(torch.randn(1, 8).expand(36, 8), (6, 6), 16, 0.05)
    torch.testing.assert_close(found, found[:1].expand_as(found))


def test_what_semantic_tokens_lose_falls_with_their_number() -> None:
    losses = []
    for count in (1, 4, 9, 16, 36, 144):
        loss = 0.0
        for seed in range(5):
            x = tokens(12, 12, seed=seed).feats
            loss += float((spread(x, semantic(x, (12, 12), count, 0.01), 0.01) - x).square().mean())
        losses.append(loss)
    assert losses == sorted(losses, reverse=True)
    assert losses[3] < losses[0] / 5


def test_a_semantic_token_gathers_what_is_like_it() -> None:
    """A checkerboard of two things: regions start as mixtures of both, and every token ends as one of them."""
    two = torch.eye(8)[:2] * 3
    board = torch.tensor([[(row + column) % 2 for column in range(6)] for row in range(6)]).flatten()
    board[[0, 1, 2, 7]] = 0
    found = semantic(two[board], (6, 6), 16, 0.02)
    assert torch.cdist(found, two).min(1).values.max() < 0.1 * 3


def test_codes_come_back_as_the_distinct_tokens() -> None:
    distinct = torch.randn(5, 16, generator=torch.Generator().manual_seed(3))
    which = torch.tensor([0, 1, 2, 3, 4] * 7)
    made = Codes(companions=5).embed(VisualTokens(distinct[which], (5, 7)))
    torch.testing.assert_close(made[:-1], distinct)  # in order of first members
    torch.testing.assert_close(made[-1], distinct[which].mean(0))
    assert len(Codes(companions=8).embed(VisualTokens(distinct[which], (5, 7)))) == 6  # no code without members


def test_companions_lie_nearer_to_the_tokens_than_the_mean_alone() -> None:
    given = tokens()
    for name in ("codes", "semtok", "uniform"):
        made = carrier.make({name: {"companions": 4}}).embed(given)
        assert torch.cdist(given.feats, made).min(1).values.mean() < torch.cdist(given.feats, made[-1:]).mean()
