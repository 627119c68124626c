"""Each retention against what its description names: brute force, a closed form, a stream with a known end."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import combinations, pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from memory import retain
from memory.retain import TABLE, Rows
from memory.retain.anypair import closest
from memory.retain.decay import leaving
from memory.retain.facility import losses
from memory.retain.forest import penalties
from memory.retain.kmeans import lloyd, shared, turned
from memory.retain.maxmin import crowded
from stream.ops import cosines
from stream.types import Span
from tests.memory.test_bank import carrier, small_bank


def digests(count: int, seed: int = 0, width: int = 5) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def stream(spec: dict[str, Any], vectors: Tensor, size: int, seed: int = 0) -> list[list[int]]:
    """What a memory of `size` stands for after all `vectors` [T, D], one a second: frames that went into each row."""
    method, rng = retain.make(spec), torch.Generator().manual_seed(seed)
    held: list[tuple[Tensor, Span, list[int]]] = []
    for number, vector in enumerate(vectors):
        held.append((vector, Span(float(number), float(number)), [number]))
        if len(held) <= size:
            continue
        rows = Rows(
            torch.stack([row[0] for row in held]), [row[1] for row in held], [row[2][-1] for row in held], number + 1
        )
        choice = method.choose(rows, rng)
        gone = held[choice.leaves]
        if choice.into is not None:
            into = held[choice.into]
            weights = torch.tensor([gone[1].count, into[1].count])
            mean = torch.stack((gone[0], into[0])).T @ (weights / weights.sum())
            held[choice.into] = (mean if choice.how == "merge" else into[0], gone[1].join(into[1]), gone[2] + into[2])
        del held[choice.leaves]
    return [row[2] for row in held]


def lasting(spec: dict[str, Any], vectors: Tensor, size: int, seed: int = 0) -> list[int]:
    return [row[-1] for row in stream(spec, vectors, size, seed)]


def test_sinks_and_window() -> None:
    assert lasting({"sinks": {"sinks": 2}}, digests(20), 6) == [0, 1, 16, 17, 18, 19]
    assert lasting({"sinks": {"sinks": 0}}, digests(20), 3) == lasting({"fifo": {}}, digests(20), 3)
    assert lasting({"sinks": {"sinks": 9}}, digests(20), 4) == [0, 1, 2, 19]


def test_a_reservoir_is_uniform_over_the_stream() -> None:
    """Each of T - 1 frames survives with chance (M - 1) / (T - 1): chi-square over 4000 seeds."""
    count, size, seeds = 25, 5, 4000
    vectors, seen = torch.zeros(count, 1), [0] * count
    for seed in range(seeds):
        survivors = lasting({"reservoir": {}}, vectors, size, seed)
        assert survivors[-1] == count - 1
        for frame in survivors:
            seen[frame] += 1
    share = (size - 1) / (count - 1)
    chi = sum((found - seeds * share) ** 2 / (seeds * share * (1 - share)) for found in seen[:-1])
    assert chi < 24 + 4 * math.sqrt(2 * 24)  # about four deviations; 24 degrees of freedom
    skewed = [seen[0] * 1.2, *seen[1:-1]]
    assert sum((found - seeds * share) ** 2 / (seeds * share * (1 - share)) for found in skewed) > 24 + 4 * math.sqrt(
        48
    )


def test_decay_is_independent_keeping_given_that_one_leaves() -> None:
    """Closed form: the probability that exactly one of the independent coins falls, normalised."""
    ages = torch.tensor([0.1, 0.7, 2.5])
    kept = torch.exp(-ages.double())
    alone = torch.stack([(1 - kept[i]) * kept[[j for j in range(3) if j != i]].prod() for i in range(3)])
    assert torch.allclose(leaving(ages), alone / alone.sum())
    assert torch.allclose(leaving(torch.zeros(4)), torch.full((4,), 0.25, dtype=torch.float64))
    assert torch.isfinite(leaving(torch.tensor([0.0, 1e7]))).all()


def test_decay_draws_by_that_law() -> None:
    rows = Rows(digests(4), [Span(t, t) for t in (0.0, 60.0, 90.0, 100.0)], [0, 1, 2, 3], 4)
    method, rng = retain.make({"decay": {"tau_s": 100.0}}), torch.Generator().manual_seed(1)
    drawn = torch.bincount(torch.tensor([method.choose(rows, rng).leaves for _ in range(4000)]), minlength=3) / 4000
    assert (drawn - leaving(torch.tensor([1.0, 0.4, 0.1]))).abs().max() < 0.03
    assert retain.make({"decay": {"leaves": "least"}}).choose(rows, rng).leaves == 0


def test_any_pair_is_the_best_of_all_pairs() -> None:
    for seed in range(30):
        x = digests(9, seed)
        alike = cosines(x)
        best = max(combinations(range(9), 2), key=lambda pair: float(alike[pair]))
        assert closest(x) == best
    assert closest(torch.ones(4, 3)) == (0, 1)


@pytest.mark.parametrize("how", ["drop", "merge"])
def test_views_that_take_turns_compress_to_one_each(how: str) -> None:
    """C D A B A B A B in a bank of four: neighbours never look alike, pairs anywhere do."""
    views = torch.eye(4)
    vectors = views[[2, 3, 0, 1, 0, 1, 0, 1]]
    kinds = {
        frozenset(int(vectors[frame].argmax()) for frame in row)
        for row in stream({"anypair": {"when_full": how}}, vectors, 4)
    }
    assert kinds == {frozenset({0}), frozenset({1}), frozenset({2}), frozenset({3})}
    neighbours = {int(vectors[frame].argmax()) for frame in lasting({"adjacent": {"when_full": "drop"}}, vectors, 4)}
    assert neighbours != {0, 1, 2, 3}


def test_the_coin_takes_either_of_the_most_alike_neighbours_and_never_the_newest() -> None:
    rows = Rows(torch.tensor([[1.0, 0], [0, 1], [0.1, 1], [1, 1]]), [Span(t, t) for t in range(4)], [0, 1, 2, 3], 4)
    method, rng = retain.make({"coin": {}}), torch.Generator().manual_seed(0)
    drawn = [method.choose(rows, rng).leaves for _ in range(400)]
    assert set(drawn) == {1, 2}
    assert 140 < drawn.count(1) < 260
    last = Rows(torch.tensor([[1.0, 0], [0, 1], [0, 1]]), rows.spans[:3], [0, 1, 2], 3)
    assert {method.choose(last, rng).leaves for _ in range(50)} == {1}


def test_lloyd_never_gets_worse_and_ends_in_a_fixed_point() -> None:
    for seed in range(10):
        x, weights = digests(20, seed, 3), torch.rand(20, generator=torch.Generator().manual_seed(seed)) + 0.1
        errors = []
        for steps in range(1, 11):
            centres, _ = lloyd(x, weights, x[:6], steps)
            errors.append(float((weights * torch.cdist(x, centres).min(1).values.square()).sum()))
        assert all(after <= before + 1e-5 for before, after in pairwise(errors))
        centres, labels = lloyd(x, weights, x[:6], 100)
        assert torch.equal(labels, torch.cdist(x, centres).argmin(1))
        for label in set(labels.tolist()):
            mine = labels == label
            assert torch.allclose(
                centres[label], (weights[mine, None] * x[mine]).sum(0) / weights[mine].sum(), atol=1e-4
            )


def test_lloyd_finds_the_best_split_of_what_is_apart() -> None:
    """Brute force over all splits in two of eight weighted points on a line, two heaps."""
    x = torch.tensor([[0.0], [0.2], [0.3], [0.5], [7.0], [7.1], [7.5], [8.0]])
    weights = torch.tensor([1.0, 3, 1, 1, 2, 1, 1, 5])

    def error(rows: tuple[int, ...]) -> float:
        chosen, share = x[list(rows)], weights[list(rows), None]
        return float((share * (chosen - (share * chosen).sum(0) / share.sum()).square()).sum())

    splits = [rows for size in range(1, 8) for rows in combinations(range(8), size)]
    best = min(splits, key=lambda rows: error(rows) + error(tuple(set(range(8)) - set(rows))))
    _, labels = lloyd(x, weights, x[[0, 7]])
    found = tuple((labels == labels[best[0]]).nonzero().flatten().tolist())
    assert found == best


def test_empty_clusters_are_filled_and_a_pair_is_always_shared() -> None:
    x = torch.tensor([[0.0], [0.0], [0.0], [5.0], [9.0]])
    centres, labels = lloyd(x, torch.ones(5), x[:4])
    assert torch.isfinite(centres).all()
    older, newer = shared(x, torch.ones(5), labels)
    assert (older, newer) in {(0, 1), (0, 2), (1, 2)}


def test_shared_is_wards_pair() -> None:
    x, weights = digests(8, 3), torch.tensor([1.0, 4, 1, 2, 9, 1, 1, 3])

    def ward(pair: tuple[int, int]) -> float:
        i, j = pair
        return float(weights[i] * weights[j] / (weights[i] + weights[j]) * (x[i] - x[j]).square().sum())

    assert shared(x, weights, torch.zeros(8, dtype=torch.long)) == min(combinations(range(8), 2), key=ward)


def test_turned_rows_are_as_far_apart_as_before() -> None:
    wide = digests(9, 1, 300)
    assert turned(wide).shape == (9, 9)
    assert torch.allclose(torch.cdist(turned(wide), turned(wide)), torch.cdist(wide, wide), atol=1e-3)
    assert torch.equal(turned(wide[:, :5]), wide[:, :5])


def test_kmeans_merges_the_twins() -> None:
    """Ten far apart, one of them twice: whichever row is left out, the twins share a cluster in the end."""
    x = 100 * torch.eye(10)[[0, 1, 2, 3, 4, 5, 6, 3, 7, 8, 9]]
    rows = Rows(x, [Span(t, t) for t in range(11)], list(range(11)), 11)
    method = retain.make({"kmeans": {}})
    found = [method.choose(rows, torch.Generator().manual_seed(seed)) for seed in range(30)]
    assert sum((choice.leaves, choice.into) == (3, 7) for choice in found) >= 2
    assert all(choice.how == "merge" and choice.into is not None and choice.into > choice.leaves for choice in found)


def test_forest_penalties_by_hand() -> None:
    """0.4 (1 - s) + 0.2 (mean time) + 0.4 (mean count / largest mean count), all three worked out on paper."""
    found = penalties(torch.tensor([0.5, 1.0]), torch.tensor([0.0, 0.5, 1.0]), torch.tensor([1.0, 1.0, 3.0]))
    expected = [0.4 * 0.5 + 0.2 * 0.25 + 0.4 * 0.5, 0.0 + 0.2 * 0.75 + 0.4 * 1.0]
    assert found.tolist() == pytest.approx(expected)


def test_forest_keeps_the_recent_fine_and_the_past_coarse() -> None:
    """Everything alike: counts say that no event grows alone, recency that the past merges first."""
    rows = stream({"forest": {}}, torch.ones(40, 3), 8)
    assert sorted(frame for row in rows for frame in row) == list(range(40))  # nothing is lost
    counts = [len(row) for row in rows]
    assert sum(counts[:4]) > sum(counts[4:])
    assert max(counts) <= 16
    assert counts[-1] == 1


def test_forest_merges_like_neighbours_first() -> None:
    vectors = torch.eye(6)[[0, 1, 2, 2, 3, 4, 5]]
    assert [2, 3] in stream({"forest": {}}, vectors, 6)


def test_max_min_keeps_what_is_farthest_apart() -> None:
    """Brute force: no other single eviction leaves a larger least distance."""
    for seed in range(60):
        apart = 1 - cosines(digests(7, seed, 3))
        gone = crowded(apart)

        def least(leaves: int, apart: Tensor = apart) -> float:
            return min(float(apart[pair]) for pair in combinations([row for row in range(7) if row != leaves], 2))

        assert gone < 6
        assert least(gone) == pytest.approx(max(least(row) for row in range(6)), abs=1e-6)


def test_max_min_drops_the_member_that_is_closer_to_the_rest() -> None:
    x = torch.tensor([[1.0, 0.0], [0.98, 0.2], [0.8, 0.6], [0.0, 1.0], [-1.0, 0.0]])
    assert crowded(1 - cosines(x)) == 1


def test_hot_leaves_one_of_every_blob() -> None:
    """Four tight blobs, visited in turns, in a bank of four: at the end there is one of each."""
    centres = 50 * torch.eye(4)
    vectors = torch.stack([centres[at % 4] + 0.1 * digests(1, at, 4)[0] for at in range(24)])
    kinds = {at % 4 for at in lasting({"hot": {}}, vectors, 4)}
    assert kinds == {0, 1, 2, 3}


def test_facility_is_the_least_loss_of_all() -> None:
    """Brute force over every subset that lacks one."""
    for seed in range(30):
        x = digests(8, seed)
        alike = (1 + cosines(x)) / 2

        def value(rows: list[int], alike: Tensor = alike) -> float:
            return float(alike[:, rows].max(1).values.sum())

        whole = value(list(range(8)))
        brute = [whole - value([row for row in range(8) if row != gone]) for gone in range(8)]
        assert losses(x).tolist() == pytest.approx(brute, abs=1e-5)
        rows = Rows(x, [Span(t, t) for t in range(8)], list(range(8)), 8)
        gone = retain.make({"facility": {}}).choose(rows, torch.Generator()).leaves
        assert brute[gone] == pytest.approx(min(brute[:-1]), abs=1e-5)


def draws(seed: int) -> Iterator[float]:
    """Values of carriers: fresh ones, and now and then one that came before."""
    rng, past = torch.Generator().manual_seed(seed), [0.0]
    while True:
        fresh = float(torch.randn(1, generator=rng))
        past.append(past[int(torch.randint(len(past), (1,), generator=rng))] if fresh > 0.5 else fresh)
        yield past[-1]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", TABLE)
def test_a_bank_stays_whole_under_every_method(name: str, seed: int) -> None:
    bank, values = small_bank(8, method={name: {}}), draws(seed)
    for frame in range(200):
        bank.add(carrier(frame, next(values)))
        bank.check_integrity()
        assert len(bank) == min(frame + 1, 8)
        assert bank.frames[-1] == frame
    assert bank.spans[-1].last_s == 199.0
    assert all(span.first_s <= span.last_s for span in bank.spans)
    assert sum(span.count for span in bank.spans) <= 200


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(list(TABLE)), st.integers(2, 12), st.integers(0, 1000), st.floats(1e-3, 1e3))
def test_every_choice_is_one_that_a_bank_can_follow(name: str, count: int, seed: int, scale: float) -> None:
    x = scale * digests(count, seed)
    x[seed % count] = 0
    rows = Rows(x, [Span(t, t + 0.5, 1 + t % 3) for t in range(count)], list(range(count)), count + seed)
    choice = retain.make({name: {}}).choose(rows, torch.Generator().manual_seed(seed))
    assert 0 <= choice.leaves < count - 1
    assert choice.into is None or (0 <= choice.into < count and choice.into != choice.leaves)
    assert (choice.into is None) == (choice.how == "drop")


def bf16(rows: Rows) -> Rows:
    return Rows(rows.digests.bfloat16(), rows.spans, rows.frames, rows.absorbed)


def constant(rows: Rows) -> Rows:
    return Rows(torch.ones_like(rows.digests), rows.spans, rows.frames, rows.absorbed)


@pytest.mark.parametrize("change", [bf16, constant])
@pytest.mark.parametrize("name", TABLE)
def test_half_precision_and_a_still_scene(name: str, change: Callable[[Rows], Rows]) -> None:
    rows = change(Rows(digests(9), [Span(t, t) for t in range(9)], list(range(9)), 9))
    assert 0 <= retain.make({name: {}}).choose(rows, torch.Generator().manual_seed(0)).leaves < 8
