"""Reducers that look back: HoliTom, CenterCLIP, TDC-lite and TS-LLaVA, against brute force and the authors' numbers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from stream.ops import top
from stream.reduce import Seen
from stream.reduce.centerclip import CenterClip, distances, k_medoids, segment
from stream.reduce.holitom import HoliTom, clustered, merge, segments, static
from stream.reduce.tdc import Tdc, cut
from stream.reduce.tsllava import TsLlava, canvas, evenly, layout
from stream.tap import Tap
from stream.types import Frame, VisualTokens


def seen(feats: list[Tensor], grid: tuple[int, int], every: int = 1, first: int = 0) -> list[Seen]:
    """A dull camera's frames with these tokens [N, D], every so-manieth of its numbers; the newest has a tap."""
    made = []
    for index, rows in enumerate(feats):
        heads = torch.randn(3, 2, len(rows), 4, generator=torch.Generator().manual_seed(index))
        number = first + index * every
        frame = Frame("door", number, 0, float(number), float(number), np.zeros((8, 8, 3), np.uint8))
        made.append(Seen(VisualTokens(rows, grid, None, {3: Tap.of(*heads)}), frame))
    return made


def film(seed: int, frames: int, places: int = 16, width: int = 6, changes: float = 0.25) -> Tensor:
    """[T, N, C]: from frame to frame some places change wholly, the others a little."""
    rng = torch.Generator().manual_seed(seed)
    made = [torch.randn(places, width, generator=rng)]
    for _ in range(frames - 1):
        fresh = torch.rand(places, 1, generator=rng) < changes
        new, noise = torch.randn(2, places, width, generator=rng)
        made.append(torch.where(fresh, new, made[-1] + 0.1 * noise))
    return torch.stack(made)


# HoliTom


def saves(still: Tensor, first: int, last: int) -> int:
    """Tokens that frames first .. last save as one stretch."""
    return (last - first) * int(still[first:last].all(0).sum()) if last > first else 0


@pytest.mark.parametrize("frames", [1, 2, 3, 5, 8])
def test_segments_save_what_the_best_of_all_cuts_saves(frames: int) -> None:
    for seed in range(8):
        rng = torch.Generator().manual_seed(seed)
        still = torch.rand(frames - 1, 12, generator=rng) < torch.rand(frames - 1, 1, generator=rng)
        best = 0
        for cuts in itertools.product((False, True), repeat=frames - 1):
            edges = [0, *(place + 1 for place, here in enumerate(cuts) if here), frames]
            best = max(best, sum(saves(still, first, end - 1) for first, end in itertools.pairwise(edges)))
        found, saved = segments(still)
        assert saved == best == sum(saves(still, first, last) for first, last in found)
        assert [frame for first, last in found for frame in range(first, last + 1)] == list(range(frames))


def test_a_segment_is_no_longer_than_allowed() -> None:
    found, saved = segments(torch.ones(9, 4, dtype=torch.bool), longest=4)
    assert max(last - first + 1 for first, last in found) == 4
    assert saved == 4 * (10 - len(found))


def test_equal_frames_are_one_segment_whose_tokens_are_the_frame() -> None:
    frame = torch.randn(16, 6, generator=torch.Generator().manual_seed(1))
    x = frame.expand(5, 16, 6)
    found, saved = segments(static(x, 0.8))
    assert (found, saved) == ([(0, 4)], 4 * 16)
    made = merge(x, torch.rand(5, 16), rate=0.2)  # a fifth of five equal frames: all that is in them
    torch.testing.assert_close(made.tokens, frame)
    assert made.places.tolist() == list(range(16))
    assert made.frames.tolist() == [0] * 16


def test_where_nothing_is_static_every_frame_keeps_its_most_attended() -> None:
    x, attention = film(2, 6), torch.rand(6, 16, generator=torch.Generator().manual_seed(3))
    made = merge(x, attention, rate=0.3, tau=1.01)
    for frame in range(6):
        own = made.frames == frame
        assert made.places[own].tolist() == top(attention[frame], math.ceil(0.3 * 16)).tolist()
        assert torch.equal(made.tokens[own], x[frame, made.places[own]])


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5])
def test_rounding_up_costs_less_than_a_token_a_frame(rate: float) -> None:
    for seed in range(5):
        x = film(seed, 12)
        made = merge(x, torch.rand(12, 16), rate)
        cuts, _ = segments(static(x, 0.8))
        assert rate * 12 * 16 - len(cuts) / 2 - 1e-6 <= len(made.tokens) < rate * 12 * 16 + 12 + len(cuts) / 2
    assert len(merge(x, torch.rand(12, 16), 1.0).tokens) >= 12 * 16 - segments(static(x, 0.8))[1]


