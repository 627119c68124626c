"""Reducers of papers, each against its rule written out: closed forms, all subsets, maps made by hand."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stream import reduce
from stream.ops import cosines, farthest
from stream.policy import build
from stream.reduce import Seen
from stream.reduce.divprune import DivPrune, diverse
from stream.reduce.fastervlm import FasterVlm, attended, vispruner
from stream.reduce.fopru import FoPru, rows, significance
from stream.reduce.hiprune import HiPrune, hierarchy
from stream.reduce.recoverable import Recoverable, merge, received_whole, split
from stream.reduce.todre import ToDre, centres, max_sum
from stream.reduce.vflowopt import VFlowOpt, by_hubs, entropy, recycled
from stream.tap import Tap
from stream.types import Frame, VisualTokens

SEEDS = st.integers(0, 10_000)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def attention(*shape: int, seed: int = 0) -> Tensor:
    return (3 * normal(*shape, seed=seed)).softmax(-1)


def keyed(scores: Tensor) -> Tap:
    """A tap whose every row gives row j attention in the order of `scores` [n]."""
    ones = torch.ones(1, len(scores), 1)
    return Tap.of(ones, scores.float()[None, :, None], ones)


def frame(feats: Tensor, grid: tuple[int, int], taps: dict[int, Tap], image: np.ndarray | None = None) -> list[Seen]:
    blank = np.zeros((28, 28, 3), np.uint8) if image is None else image
    return [Seen(VisualTokens(feats, grid, None, taps), Frame("door", 0, 0, 0.0, 0.0, blank))]


def kept(method: reduce.Reduce, shown: list[Seen]) -> list[int]:
    places = method.reduce(shown).places
    assert places is not None
    return [int(place) for place in places]


# FasterVLM and VisPruner


def test_fastervlm_sorts_a_map_made_by_hand() -> None:
    by_head = torch.tensor([[0.5, 0.1, 0.2, 0.2], [0.1, 0.1, 0.2, 0.6]])  # means .3 .1 .2 .4
    assert [attended(by_head, count).tolist() for count in (1, 2, 3)] == [[3], [0, 3], [0, 2, 3]]
    assert attended(torch.full((2, 9), 1 / 9), 4).tolist() == [0, 1, 2, 3], "ties go to the lower index"
    shown = frame(normal(6, 4), (2, 3), {5: keyed(torch.tensor([0, 3, 1, 5, 2, 4]))})
    assert kept(FasterVlm(dull=3), shown) == [1, 3, 5]


def vispruner_by_the_letter(score: list[float], feats: Tensor, count: int, important: float) -> list[int]:
    order = sorted(range(len(score)), key=lambda place: (-score[place], place))
    first = int(count * important)
    others, alike = order[first:], cosines(feats).tolist()
    wanted = count - first
    while wanted and len(others) > wanted:
        looking, found = others[::2], others[1::2]
        most = {one: max(alike[one][other] for other in found) for one in looking}
        others = sorted(looking, key=lambda one: -most[one])[min(8, len(others) - wanted) :] + found
    return sorted(order[:first] + (others if count > first else []))


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.integers(8, 40), st.integers(1, 30), st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]))
def test_vispruner_follows_its_rounds(seed: int, n: int, count: int, important: float) -> None:
    count = min(count, n - 1)
    score, feats = attention(2, n, seed=seed), normal(n, 6, seed=seed + 1)
    places = vispruner(score, feats, count, important).tolist()
    assert places == vispruner_by_the_letter(score.mean(0).tolist(), feats, count, important)
    assert len(set(places)) == count
    assert set(attended(score, int(count * important)).tolist()) <= set(places)


def test_vispruner_lets_near_duplicates_go_first() -> None:
    feats = torch.eye(12)
    feats[[0, 4, 8]] = feats[[1, 5, 9]] + 0.01
    score = torch.arange(12, 0, -1).float() / 78
    assert vispruner(score[None], feats, 9, 0.0).tolist() == [1, 2, 3, 5, 6, 7, 9, 10, 11]
    shown = frame(feats, (3, 4), {0: keyed(score)})
    assert kept(FasterVlm(dull=4, mode="vispruner", important=1.0), shown) == [0, 1, 2, 3], "all by attention"


# FoPru


def test_fopru_takes_what_receives_attention() -> None:
    shares = torch.tensor([0.1, 0.7, 0.2])
    assert torch.equal(significance(shares.expand(3, 3)), shares)
    assert torch.allclose(significance(shares.expand(3, 3).T), shares), "rows that are no softmax may vary more"
    whole = attention(9, 9)
    assert torch.equal(significance(whole), whole.mean(0))
    shown = frame(normal(9, 4), (3, 3), {0: keyed(torch.tensor([0, 8, 1, 7, 2, 6, 3, 5, 4]))})
    assert kept(FoPru(dull=4), shown) == [1, 3, 5, 7]


def test_fopru_keeps_rows_whole() -> None:
    worth = torch.tensor([0.9, 0.0, 0.0, 0.4, 0.5, 0.3, 0.1, 0.2, 0.5])  # rows .9 1.2 .8
    expected = {1: [4], 2: [3, 4], 3: [3, 4, 5], 4: [0, 3, 4, 5], 6: [0, 1, 2, 3, 4, 5], 8: [0, 1, 2, 3, 4, 5, 7, 8]}
    assert {count: rows(worth, (3, 3), count).tolist() for count in expected} == expected
    shown = frame(normal(9, 4), (3, 3), {0: keyed(worth)})
    assert kept(FoPru(dull=6, strategy="row"), shown) == [0, 1, 2, 3, 4, 5]


# HiPrune


def hierarchy_by_the_letter(middle: list[float], deep: list[float], count: int, wide: int, alpha: float) -> list[int]:
    n = len(middle)
    ranked = sorted(range(n), key=lambda place: -middle[place])
    near: set[int] = set()
    for anchors in range(round(count * alpha / 5), -1, -1):
        around = {own + step for own in ranked[:anchors] for step in (0, -1, 1, -wide, wide)}
        near = {min(max(own, 0), n - 1) for own in around}
        if len(near) <= count:
            break
    others = sorted((place for place in range(n) if place not in near), key=lambda place: -deep[place])
    return sorted(near | set(others[: count - len(near)]))


@settings(deadline=None, max_examples=60)
@given(SEEDS, st.integers(1, 48), st.sampled_from([0.0, 0.1, 0.3, 0.7, 1.0]))
def test_hiprune_is_anchors_buffers_and_registers(seed: int, count: int, alpha: float) -> None:
    middle, deep = attention(2, 49, seed=seed)
    places = hierarchy(middle, deep, count, 7, alpha).tolist()
    assert places == hierarchy_by_the_letter(middle.tolist(), deep.tolist(), count, 7, alpha)
    assert len(places) == count


def test_hiprunes_neighbours_wrap_around_rows_and_stop_at_the_ends() -> None:
    middle, deep = torch.zeros(12), torch.linspace(0, 1, 12)
    middle[3] = 1.0  # the last of the first row of 4: its next neighbour begins the row below
    assert hierarchy(middle, deep, 5, 4, 1.0).tolist() == [0, 2, 3, 4, 7]
    assert hierarchy(middle, deep, 5, 4, 0.0).tolist() == [7, 8, 9, 10, 11], "no anchors: the deep block's best"
    assert torch.equal(hierarchy(middle, deep, 5, 4, 0.0), attended(deep[None], 5))


def test_hiprune_reads_a_middle_and_the_last_block() -> None:
    assert [HiPrune().blocks(depth) for depth in (1, 4, 26, 27)] == [(0,), (1, 3), (10, 25), (10, 26)]
    middle, deep = torch.zeros(25), torch.linspace(0, 1, 25)
    middle[12] = 9.0
    shown = frame(normal(25, 4), (5, 5), {1: keyed(middle), 3: keyed(deep)})
    assert kept(HiPrune(dull=6, alpha=0.8), shown) == [7, 11, 12, 13, 17, 24]
    assert kept(HiPrune(dull=6), shown) == [19, 20, 21, 22, 23, 24], "6 tokens are too few for an anchor at alpha 0.1"


# VFlowOpt


def test_a_flat_patch_has_no_entropy_and_a_busy_one_no_more_than_its_pixels() -> None:
    image = np.full((28, 28, 3), 200, np.uint8)
    image[:14, 14:] = np.arange(196, dtype=np.uint8).reshape(14, 14, 1)  # every pixel of this patch is another grey
    image[14:, :14] = np.where(np.arange(14) % 2, 0, 255).astype(np.uint8)[None, :, None]
    assert torch.allclose(entropy(image, (2, 2)), torch.tensor([0.0, math.log2(196), 1.0, 0.0]))
    assert entropy(np.random.default_rng(0).integers(0, 256, (384, 384, 3), np.uint8), (27, 27)).max() <= math.log2(196)
    with pytest.raises(ValueError, match="1 x 28 pixels"):
        entropy(image[:1], (2, 2))


def test_only_hub_rows_are_asked_and_all_where_there_are_none() -> None:
    whole = torch.full((4, 4), 0.1)
    whole[:, 1] = 0.7  # row 1 is the only hub
    whole[1] = torch.tensor([0.05, 0.05, 0.2, 0.7])
    assert torch.equal(by_hubs(whole, 1.5), whole[1])
    assert torch.equal(by_hubs(whole, 100.0), whole.mean(0)), "no hub: all rows, no NaN"
    assert torch.equal(by_hubs(whole, 0.0), whole.mean(0)), "all are hubs"


def test_vflowopt_adds_the_pixels_entropy() -> None:
    image = np.zeros((24, 24, 3), np.uint8)
    image[6:12, 12:18] = np.random.default_rng(0).integers(0, 256, (6, 6, 3))  # of 4 x 4 patches that of place 6
    shown = frame(normal(16, 4), (4, 4), {3: keyed(torch.linspace(0, 0.01, 16))}, image)
    assert kept(VFlowOpt(dull=2), shown) == [14, 15]
    assert kept(VFlowOpt(dull=2, alpha=1.0), shown) == [6, 15]
    assert 6 not in kept(VFlowOpt(dull=15, alpha=-1.0), shown)


def test_vflowopt_recycles_what_it_drops_cell_by_cell() -> None:
    feats, worth = normal(16, 3), torch.arange(16.0) + 1
    means, where = recycled(feats, worth, torch.tensor([10, 11, 14, 15]), (4, 4), 2)
    assert where.tolist() == [5, 7, 13], "each at the best of its cell; of the fourth cell nothing was dropped"
    cell = torch.tensor([0, 1, 4, 5])
    torch.testing.assert_close(means[0], (feats[cell] * worth[cell, None]).sum(0) / worth[cell].sum())
    shown = frame(feats, (4, 4), {0: keyed(worth / 100)})
    made = VFlowOpt(dull=8, recycle=2, hub=1.0).reduce(shown)
    assert made.places is not None
    assert made.places.tolist() == [5, 7, 9, 11, 12, 13, 14, 15], "12 .. 15 stay, 4 cells have a rest"
    alone = VFlowOpt(dull=2, recycle=2).reduce(shown)
    assert alone.places is not None
    assert len(alone.feats) == 2, "cells grow until they leave room"


# DivPrune


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.integers(4, 10), st.integers(2, 4))
def test_divprune_is_at_least_half_as_far_apart_as_can_be(seed: int, n: int, count: int) -> None:
    angles = torch.rand(n, generator=torch.Generator().manual_seed(seed)) * math.tau
    points = torch.stack((angles.cos(), angles.sin()), 1)
    apart = torch.cdist(points, points)  # of unit rows sqrt(2 (1 - cosine)): a metric in the same order

    def least(chosen: tuple[int, ...]) -> float:
        return min(float(apart[a, b]) for a, b in itertools.combinations(chosen, 2))

    best = max(least(chosen) for chosen in itertools.combinations(range(n), count))
    found = least(tuple(diverse(points, count).tolist()))
    assert found >= best / 2 - 1e-3


@settings(deadline=None, max_examples=40)
@given(SEEDS)
def test_divprunes_minima_never_rise(seed: int) -> None:
    apart = 1 - cosines(normal(20, 5, seed=seed))
    picked = farthest(apart, 20)
    assert sorted(picked) == list(range(20))
    minima = [float(apart[picked[:place], own].min()) for place, own in enumerate(picked) if place]
    assert all(a >= b - 1e-6 for a, b in itertools.pairwise(minima))
    alone = apart.clone().fill_diagonal_(torch.inf).min(1).values
    assert picked[0] == int(alone.argmax())


def test_divprune_takes_a_twin_last_and_no_scale_matters() -> None:
    feats = normal(12, 6)
    feats[7] = feats[2] * 3.0
    for count in range(2, 12):
        places = diverse(feats, count).tolist()
        assert not {2, 7} <= set(places)
        assert places == diverse(feats * torch.arange(1.0, 13.0)[:, None], count).tolist()


def test_divprune_looks_for_what_the_frames_before_did_not_show() -> None:
    old, new = normal(9, 6, seed=1), normal(9, 6, seed=2)
    mixed = old.clone()
    mixed[4] = new[4]
    before, now = (frame(feats, (3, 3), {})[0] for feats in (old, mixed))
    method = DivPrune(dull=1, against=1)
    assert method.window == 2
    assert kept(method, [before, now]) == [4]
    assert kept(method, [now]) == kept(DivPrune(dull=1), [now]), "a stream's first frame"
    assert DivPrune().window == 1
    known, feats = torch.eye(4)[:3], torch.tensor([[1.0, 0.2, 0, 0], [1.0, 1.0, 1.0, 0]])
    assert diverse(feats, 1, known).tolist() == [1], "near none of the known, though not far from any"


# ToDRE


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.integers(1, 12))
def test_todre_accumulates_as_a_full_count_would(seed: int, count: int) -> None:
    alike = cosines(normal(14, 5, seed=seed))
    picked = max_sum(alike, 3, count)
    expected = [3]
    while len(expected) < count:
        others = [own for own in range(14) if own not in expected]
        expected.append(min(others, key=lambda own: float(alike[expected, own].sum())))
    totals = [float(alike[picked[:place], own].sum()) for place, own in enumerate(picked) if place]
    wanted = [float(alike[expected[:place], own].sum()) for place, own in enumerate(expected) if place]
    assert totals == pytest.approx(wanted, abs=1e-4)
    assert len(set(picked)) == count


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.integers(1, 19))
def test_todres_k_centre_is_divprune_when_the_seeds_agree(seed: int, count: int) -> None:
    apart = 1 - cosines(normal(20, 5, seed=seed))
    assert centres(apart, farthest(apart, 1)[0], count) == farthest(apart, count)


def test_todre_begins_with_the_token_that_gets_most_attention() -> None:
    feats = torch.eye(6)
    feats[5] = -feats[2]
    shown = frame(feats, (2, 3), {3: keyed(torch.tensor([0, 0, 9, 0, 0, 0]))})
    assert kept(ToDre(dull=1), shown) == [2]
    assert kept(ToDre(dull=2), shown) == [2, 5]
    assert kept(ToDre(dull=2, mode="centre"), shown) == [2, 5]
    assert centres(torch.zeros(4, 4), 2, 4) == [2, 0, 1, 3], "the pivot is taken once, even where all are alike"


# Recoverable Compression


def planted(n: int = 64, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Scores of which four stand far out, and tokens."""
    scores = 0.01 + 0.001 * torch.rand(n, generator=torch.Generator().manual_seed(seed))
    scores[torch.tensor([3, 17, 30, 41])] = torch.tensor([0.2, 0.11, 0.3, 0.07])
    return scores, normal(n, 8, seed=seed + 1)


