"""Reducers that make new tokens of a frame's: AIM's merging and VQToken's codes, against the authors' numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from stream.reduce import Seen
from stream.reduce.aim import Aim, halve, outer
from stream.reduce.vqtoken import VqToken, kmeans, lengthened, quantise, seeds
from stream.types import Frame, VisualTokens


def seen(feats: torch.Tensor) -> list[Seen]:
    """A dull frame."""
    frame = Frame("door", 0, 0, 0.0, 0.0, np.zeros((8, 8, 3), np.uint8))
    return [Seen(VisualTokens(feats, (1, len(feats))), frame)]


def rows(count: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


# AIM


def test_two_rounds_make_a_quarter() -> None:
    x = rows(196, 16)
    once, stood = halve(x, 98)
    assert (len(once), len(outer(x))) == (98, 49)
    assert stood.tolist() == list(range(1, 196, 2)), "every even one went into an odd one"
    made = Aim(dull=49).reduce(seen(x))
    assert torch.equal(made.feats, outer(x))
    assert made.places is not None
    assert made.places.tolist() == list(range(3, 196, 4))


def test_no_pair_is_the_identity() -> None:
    x = rows(9, 4)
    made, stood = halve(x, 0)
    assert made is x
    assert stood.tolist() == list(range(9))


def test_merging_gives_what_the_authors_code_gives() -> None:
    """LaVi-Lab/AIM at edc24e9 on the same array: 16 tokens, 8 and 4 pairs."""
    made = outer(rows(16, 6, seed=4))[:, 0]
    torch.testing.assert_close(made, torch.tensor([-0.2749, -0.9694, 0.6937, -1.1063]), atol=1e-4, rtol=0)


def test_the_best_pairs_merge_and_the_others_stay_where_they_stood() -> None:
    x = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0.9, 0.1], [0, 0, 1], [0.1, 0, 2]])
    made, stood = halve(x, 2)  # 4 goes into 3, then 2 into 1; 0 is like none
    assert stood.tolist() == [0, 1, 3]
    torch.testing.assert_close(made, torch.stack([x[0], x[[1, 2]].mean(0), x[[3, 4]].mean(0)]))


def test_a_mean_of_many_weighs_no_more_than_one_in_the_next_round() -> None:
    x = torch.tensor([[1.0, 0.0], [2, 0], [3, 0], [0, 1]])
    once, stood = halve(x, 2)
    assert (once.tolist(), stood.tolist()) == ([[2, 0], [0, 1]], [1, 3])
    twice, _ = halve(once, 1)
    assert twice.tolist() == [[1, 0.5]], "not [1.5, 0.25], as four tokens would have"


def test_equal_tokens_stay_what_they_are() -> None:
    x = rows(1, 8).expand(10, 8)
    for budget in (1, 3, 5, 9):
        made = Aim(dull=budget).reduce(seen(x))
        assert len(made.feats) == budget
        torch.testing.assert_close(made.feats, x[:budget])


# VQToken


def test_codes_are_what_the_authors_code_gives() -> None:
    """Hai-chao-Zhang/VQToken at 019f89f, its adaptive path with four codes, on the same array from the same seed."""
    codes = quantise(rows(18, 5, seed=5).view(2, 9, 5), 4, torch.Generator().manual_seed(1))
    assert codes.labels.tolist() == [[3, 3, 2, 1, 2, 3, 0, 1, 1], [3, 1, 2, 0, 0, 2, 0, 3, 0]]
    torch.testing.assert_close(codes.means[:, 0], torch.tensor([0.3347, -0.0534, -0.3917, -0.0116]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("seed", range(3))
def test_every_token_has_its_nearest_code(seed: int) -> None:
    x = rows(60, 8, seed)
    codes = quantise(x[None], 6, torch.Generator().manual_seed(seed))
    alike = F.normalize(x, dim=1) @ F.normalize(codes.means, dim=1).T
    assert torch.equal(alike.argmax(1), codes.labels[0].long())


def test_the_error_falls_as_codes_grow_in_number() -> None:
    errors = []
    for count in (1, 2, 4, 8, 16, 32, 64):
        error = 0.0
        for seed in range(4):
            x = F.normalize(rows(64, 8, seed), dim=1)
            means, labels = quantise(x[None], count, torch.Generator().manual_seed(seed))
            error += float((means[labels[0].long()] - x).square().sum())
        errors.append(error)
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-9, "as many codes as tokens are the tokens"


def test_as_many_codes_as_distinct_tokens_give_them_back() -> None:
    distinct = rows(7, 8, 2)
    x = distinct[torch.arange(42) % 7]
    made, places = lengthened(x, 7, seed=0)
    torch.testing.assert_close(made, distinct)
    assert places.tolist() == list(range(7))
    assert len(lengthened(x, 30, seed=0)[0]) == 7, "no code without members"


def test_the_index_map_says_which_code_stands_where_in_a_byte_a_token() -> None:
    x = rows(300 * 2, 16).view(2, 300, 16)
    means, labels = quantise(x, 256, torch.Generator().manual_seed(0))
    assert (labels.dtype, labels.shape) == (torch.uint8, (2, 300))
    again = torch.from_numpy(np.frombuffer(labels.numpy().tobytes(), np.uint8).copy()).view(2, 300)
    assert torch.equal(again, labels)
    assert int(labels.max()) > 127, "numbers beyond a signed byte are among them"
    for code in (0, 255):
        members = F.normalize(x, dim=2)[again == code]
        torch.testing.assert_close(means[code], members.mean(0))
    with pytest.raises(ValueError, match="1 to 256 codes, got 257"):
        quantise(x, 257, torch.Generator())


def test_seeds_are_spread_and_repeatable() -> None:
    blobs = torch.cat(
        [torch.randn(20, 4, generator=torch.Generator().manual_seed(1)) * 0.01 + 10 * axis for axis in torch.eye(4)]
    )
    for seed in range(10):
        chosen = seeds(blobs, 4, torch.Generator().manual_seed(seed))
        assert sorted(place // 20 for place in chosen.tolist()) == [0, 1, 2, 3]
        assert torch.equal(chosen, seeds(blobs, 4, torch.Generator().manual_seed(seed)))
    assert len(seeds(torch.ones(5, 4), 3, torch.Generator().manual_seed(0))) == 3


def test_a_centre_without_members_stays() -> None:
    x = F.normalize(torch.tensor([[1.0, 0.0], [0.9, 0.1]]), dim=1)
    assert kmeans(x, torch.tensor([[1.0, 0.0], [-1.0, 0.0]])).tolist() == [0, 0]


def test_codes_have_the_lengths_of_their_members() -> None:
    x = torch.cat([torch.eye(3) * 5, torch.eye(3) * 7])
    made = VqToken(dull=3).reduce(seen(x))
    torch.testing.assert_close(made.feats, torch.eye(3) * 6)