def test_merging_gives_what_the_authors_code_gives() -> None:
    """cokeshao/HoliTom at e9b2972 on the same arrays, where its noise decides nothing."""
    rng = torch.Generator().manual_seed(3)
    frames = [torch.randn(16, 6, generator=rng)]
    for index in range(5):
        fresh = torch.rand(16, 1, generator=rng) < (0.8 if index == 2 else 0.25)
        new = torch.randn(16, 6, generator=rng)
        frames.append(torch.where(fresh, new, frames[-1] + 0.1 * torch.randn(16, 6, generator=rng)))
    x, attention = torch.stack(frames), torch.rand(6, 16, generator=rng)
    assert segments(static(x, 0.8)) == ([(0, 2), (3, 5)], 44)
    made = merge(x, attention, rate=0.2)
    theirs = """1.5965 0.2613 0.2756 1.9755 -0.0766 -0.8373 -0.3815 -0.5479 -0.5732 1.3818
                0.4326 0.5759 -0.3086 -0.2283 0.0158 0.8439 -0.0765 -0.1603 0.1856 1.2773"""
    torch.testing.assert_close(made.tokens[:, 0], torch.tensor([float(x) for x in theirs.split()]), atol=1e-4, rtol=0)
    assert made.frames.tolist() == [0] * 6 + [1] * 2 + [2] * 2 + [3] * 6 + [4] * 2 + [5] * 2
    assert made.places.tolist() == [1, 6, 7, 14, 0, 10, 0, 3, 0, 10, 6, 7, 9, 15, 2, 3, 2, 11, 11, 12]