def test_as_many_stay_as_stand_out() -> None:
    scores, _ = planted()
    stay, _ = split(scores)
    assert {3, 17, 30, 41} <= set(stay.tolist())
    assert len(stay) < 10
    assert torch.equal(stay, attended(scores[None], len(stay)))
    even = torch.full((64,), 1 / 64)
    assert len(split(even)[0]) == 0
    assert len(split(even, least=3)[0]) == 3, "no outliers: the least"
    for most in range(1, 12):
        stay, middle = split(scores, of=400, least=1, most=most)
        assert len(stay) + len(middle) + bool(len(middle)) <= most
    few = torch.cat((torch.linspace(0.5, 0.9, 9), torch.linspace(0.01, 0.02, 11), torch.tensor([0.1])))
    stay, middle = split(few, of=1000, least=9)
    assert (len(stay), len(middle)) == (9, 11), "one is left for the row of the rest"
    assert merge(torch.ones(21, 2), few, torch.ones(21, 2), stay, middle, sums=False).isfinite().all()


def test_centres_take_in_what_is_like_them_and_one_row_the_rest() -> None:
    scores, feats = planted(44)
    stay, middle = torch.tensor([3, 17]), torch.tensor([5, 20])
    made = merge(feats, scores, feats, stay, middle)
    assert made.shape == (5, 8)
    assert torch.equal(made[:2], feats[stay])
    free = [place for place in range(44) if place not in (3, 17)]
    for row, centre in ((2, 5), (3, 20)):
        others = sorted((own for own in free if own != centre), key=lambda own: -float(cosines(feats)[centre, own]))
        taken = others[:32]
        torch.testing.assert_close(made[row], feats[centre] + (feats[taken] * scores[taken, None]).sum(0))
    rest = [place for place in free if place not in (5, 20)]
    torch.testing.assert_close(made[4], (feats[rest] * scores[rest, None]).sum(0))
    mean = merge(feats, scores, feats, stay, middle, sums=False)
    torch.testing.assert_close(mean[4] * scores[rest].sum(), made[4])  # the weight of the rest is conserved
    ones = merge(torch.ones(44, 8), scores, feats, stay, middle, sums=False)
    torch.testing.assert_close(ones, torch.ones(5, 8))
    assert torch.equal(merge(feats, scores, feats, stay, middle[:0]), feats[stay]), "no centre, no row for the rest"


