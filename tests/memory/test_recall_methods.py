"""Published recall methods: what the description of each says that it does, on hand-made relevance."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from memory import recall
from memory.recall import Asked, Look, Rows
from memory.recall.bvllm import joined, owners
from memory.recall.choose import blocks, pooled
from memory.recall.f2c import anchors, best_length, clip, peaks, shrunk
from memory.recall.qtsplus import budgeted, share
from memory.recall.recoverable import standing_out
from memory.recall.rekv import votes
from memory.recall.savemem import about_now, running
from memory.recall.score import by_head
from memory.recall.videoxl2 import mixed, opened, runs
from stream.types import Span

WIDTH = 8


def asked(text: str = "is there a car?") -> Asked:
    """A question of one layer and head that looks for the first axis."""
    query = F.one_hot(torch.tensor([[0]]), WIDTH).float()[None][:, 0]
    return Asked(text, Look(query, query, query[0, 0], None, None))


def rows(relevance: Sequence[float], digests: Tensor | None = None) -> Rows:
    """Carriers that are as relevant as that, and nothing alike otherwise."""
    n = len(relevance)
    keys = torch.zeros(1, 1, n, WIDTH)
    keys[0, 0, :, 0] = torch.tensor(relevance)
    spans = [Span(float(t), float(t)) for t in range(n)]
    made_up = torch.randn(n, 64, generator=torch.Generator().manual_seed(2))
    return Rows(range(n), spans, [False] * n, made_up if digests is None else digests, keys)


def groups(name: str, relevance: Sequence[float], room: int, **options: Any) -> list[list[int]]:
    method = recall.make({name: options})
    return [list(group) for group in method.groups(asked(), rows(relevance), room)]


def singles(*places: int) -> list[list[int]]:
    return [[place] for place in places]


# -- ReKV


def test_rekv_of_one_layer_is_its_ranking() -> None:
    scores = torch.tensor([[0.5, 3.0, 1.0, 3.0, -1.0]])
    assert votes(scores, 2) == [1, 3, 2, 0, 4]


def test_rekv_counts_layers_and_not_how_sure_one_is() -> None:
    scores = torch.tensor([[1.0, 2.0, 0.0], [1.0, 2.0, 0.0], [0.0, -90.0, 1.0]])
    assert votes(scores, 1)[0] == 1


def test_rekv_reads_the_newest_of_the_bank_anyhow() -> None:
    given_rows = rows([5.0, 0, 0, 4.0, 0, 0, 0, 0, 0, 0])
    held = Rows(given_rows.frames, given_rows.spans, [t > 5 for t in range(10)], given_rows.digests, given_rows.keys)
    assert recall.make({"rekv": {"local": 2}}).select(asked(), held, 4) == [0, 3, 8, 9]


# -- Video-XL-2


def test_videoxl2_reads_ends_and_best_blocks_dense_and_the_rest_four_to_one() -> None:
    relevance = [0.0] * 48
    relevance[20:24] = [9.0] * 4
    found = groups("videoxl2", relevance, 24, block=4, dense=1)
    dense = [*range(4), *range(20, 24), *range(44, 48)]
    assert [group for group in found if len(group) == 1] == singles(*dense)
    starts = [*range(4, 20, 4), *range(24, 44, 4)]
    assert [group for group in found if len(group) > 1] == [list(range(start, start + 4)) for start in starts]
    assert len(found) == 12 + 9, "its length formula: dense carriers, and a fourth of the others"


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 5), st.integers(1, 60), st.integers(0, 2**12))
def test_videoxl2_groups_everything_within_the_room(count: int, size: int, step: int, room: int, bits: int) -> None:
    parts = blocks(count, size)
    dense = opened(parts, [number for number in range(len(parts)) if bits >> number & 1], room)
    found = mixed(parts, dense, step, room)
    assert len(found) <= room
    assert [index for group in found for index in group] == list(range(count))
    assert all(len(group) == 1 for group in found if any(group[0] in parts[number] for number in dense))
    plain = mixed(parts, dense, step, 10**6)
    alone = sum(len(parts[number]) for number in dense)
    assert len(plain) == alone + sum(-(-len(run) // step) for run in runs(parts, dense))
    assert [list(group) for group in mixed(parts, dense, 1, 10**6)] == singles(*range(count)), (
        "step 1: nothing is pooled"
    )


def test_videoxl2_pools_as_an_average_pool_does() -> None:
    """Its sparse keys: an average pool along the sequence, step 4, for every head."""
    keys = torch.randn(2, 3, 16, 4)
    given_rows = Rows(range(16), [Span(0.0, 0.0)] * 16, [False] * 16, torch.randn(16, 5), keys)
    ours = pooled(given_rows, mixed([range(16)], set(), 4, 99)).keys
    theirs = F.avg_pool1d(keys.permute(0, 1, 3, 2).flatten(0, 1), 4, 4).view(2, 3, 4, 4).permute(0, 1, 3, 2)
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_route_pools_where_its_method_does() -> None:
    options: dict[str, Any] = {"videoxl2": {"block": 4, "dense": 1}}
    assert groups("route", [0.0] * 48, 24, past=options) == groups("videoxl2", [0.0] * 48, 24, block=4, dense=1)


# -- VideoStreaming


def test_videostreaming_finds_the_odd_clip_and_reads_as_much_of_any_past() -> None:
    for count in (64, 640):
        relevance = [0.0] * count
        relevance[37] = 1.0
        chosen = recall.make({"videostreaming": {"clip": 8, "clips": 3}}).select(asked(), rows(relevance), 50)
        assert set(range(32, 40)) <= set(chosen)
        assert len(chosen) == 24, "constant"


def test_videostreaming_reads_whole_clips() -> None:
    chosen = recall.make({"videostreaming": {"clip": 8, "clips": 9}}).select(asked(), rows(list(range(64))), 30)
    assert list(chosen) == list(range(40, 64))


# -- B-VLLM


def test_bvllm_merges_repeats_into_one_and_keeps_time_order() -> None:
    axes = torch.eye(8)
    digests = torch.stack([axes[0], axes[0], axes[1], axes[1] + 0.01 * axes[2], axes[0], axes[3], axes[4], axes[5]])
    found = recall.make({"bvllm": {}}).groups(asked(), rows([1.0] * 8, digests), 8)
    assert [list(group) for group in found] == [[0, 1], [2, 3], [5], [6], [7]], "the late repeat of 0 tells nothing new"


@pytest.mark.parametrize("count", [1, 2, 9])
def test_bvllm_reads_one_of_what_never_changes(count: int) -> None:
    found = recall.make({"bvllm": {}}).groups(asked(), rows([0.0] * count, torch.full((count, 5), 0.3)), 9)
    assert [list(group) for group in found] == [list(range(count))]


def test_bvllm_takes_the_best_earlier_match() -> None:
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [-1.0, 0.0]])
    assert owners(vectors, 0.75) == [0, 1, 1, 3], "0.8 to the second, 0.6 to the first"
    assert owners(vectors, 1.01) == [0, 1, 2, 3]
    turning = torch.arange(10.0) * 0.5
    assert owners(torch.stack((turning.cos(), turning.sin()), 1), 0.75) == [0, 0, 0, 3, 3, 3, 6, 6, 6, 9], "slow change"
    assert joined([4, 6, 7, 9], [0, 1, 1, 0]) == [[4], [6, 7]]


# -- F2C


def test_f2c_puts_one_anchor_on_a_single_peak() -> None:
    assert peaks([0, 1, 2, 5, 3, 1, 0]) == [3]
    assert peaks([0, 2, 1, 3, 1]) == [1, 3]
    assert peaks([4.0]) == [0]


def test_f2c_spreads_anchors_in_time_where_nothing_stands_out() -> None:
    found = anchors([1.0] * 40, list(range(40)), 4)
    assert len(found) == 4
    assert all(later - sooner in range(8, 13) for sooner, later in pairwise(found))


def test_f2c_takes_the_best_of_each_cluster() -> None:
    scores = [0, 1, 0, 2, 0, 0, 0, 3, 0, 1, 0]
    times = [0, 1, 2, 3, 4, 50, 51, 52, 53, 54, 55]
    assert anchors(scores, times, 2) == [3, 7]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(0, 1, width=16), min_size=1, max_size=12), st.integers(1, 6), st.integers(0, 99))
def test_f2c_finds_the_length_that_trying_all_finds(relevance: list[float], longest: int, seed: int) -> None:
    n = len(relevance)
    scores = torch.tensor(relevance)
    alike = torch.rand(n, n, generator=torch.Generator().manual_seed(seed))
    alike = (alike + alike.T) / 2
    anchor = seed % n
    worth = []
    for length in range(1, min(longest, n) + 1):
        own = list(clip(anchor, length, n))
        pairs = [float(alike[a, b]) for a, b in combinations(own, 2)]
        repeats = sum(pairs) / len(pairs) if pairs else 0.0
        worth.append(float(scores[own].mean()) - 0.5 * repeats + 0.05 * length / longest)
    found = best_length(scores, alike, anchor, longest, (0.5, 0.05))
    assert worth[found - 1] == pytest.approx(max(worth), abs=1e-5)
    assert best_length(scores, alike + 0.01, anchor, longest, (1e6, 0.05)) == 1, "repeats cost everything"


def test_f2c_merges_clips_that_overlap_and_the_finer_one_wins() -> None:
    assert shrunk([(range(0, 4), 1), (range(2, 6), 1)], 9) == singles(0, 1, 2, 3, 4, 5)
    assert shrunk([(range(0, 4), 2), (range(2, 6), 1)], 9) == [[0, 1], [2], [3], [4], [5]]
    assert shrunk([(range(0, 4), 2), (range(6, 10), 2)], 2) == [[0, 1, 2, 3], [6, 7, 8, 9]], "where room is short"


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(1, 30), st.sampled_from([0.1, 0.25, 1.0]))
def test_f2c_stays_within_its_budget(relevance: list[int], room: int, part: float) -> None:
    found = groups("f2c", relevance, room, anchors=part, repeats=0.0)
    flat = [place for group in found for place in group]
    assert flat == sorted(set(flat))
    assert 1 <= len(found) <= room


# -- SAVEMem


def test_savemem_reads_only_now_where_now_fits() -> None:
    method = recall.make({"savemem": {"recent": 4}})
    now = [0.0] * 16 + [3.0] * 4
    assert list(method.select(asked(), rows(now), 8)) == [16, 17, 18, 19]
    past = [3.0] * 4 + [0.0] * 16
    assert list(method.select(asked("what was there?"), rows(past), 8))[:4] == [0, 1, 2, 3]


def test_savemem_compares_with_a_running_mean() -> None:
    likeness = torch.tensor([4.0, 2.0, 1.0])
    assert running(likeness, 0.5) == 2.0  # 4 -> 3 -> 2
    assert about_now(likeness, 1, 0.5, 0.5)
    assert not about_now(likeness, 1, 0.6, 0.5)
    assert about_now(likeness, 2, 1.0, 0.5)


# -- QTSplus


def test_qtsplus_budget_goes_from_sharp_to_flat() -> None:
    assert share(torch.ones(50), 0.05, 0.5) == pytest.approx(0.5)
    assert share(F.one_hot(torch.tensor(7), 50).float(), 0.05, 0.5) == pytest.approx(0.05)
    half = torch.tensor([1.0] * 10 + [0.0] * 90)
    assert share(half, 0.0, 1.0) == pytest.approx(0.5), "log 10 of log 100"


def test_qtsplus_keeps_the_best_in_order() -> None:
    assert budgeted(torch.tensor([0.1, 0.4, 0.1, 0.3, 0.1]), 0.4, 0.4, 9).tolist() == [1, 3]
    assert budgeted(torch.ones(40), 0.05, 0.5, 99).tolist() == list(range(20))
    assert len(budgeted(torch.ones(40), 0.05, 0.5, 7)) == 7


def test_a_head_attends_as_attention_does() -> None:
    newest, mean = torch.randn(2, 3, 4, 8)
    keys = torch.randn(3, 2, 6, 8)
    found = by_head(Look(newest, mean, torch.zeros(1), None, None), keys, 1)
    eye = torch.eye(6).expand(4, 6, 6)
    wanted = [
        F.scaled_dot_product_attention(query[1, :, None], keys[1].repeat_interleave(2, 0), eye)[:, 0]
        for query in (newest, mean)
    ]
    assert torch.allclose(found, torch.cat(wanted), atol=1e-6)


# -- Recoverable Compression


def test_recoverable_finds_what_was_planted() -> None:
    relevance = torch.randn(60, generator=torch.Generator().manual_seed(1)) * 0.1
    relevance[[7, 30, 31]] = torch.tensor([5.0, 8.0, 11.0])
    assert {7, 30, 31} <= set(standing_out(relevance, 20, 1, 60).tolist())


def test_recoverable_falls_back_to_the_least() -> None:
    assert standing_out(torch.linspace(0, 1, 40), 20, 5, 40).tolist() == [35, 36, 37, 38, 39]
    assert len(standing_out(torch.linspace(0, 1, 40), 20, 5, 3)) == 3