def test_a_centre_weighs_beta_and_its_members_the_rest() -> None:
    blobs = torch.tensor([[0.0, 0], [0.1, 0], [0, 0.1], [9, 9], [9.1, 9], [9, 9.1]])
    for beta in (0.0, 0.6, 1.0):
        tokens, centres = clustered(blobs, 2, beta)
        assert [place // 3 for place in centres.tolist()] == [0, 1], "a centre in each blob"
        for token, centre in zip(tokens, centres.tolist(), strict=True):
            own = [place for place in range(6) if place // 3 == centre // 3 and place != centre]
            torch.testing.assert_close(token, beta * blobs[centre] + (1 - beta) * blobs[own].mean(0))
    whole, centres = clustered(blobs, 6)
    assert torch.equal(whole, blobs)
    assert centres.tolist() == [0, 1, 2, 3, 4, 5]


def test_in_a_stream_what_stayed_the_same_is_left_out() -> None:
    still = torch.randn(16, 8, generator=torch.Generator().manual_seed(4))
    moved = still.clone()
    moved[[3, 7]] = torch.randn(2, 8, generator=torch.Generator().manual_seed(5))
    made = HoliTom(dull=8).reduce(seen([still, still, moved], (4, 4)))
    assert made.places is not None
    assert made.places.tolist() == [3, 7]
    assert torch.equal(made.feats, moved[[3, 7]])
    again = HoliTom(dull=8).reduce(seen([still, still, moved, moved], (4, 4)))
    assert torch.equal(again.feats, made.feats), "the segment's first frame does not hold them"
    assert len(HoliTom(dull=8).reduce(seen([still] * 16, (4, 4))).feats) == 1, "a picture that stays costs one token"


def test_in_a_stream_the_first_frame_goes_by_attention() -> None:
    frame = torch.randn(16, 8, generator=torch.Generator().manual_seed(4))
    given = seen([frame], (4, 4))
    made = HoliTom(dull=5).reduce(given)
    assert made.places is not None
    assert made.places.tolist() == top(given[-1].tokens.taps[3].received(), 5).tolist()


def test_where_a_segment_begins_old_places_are_clustered_and_new_ones_chosen() -> None:
    """Ten equal frames, then one in which 12 of 16 places are new: it begins a segment of its own."""
    still = torch.randn(16, 8, generator=torch.Generator().manual_seed(4))
    fresh = still.clone()
    fresh[4:] = torch.randn(12, 8, generator=torch.Generator().manual_seed(6))
    given = seen([still] * 10 + [fresh], (4, 4))
    made = HoliTom(dull=8).reduce(given)
    assert made.places is not None
    old = (made.places < 4).sum()
    assert (int(old), len(made.places)) == (2, 8), "each kind has its share"
    expected, centres = clustered(fresh[:4], 2)
    assert made.places[:2].tolist() == centres.tolist()
    torch.testing.assert_close(made.feats[:2], expected)
    assert torch.equal(made.feats[2:], fresh[made.places[2:]])


def test_frames_on_another_grid_are_not_looked_at() -> None:
    frames = seen([torch.ones(4, 8)], (2, 2)) + seen([torch.ones(16, 8)], (4, 4))
    for method in (HoliTom(dull=3), TsLlava(dull=3), Tdc(dull=3), CenterClip(dull=3)):
        assert 1 <= len(method.reduce(frames).feats) <= 3


# CenterCLIP


def cost(x: Tensor, medoids: Tensor) -> float:
    return float(torch.cdist(x, x[medoids]).min(1).values.sum())


@pytest.mark.parametrize("seed", range(5))
def test_the_cost_never_rises_from_round_to_round(seed: int) -> None:
    x = torch.randn(60, 5, generator=torch.Generator().manual_seed(seed))
    costs = [cost(x, k_medoids(x, 6, rounds)[0]) for rounds in range(8)]
    assert all(after <= before * (1 + 1e-3) for before, after in itertools.pairwise(costs))
    assert costs[-1] < costs[0]


def test_the_start_is_the_longest_row_and_then_the_farthest() -> None:
    x = torch.tensor([[0.0, 0], [5, 0], [4.5, 0], [0, 3], [0, 2.9]])
    assert k_medoids(x, 1, rounds=0)[0].tolist() == [1]
    assert k_medoids(x, 2, rounds=0)[0].tolist() == [1, 3]
    assert k_medoids(x, 3, rounds=0)[0].tolist() == [0, 1, 3]


def test_two_medoids_are_as_good_as_the_best_two_or_nearly() -> None:
    best = 0
    for seed in range(20):
        rng = torch.Generator().manual_seed(seed)
        x = torch.randn(10, 3, generator=rng) + 3 * (torch.arange(10) % 2)[:, None]
        medoids, joins = k_medoids(x, 2)
        least = min(cost(x, torch.tensor(pair)) for pair in itertools.combinations(range(10), 2))
        assert cost(x, medoids) <= 1.1 * least
        best += cost(x, medoids) <= least * (1 + 1e-3)
        assert torch.equal(joins[medoids], torch.arange(2)), "medoids are members of their clusters"
    assert best > 10


def test_equal_frames_have_their_medoids_in_one_of_them() -> None:
    frame = torch.randn(16, 8, generator=torch.Generator().manual_seed(1))
    for count in (1, 5, 12):
        assert segment(frame.expand(4, 16, 8), count).max() < 16
    assert segment(frame.expand(4, 16, 8), 16).tolist() == list(range(16))
    assert not distances(frame.repeat(2, 1))[:16, 16:].diagonal().any()


def test_a_still_camera_costs_one_token_and_a_changed_corner_what_is_new() -> None:
    frame = torch.randn(16, 8, generator=torch.Generator().manual_seed(1))
    changed = frame.clone()
    changed[[14, 15]] += 9 * torch.eye(8)[:2]
    assert len(CenterClip(dull=4).reduce(seen([frame] * 4, (4, 4))).feats) == 1
    made = CenterClip(dull=4).reduce(seen([frame] * 3 + [changed], (4, 4)))
    assert made.places is not None
    assert made.places.tolist() == [14, 15]


# TDC-lite


def test_a_still_camera_begins_a_chunk_every_eight_frames() -> None:
    frame = torch.randn(144, 8, generator=torch.Generator().manual_seed(1))
    method = Tdc(dull=143)
    given = seen([frame] * 24, (12, 12))
    counts = [len(method.reduce(given[max(0, end - 8) : end]).feats) for end in range(1, 25)]
    full, rest = counts[0], counts[1]
    assert [place for place, count in enumerate(counts) if count == full] == [0, 8, 16]
    assert sum(counts) == 3 * (full + 7 * rest)
    assert (full, rest) == (132, 12)  # 143 and a ninth of it as far as whole rows and columns allow


def test_chunk_counts_are_the_papers() -> None:
    """144 tokens for a chunk's first frame, 16 for each of the others."""
    frame = torch.randn(196, 8, generator=torch.Generator().manual_seed(1))
    given = seen([frame] * 8, (14, 14))
    counts = [len(Tdc(dull=144).reduce(given[:end]).feats) for end in range(1, 9)]
    assert counts == [144] + [16] * 7


def test_a_chunk_begins_where_the_picture_changes() -> None:
    rng = torch.Generator().manual_seed(1)
    one, other = (torch.randn(16, 8, generator=rng) + torch.randn(8, generator=rng) * 3 for _ in range(2))
    given = seen([one, one, other, other], (4, 4), first=3)
    assert [cut(given[:end], 0.83) for end in range(1, 5)] == [True, False, True, False]
    assert not cut(given[:3], -1.0)


def test_a_camera_of_which_few_frames_are_kept_has_chunks_as_well() -> None:
    frame = torch.randn(16, 8, generator=torch.Generator().manual_seed(1))
    for every in (1, 2, 3, 10):
        given = seen([frame] * 80, (4, 4), every)
        begins = [end for end in range(20, 81) if cut(given[max(0, end - 8) : end], 0.83)]
        lengths = {after - before for before, after in itertools.pairwise(begins)}
        assert 4 <= min(lengths) <= max(lengths) <= 8, f"every {every}: {lengths}"


# TS-LLaVA


def test_grids_are_as_square_as_they_can_be() -> None:
    shapes = {1: (1, 1), 2: (2, 1), 4: (2, 2), 5: (5, 1), 6: (3, 2), 7: (7, 1), 8: (4, 2), 9: (3, 3), 12: (4, 3)}
    assert {count: layout(count) for count in shapes} == shapes


def test_samples_have_the_first_and_the_last_and_are_as_many_as_asked() -> None:
    for total, count in [(28800, 2880), (196, 49), (7, 2), (50, 6), (9, 8)]:
        places = evenly(total, count)
        assert (len(places), int(places[0]), int(places[-1])) == (count, 0, total - 1)
        assert (places[1:] > places[:-1]).all()
    assert evenly(3, 9).tolist() == [0, 1, 2], "fewer than asked for: all, where the authors' function raises"
    assert evenly(50, 6).tolist() == [0, 10, 20, 29, 39, 49], "theirs"


@pytest.mark.parametrize("side", [(12, 12), (14, 13), (48, 48)])
def test_a_cell_is_its_picture_resized(side: tuple[int, int]) -> None:
    pictures = torch.rand(6, 12, 12, 3, generator=torch.Generator().manual_seed(1))
    made = canvas(pictures, *side)
    high, wide = side[0] // 3, side[1] // 2
    assert made.shape == (3 * high, 2 * wide, 3), "smaller than asked for where it does not divide"
    for number, picture in enumerate(pictures):
        row, column = divmod(number, 2)
        cell = made[row * high : (row + 1) * high, column * wide : (column + 1) * wide]
        plane = picture.permute(2, 0, 1)[None]
        small = F.adaptive_avg_pool2d(plane, (high, wide))
        large = F.interpolate(plane, (high, wide), mode="bilinear")
        torch.testing.assert_close(cell.permute(2, 0, 1), (small if high < 12 or wide < 12 else large)[0])


def test_a_frame_brings_thumbnails_of_the_window_and_its_own_sample() -> None:
    frames = [torch.full((36, 4), float(value)) for value in range(8)]
    frames[-1] = torch.arange(36)[:, None].expand(36, 4) + 100.0
    made = TsLlava(dull=30).reduce(seen(frames, (6, 6)))
    assert made.grid == (1, 30)
    assert made.feats[:4, 0].tolist() == [0.0, 2.0, 5.0, pytest.approx(117.5)], "equidistant, first and newest"
    assert made.feats[4:, 0].tolist() == (100 + evenly(36, 26)).tolist()
    assert TsLlava(dull=4).reduce(seen(frames, (6, 6))).feats[:, 0].tolist() == [100.0, 112.0, 123.0, 135.0]