def test_recoverable_keeps_the_order_of_the_picture_and_adapts() -> None:
    scores, feats = planted()
    shown = frame(feats, (8, 8), {0: keyed(scores.log())})
    one = received_whole(shown[0].tokens.taps[0])
    torch.testing.assert_close(one, scores / scores.sum())
    stay, middle = split(one, 8, 1, 40)
    made = Recoverable(dull=40).reduce(shown)
    assert len(made.feats) == len(stay) + len(middle) + bool(len(middle))
    assert len(Recoverable(dull=2).reduce(shown).feats) <= 2
    found = [place for own in made.feats for place in range(64) if torch.equal(own, feats[place])]
    assert found == sorted(found)
    assert {3, 17, 30, 41} <= set(found)


# Methods that judge each token by itself


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fastervlm", {}),
        ("fopru", {}),
        ("vflowopt", {}),
        ("divprune", {}),
        ("todre", {}),
        ("todre", {"mode": "centre"}),
    ],
)
def test_where_tokens_stand_does_not_matter(name: str, options: dict[str, Any]) -> None:
    feats, states = normal(20, 6), normal(3, 2, 20, 4, seed=1)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(2))
    method: reduce.Reduce = build("model.reduce", reduce.TABLE, name, {"dull": 6, **options})
    first = kept(method, frame(feats, (4, 5), {0: Tap.of(*states)}))
    second = kept(method, frame(feats[order], (4, 5), {0: Tap.of(*states[:, :, order])}))
    assert sorted(int(order[place]) for place in second) == first
