"""Published ways to read recent tokens: what the description of each says that it does, on hand-made relevance."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from memory import focus
from memory.focus import Reading, Tokens
from memory.focus.freevideo import middle_frames, roi_box
from memory.focus.pool import averages, bilinear, reading, sides, spread
from memory.focus.ppllava import fitted, pooling, windows
from memory.focus.quota import quotas, shares
from memory.focus.score import frame_means
from memory.recall import Asked, Look

WIDTH = 4


def asked() -> Asked:
    """A question of one layer and head that looks for the first axis."""
    query = F.one_hot(torch.tensor([[[0]]]), WIDTH).float()[0]
    return Asked("is there a car?", Look(query, query, query[0, 0], None, None))


def tokens(relevance: Tensor) -> Tokens:
    """Frames [F, H, W] whose tokens are as relevant as that."""
    frames, high, wide = relevance.shape
    keys = torch.zeros(1, 1, relevance.numel(), WIDTH)
    keys[0, 0, :, 0] = relevance.flatten()
    area = high * wide
    owner = torch.arange(frames).repeat_interleave(area)
    return Tokens(keys, keys, owner, torch.arange(area).repeat(frames), (high, wide))


def read(name: str, relevance: Tensor, room: int, **options: object) -> Reading:
    return focus.make({name: options}).select(asked(), tokens(relevance), room)


# -- means on a grid


def test_cells_are_what_torch_makes_of_a_grid() -> None:
    grid = torch.randn(27, 27, 3)
    planes = grid.permute(2, 0, 1)[None]
    wanted = F.interpolate(planes, size=(14, 14), mode="bilinear").flatten(2)[0].T
    assert torch.allclose(bilinear((27, 27), (14, 14)) @ grid.flatten(0, 1), wanted, atol=1e-5)
    wanted = F.adaptive_avg_pool2d(planes[..., 2:25, 5:20], (4, 5)).flatten(2)[0].T
    assert torch.allclose(averages((27, 27), (4, 5), (2, 25, 5, 20)) @ grid.flatten(0, 1), wanted, atol=1e-5)


@given(st.integers(1, 800), st.integers(1, 27), st.integers(1, 27))
def test_sides_fit(count: int, high: int, wide: int) -> None:
    found = sides(count, (high, wide))
    assert 1 <= found[0] <= high
    assert 1 <= found[1] <= wide
    assert found[0] * found[1] <= count
    if (high, wide) == (27, 27) and count <= 729:
        side = math.isqrt(count)
        assert found == ((side + 1, side) if (side + 1) * side <= count and side < 27 else (side, side))


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=18, max_size=18), st.integers(1, 3), st.integers(1, 3))
def test_whatever_tokens_a_frame_has_each_cell_reads_something(there: list[bool], high: int, wide: int) -> None:
    flat = [place for place, held in enumerate(there) if held] or [4]
    owner = torch.unique(torch.tensor(flat) // 9, return_inverse=True)[1]
    made_up = Tokens(
        torch.zeros(1, 1, len(flat), 4), torch.zeros(1, 1, len(flat), 4), owner, torch.tensor(flat) % 9, (3, 3)
    )
    parts = [spread(averages((3, 3), (high, wide)), made_up, frame) for frame in sorted(set(owner.tolist()))]
    found = reading(parts, made_up)
    assert found.weights is not None
    assert found.rows.tolist() == sorted(set(found.rows.tolist()))
    assert torch.allclose(found.weights.sum(1), torch.ones(len(found.rows)))
    per_frame = torch.bincount(owner)
    assert torch.bincount(owner[found.rows]).tolist() == per_frame.clamp(max=high * wide).tolist()


# -- QuoTA


def test_quota_of_equal_chances_is_equal_and_a_plain_bilinear_pool() -> None:
    counts = quotas(shares(torch.full((3,), 0.7)), [729] * 3, 588)
    assert counts == [196, 196, 196]
    assert sides(196, (27, 27)) == (14, 14)
    found = read("quota", torch.zeros(2, 6, 6), 18)
    assert found.weights is not None
    assert torch.allclose(found.weights[:9, :36], bilinear((6, 6), (3, 3)), atol=1e-6)
    assert len(found.rows) == 18


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=12), st.integers(1, 4000))
def test_quotas_stay_in_the_room_and_rise_with_the_chance(chances: list[float], room: int) -> None:
    p = torch.tensor(chances)
    counts = quotas(shares(p), [196] * len(chances), room)
    assert sum(counts) <= room
    assert max(counts) <= 196
    order = torch.argsort(p, stable=True).tolist()
    assert [counts[place] for place in order] == sorted(counts)
    if all(count < 196 for count in counts):
        weights = (100 * p.double()) ** 2 / ((100 * p.double()) ** 2).sum()
        assert counts == [int(room * float(weight) + 1e-6) for weight in weights]


def test_quota_of_one_frame_that_has_it_all_saturates() -> None:
    one = torch.tensor([0.0, 1.0, 0.0])
    assert quotas(shares(one), [729] * 3, 1000) == [0, 729, 0]
    nearly = torch.tensor([0.01, 0.99, 0.01])
    assert quotas(shares(nearly), [729] * 3, 1000) == [135, 729, 135], "the surplus is handed on"


def test_quota_gives_the_frame_that_is_asked_about_more() -> None:
    relevance = torch.zeros(3, 4, 4)
    relevance[1, 1:3, 1:3] = 3.0
    counts = torch.bincount(tokens(relevance).frames[read("quota", relevance, 20).rows], minlength=3).tolist()
    assert counts[1] > counts[0] == counts[2]


# -- PPLLaVA


def theirs(weights: Tensor, x: Tensor, window: tuple[int, int, int], temperature: float) -> Tensor:
    """Window by window, in plain loops."""
    out = []
    steps = [range(0, size, step) for size, step in zip(weights.shape, window, strict=True)]
    for f in steps[0]:
        for r in steps[1]:
            for c in steps[2]:
                part = (slice(f, f + window[0]), slice(r, r + window[1]), slice(c, c + window[2]))
                share = (weights[part].flatten() / temperature).softmax(0)
                out.append(share @ x[part].flatten(0, 2))
    return torch.stack(out)


@pytest.mark.parametrize("window", [(2, 3, 3), (1, 3, 3), (2, 4, 5)])
@pytest.mark.parametrize("temperature", [0.01, 1.0])
def test_ppllava_pools_each_window_by_its_own_softmax(window: tuple[int, int, int], temperature: float) -> None:
    rng = torch.Generator().manual_seed(5)
    x = torch.randn(4, 6, 6, 8, generator=rng)
    weights = torch.randn(144, generator=rng).softmax(0).view(4, 6, 6)
    ours = pooling(weights.flatten(), windows(tokens(weights), window), temperature) @ x.flatten(0, 2)
    assert torch.allclose(ours, theirs(weights, x, window, temperature), atol=1e-5)


def test_ppllava_of_equal_relevance_is_average_pooling() -> None:
    found = read("ppllava", torch.zeros(4, 6, 6), 8)
    assert found.weights is not None
    x = torch.randn(1, 1, 4, 6, 6)
    assert torch.allclose(found.weights @ x.flatten(), F.avg_pool3d(x, (2, 3, 3)).flatten(), atol=1e-6)


def test_ppllava_picks_the_best_token_as_the_temperature_falls() -> None:
    relevance = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(7))
    found = read("ppllava", relevance, 1, raw=True, temperature=1e-4)
    assert found.weights is not None
    assert found.rows.tolist() == [int(relevance.flatten().argmax())]
    assert float(found.weights.max()) == pytest.approx(1.0)


def test_ppllava_gives_what_stands_out_its_window() -> None:
    relevance = torch.zeros(2, 6, 6)
    relevance[1, 4, 4] = 9.0
    found = read("ppllava", relevance, 4)
    assert found.weights is not None
    assert found.rows.tolist() == [0, 3, 18, 64]
    assert float(found.weights[3, 64]) > 0.9
    assert torch.allclose(found.weights[:3].max(1).values, torch.full((3,), 1 / 18), atol=1e-4)


def test_ppllava_windows_grow_to_the_room() -> None:
    assert fitted((2, 3, 3), 32, (24, 24), 1024) == (2, 3, 3), "32 frames of 24 x 24 make 1024"
    assert fitted((2, 3, 3), 8, (14, 14), 64) == (2, 4, 4)
    assert fitted((2, 3, 3), 8, (3, 3), 2) == (4, 3, 3)
    assert fitted((2, 3, 3), 8, (3, 3), 1) == (8, 3, 3)


# -- Free Video-LLM


@pytest.mark.parametrize(
    ("grid", "ratio", "box"),
    [
        ((14, 14), 0.3, (0, 8, 3, 11)),
        ((14, 14), 0.5, (0, 10, 2, 12)),
        ((14, 14), 0.8, (0, 13, 1, 14)),
        ((27, 27), 0.3, (4, 19, 5, 20)),
        ((27, 27), 0.5, (2, 21, 3, 22)),
        ((27, 27), 0.8, (0, 24, 0, 24)),
    ],
)
def test_the_box_is_the_authors(grid: tuple[int, int], ratio: float, box: tuple[int, int, int, int]) -> None:
    """What `roi_box` of contrastive/FreeVideoLLM (1d62394) gives for the same places."""
    places = torch.arange(20)[:7] * 7919 % (grid[0] * grid[1])
    assert roi_box(places, grid, ratio) == box


@given(st.integers(1, 27), st.integers(1, 27), st.floats(0.05, 1.0), st.data())
def test_the_box_is_inside_and_has_its_size(high: int, wide: int, ratio: float, data: st.DataObject) -> None:
    places = data.draw(st.lists(st.integers(0, high * wide - 1), min_size=1, max_size=30))
    top, bottom, left, right = roi_box(torch.tensor(places), (high, wide), ratio)
    assert (bottom - top, right - left) == (round(high * math.sqrt(ratio)), round(wide * math.sqrt(ratio)))
    assert 0 <= top <= bottom <= high
    assert 0 <= left <= right <= wide
    assert roi_box(torch.tensor(places), (high, wide), 1.0) == (0, high, 0, wide), "no crop"


def test_the_box_is_where_the_blob_is() -> None:
    blob = torch.tensor([row * 14 + column for row in range(9, 12) for column in range(2, 5)])
    assert roi_box(blob, (14, 14), 0.2) == (7, 13, 0, 6), "around (10, 3)"


def test_middle_frames_are_even_from_the_first_on() -> None:
    assert middle_frames(50, 5) == [0, 10, 20, 30, 40]
    assert middle_frames(3, 5) == [0, 1, 2]


def test_freevideo_counts_its_three_paths() -> None:
    relevance = torch.zeros(8, 14, 14)
    relevance[[1, 4, 6], 5:9, 5:9] = 5.0
    found = read("freevideo", relevance, 700)
    counts = torch.bincount(tokens(relevance).frames[found.rows], minlength=8)
    cropped = 13 * 6  # round(14 sqrt 0.8) rows and half as many columns
    assert counts.tolist() == [16 + (cropped if frame in {0, 1, 3, 4, 6} else 0) for frame in range(8)]
    plain = read("freevideo", relevance, 700, slow=0, middle=0)
    assert plain.weights is not None
    x = torch.randn(8, 1, 14, 14)
    assert torch.allclose(plain.weights @ x.flatten(), F.adaptive_avg_pool2d(x, 4).flatten(), atol=1e-5)


# -- B-VLLM


def test_bvllm_shares_the_room_among_frames_and_reads_repeats_as_one() -> None:
    given_tokens = tokens(torch.zeros(4, 6, 6))
    looks_like = torch.eye(WIDTH)[[1, 2, 1, 3]].repeat_interleave(36, 0)  # the third frame shows what the first does
    found = focus.make({"bvllm": {}}).select(asked(), replace(given_tokens, keys=looks_like[None, None]), 40)
    assert found.weights is not None
    assert torch.bincount(given_tokens.frames[found.rows], minlength=4).tolist() == [12, 12, 0, 12], "4 x 3 each"
    both = found.weights[:12].view(12, 4, 36)
    assert torch.allclose(both[:, 0], averages((6, 6), (4, 3)) / 2)
    assert torch.allclose(both[:, 2], both[:, 0])


def test_bvllm_takes_the_best_frames() -> None:
    relevance = torch.arange(5.0)[:, None, None] * torch.ones(5, 2, 2)
    found = read("bvllm", relevance, 9, frames=2, same=1.01)
    assert found.rows.tolist() == [12, 13, 14, 15, 16, 17, 18, 19]


# -- QTSplus and Recoverable Compression


def test_qtsplus_reads_less_where_attention_is_sharp() -> None:
    sharp = torch.zeros(2, 6, 6)
    sharp[1, 2, 2] = 40.0
    assert read("qtsplus", sharp, 60).rows.tolist() == [0, 1, 2, 50], "the one, and the least there may be"
    assert len(read("qtsplus", torch.zeros(2, 6, 6), 60).rows) == 36


def test_recoverable_finds_the_planted_tokens() -> None:
    relevance = torch.linspace(0, 1, 72).view(2, 6, 6)
    relevance[0, 2, 3] = 9.0
    assert 15 in read("recoverable", relevance, 60, least=1).rows.tolist()
    assert len(read("recoverable", torch.zeros(2, 6, 6), 60, least=5).rows) == 5


def test_frame_means() -> None:
    assert frame_means(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 1])).tolist() == [2.0, 5.0]
    assert frame_means(torch.zeros(0), torch.zeros(0, dtype=torch.long)).tolist() == []
