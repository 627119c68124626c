"""Tower methods: the authors' numbers where they are public, and what each method's description promises."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stream import tower
from stream.ops import cosines, strongest, top
from stream.tap import Tap
from stream.tower import Patches, flowcut, gtp, stvit, tempme, transforming, zerotprune
from stream.tower.cut import At, corners, only
from stream.tower.uniform import Uniform
from tests.models import random_model

CPU = torch.device("cpu")


def wave(*shape: int, step: float = 1.0) -> Tensor:
    """Sines of 0, step, 2 step, ..: the same array wherever it is made."""
    return torch.sin(step * torch.arange(math.prod(shape), dtype=torch.float64)).float().view(shape)


def near(found: Tensor, wanted: list[float]) -> None:
    torch.testing.assert_close(found.flatten(), torch.tensor(wanted), atol=2e-5, rtol=1e-4)


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tapped(seed: int, count: int = 24, scale: float = 1.0) -> Tap:
    """Two heads of noise."""
    queries, keys, values = (noise(2, count, 4, seed=seed + own) * scale for own in range(3))
    return Tap.of(queries, keys, values)


# GTP-ViT: numbers of Ackesnal/GTP-ViT (97a1178), models_v3.py, without CLS


def gtp_case() -> tuple[Tensor, Tensor, Tensor]:
    """Graph, sparse attention weights and scales of nine tokens."""
    graph = gtp.normalised(torch.maximum(gtp.spatial((3, 3)), gtp.semantic(wave(9, 6, step=1.7), 2)))
    scales = 1 + wave(9, step=0.7) ** 2
    queries, keys = wave(2, 9, 4, step=2.3) * 1.5, wave(2, 9, 4, step=0.9) * 1.5
    return graph, strongest(Tap.of(queries, keys, keys).weights(scales.log()), 0.6), scales


def test_gtp_graph() -> None:
    graph, _, _ = gtp_case()
    near(graph[0], [0.0, 0.18257, 0.0, 0.18257, 0.15811, 0.18257, 0.0, 0.0, 0.2])
    near(graph.sum(1), [0.90584, 1.04694, 0.78915, 1.02539, 1.22847, 1.04694, 0.90584, 1.04694, 0.90584])


def test_gtp_weights_and_what_is_propagated() -> None:
    graph, weights, scales = gtp_case()
    near(weights[0, 0], [0.0, 0.11039, 0.15385, 0.11052, 0.10242, 0.0, 0.16084, 0.12612, 0.10737])
    assert int((weights == 0).sum()) == 62
    places = top(gtp.mixed_max(weights), 6)
    assert places.tolist() == [1, 2, 3, 4, 6, 7]
    feats = gtp.propagate(wave(9, 6, step=1.7), graph, places, 0.3)
    near(feats.sum(1), [-1.05275, 0.64474, 0.47348, -0.92589, -0.55272, -0.18989])
    sizes = gtp.propagate(scales[:, None], graph, places, 0.3)
    near(sizes, [1.52594, 2.03988, 1.8765, 1.27462, 1.84355, 2.09796])


def test_gtp_scales_by_hand() -> None:
    """Of a 3x3 grid the middle leaves: each of the 8 around gets alpha / sqrt(8 * its own degree) of its 1."""
    graph = gtp.normalised(gtp.spatial((3, 3)))
    places = torch.tensor([0, 1, 2, 3, 5, 6, 7, 8])
    sizes = gtp.propagate(torch.ones(9, 1), graph, places, 0.4)[:, 0]
    corner, edge = 1 + 0.4 / math.sqrt(8 * 3), 1 + 0.4 / math.sqrt(8 * 5)
    near(sizes, [corner, edge, corner, edge, edge, corner, edge, corner])


def test_gtp_without_propagation_prunes_by_its_score() -> None:
    feats, tap = noise(24, 8), tapped(2)
    thinning = gtp.Gtp(keep=0.5, first=0.99, alpha=0.0).start(feats, (4, 6), 4)
    assert thinning is not None
    patches = Patches.whole(feats)
    for block in range(4):
        patches = thinning.thin(block, patches, tap)
    kept = top(gtp.mixed_max(tap.maps()), 12)
    assert torch.equal(patches.feats, feats[kept])
    assert patches.sizes.tolist() == [1.0] * 12


def test_gtp_with_fewer_weights_alone_thins_nothing() -> None:
    feats = noise(24, 8)
    thinning = gtp.Gtp(keep=1, share=0.5).start(feats, (4, 6), 4)
    assert thinning is not None, "the runner has to see its share"
    whole = Patches.whole(feats)
    assert all(thinning.thin(block, whole, Tap.of(feats, feats, feats)) is whole for block in range(4))


# FlowCut: numbers of TungChintao/FlowCut (a2ecd24), FlowCut_Qwen/ and flowcut/


def test_flowcut_scores_and_counts() -> None:
    queries, keys, values = (wave(2, 24, 4, step=step) * 9 for step in (0.2, 0.9, 3.1))
    relation = flowcut.mean_query(queries, keys)
    near((relation * flowcut.strength(values))[:6], [0.63091, 0.34132, 0.546, 0.30418, 0.27402, 0.16287])
    counts = [
        flowcut.surplus(relation**power / (relation**power).sum(), left, 6)
        for power in (1, 4, 16)
        for left in (2, 10, 24)
    ]
    assert counts == [0, 0, 0, 2, 1, 1, 7, 3, 2]


def test_flowcut_of_towers_with_cls() -> None:
    cls, semantic, values = wave(24, step=0.37) ** 2 + 0.01, wave(24, step=0.53) ** 2, wave(2, 24, 4, step=3.1) * 9
    found = flowcut.clip_score(cls, semantic, values.mean(0))
    near(found[:6], [0.01035, 0.3847, 1.02051, 1.21404, 0.8447, 0.3409])
    assert [flowcut.clip_surplus(cls**power, left, 6) for power in (1, 4) for left in (2, 10, 24)] == [2, 1, 1, 5, 2, 2]
    assert flowcut.clip_surplus(torch.tensor([1.0, 0.0, 0.0, 0.0]), 1, 2) == 2, "a zero is no NaN"


def test_flowcut_cuts_most_where_attention_is_sharp() -> None:
    flat, sharp = torch.full((100,), 0.01), torch.zeros(100).index_fill(0, torch.tensor([7]), 1.0)
    assert flowcut.surplus(flat, 4, 20) == 0
    assert flowcut.surplus(sharp, 4, 20) == (100 - 20) / 2


@pytest.mark.parametrize("blocks", [1, 2, 5, 8])
@pytest.mark.parametrize("target", [1, 7, 23])
def test_flowcut_ends_at_its_target(blocks: int, target: int) -> None:
    thinning = flowcut.Flow(target, blocks, [corners((4, 6), CPU)])
    patches = Patches.whole(torch.arange(24.0)[:, None])
    for block in range(blocks):
        count = len(patches.feats)
        patches = thinning.thin(block, patches, tapped(block, count, 3.0))
        if (blocks - block - 1) % 2:
            assert len(patches.feats) == count
    rows = patches.feats[:, 0].tolist()
    assert len(rows) == target
    assert rows == sorted(rows)


# Zero-TPrune


def test_zerotprune_ranks_by_what_ranks_high() -> None:
    even = torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.3, 0.2, 0.5]])[None]
    assert torch.allclose(zerotprune.page_rank(even, 30), torch.ones(3)), "doubly stochastic"
    weights = (noise(1, 12, 12) * 2).softmax(-1)
    found = zerotprune.page_rank(weights, 40)
    torch.testing.assert_close(found @ weights[0], found, atol=1e-4, rtol=1e-4)
    assert float(found.mean()) == pytest.approx(1.0, abs=1e-4)
    assert torch.allclose(zerotprune.page_rank(weights, 1), weights[0].sum(0)), "one vote: attention received"


def test_zerotprune_listens_to_heads_that_tell_something() -> None:
    telling = (noise(12, 12) * 2).softmax(-1)
    flat, blind = torch.full((12, 12), 1 / 12), torch.zeros(12, 12).index_fill(1, torch.tensor([3]), 1.0)
    alone = zerotprune.page_rank(telling[None], 3)
    assert torch.allclose(zerotprune.page_rank(torch.stack((flat, telling, blind)), 3), alone)
    assert torch.allclose(zerotprune.page_rank(flat[None], 3), torch.ones(12)), "unless none does"


class Known(Tap):
    """A tap whose map is given: every row reads the same, in these shares."""

    def maps(self, bias: Tensor | None = None) -> Iterator[Tensor]:
        assert bias is None
        read = self.values[0, :, 0]
        yield (read / read.sum()).expand(len(read), len(read))

    def only(self, rows: Tensor) -> Tap:
        return Known.of(self.queries[:, rows], self.keys[:, rows], self.values[:, rows])


def test_zerotprune_drops_copies_first_and_their_twin_stands_for_them() -> None:
    copies, source, ranks, keys = torch.tensor([5, 11, 17]), 20, 1 + torch.arange(24) % 7 * 0.1, noise(24, 8)
    keys[copies], ranks[copies], ranks[source] = keys[source].clone(), 0.9, 5.0
    ranks[3] = 0.1  # ranks lowest of all, and has no twin
    tap = Known.of(keys[None], keys[None], ranks[None, :, None].expand(1, 24, 8))
    patches, at = Patches.whole(noise(24, 4)), At(0.5, corners((4, 6), CPU))
    fewer, _ = zerotprune.ZeroTPrune(similar=1.0).fewer(patches, tap, 21, at)
    assert torch.equal(fewer.restored()[copies], patches.feats[[source] * 3])
    assert torch.equal(fewer.restored()[3], patches.feats[3])
    fewer, _ = zerotprune.ZeroTPrune(similar=0.75).fewer(patches, tap, 20, at)
    assert torch.equal(fewer.restored()[copies], patches.feats[[source] * 3])
    assert torch.equal(fewer.restored()[3], patches.feats[2]), "three by their twin, one by its rank"
    fewer, _ = zerotprune.ZeroTPrune(similar=0.0).fewer(patches, tap, 20, at)
    assert torch.equal(fewer.restored()[[3, 5, 11, 17]], patches.feats[[2, 4, 10, 16]]), "all by their rank"


# Token Transforming


def test_transforming_reproduces_pruning() -> None:
    patches, where = Patches.whole(noise(24, 8)), corners((4, 6), CPU)
    fewer, _ = Uniform().fewer(patches, tapped(1), 9, At(0.5, where))
    places = torch.tensor([patches.feats.tolist().index(row) for row in fewer.feats.tolist()])
    feats, sizes = transforming.transform(transforming.pruning(places, 24), patches.feats, patches.sizes)
    assert torch.equal(feats, fewer.feats)
    assert torch.equal(sizes, fewer.sizes)


def test_transforming_reproduces_merging() -> None:
    x, metric, sizes = noise(24, 8), noise(24, 4, seed=2), torch.arange(24) % 3 + 1.0
    feats, counts, where = tempme.merge(x, metric, sizes, 15)
    mix = transforming.merging(where, sizes)
    assert torch.allclose(mix.sum(1), torch.ones(15))
    found, shares = transforming.transform(mix, x, sizes)
    torch.testing.assert_close(found, feats)
    torch.testing.assert_close(shares, counts)


def test_transforming_sharply_is_pruning_to_anchors_and_their_copies() -> None:
    keys = noise(24, 8)
    keys[13] = keys[4]
    anchors = torch.tensor([2, 4, 9])
    mix = transforming.dense(cosines(keys[anchors], keys), 1e-4)
    wanted = transforming.pruning(anchors, 24)
    wanted[1, [4, 13]] = 0.5
    torch.testing.assert_close(mix, wanted, atol=1e-4, rtol=0)


@given(st.integers(1, 23), st.floats(0.02, 5), st.booleans())
@settings(max_examples=25, deadline=None)
def test_transforming_shares_out_everything(count: int, temperature: float, weighted: bool) -> None:
    patches = replace(Patches.whole(noise(24, 8)), sizes=torch.arange(24) % 3 + 1.0)
    method = transforming.Transforming(temperature=temperature, weighted=weighted)
    tap = tapped(2)
    fewer, where = method.fewer(patches, tap, count, At(0.5, corners((4, 6), CPU)))
    assert fewer.feats.shape == (count, 8)
    assert where.shape == (count, 2)
    assert float(fewer.sizes.sum()) == pytest.approx(float(patches.sizes.sum()), rel=1e-4)
    assert set(fewer.back.tolist()) == set(range(count))
    low, high = patches.feats.amin(0) - 1e-5, patches.feats.amax(0) + 1e-5
    assert bool(((fewer.feats >= low) & (fewer.feats <= high)).all()), "means"


# TempMe: numbers of LunarShen/TempMe (e624930), module_tome_merge.py, without CLS


def test_tempme_merges_as_its_authors_do() -> None:
    x, metric, sizes = wave(11, 4, step=1.7), wave(11, 3, step=2.3), 1.0 + torch.arange(11) % 3
    feats, counts, where = tempme.merge(x, metric, sizes, 7)
    groups = [torch.nonzero(where == row).flatten().tolist() for row in range(7)]
    assert groups == [[1], [2], [3, 4], [5], [6], [7], [0, 8, 9, 10]]
    near(feats.sum(1), [-0.02541, 0.14551, 0.31854, 0.31034, 0.20102, 0.03919, -0.21894])
    assert counts.tolist() == [2, 3, 3, 3, 1, 2, 7]


def test_tempme_keeps_count_of_its_patches() -> None:
    method = tempme.TempMe(early=0.6, late=0.6)
    feats = noise(24, 8)
    thinning = method.start(feats, (4, 6), 8)
    assert thinning is not None
    patches = Patches.whole(feats)
    for block in range(8):
        patches = thinning.thin(block, patches, Tap.of(*(patches.feats.view(-1, 2, 4).transpose(0, 1),) * 3))
        assert float(patches.sizes.sum()) == 24
        assert torch.equal(patches.back.bincount().float(), patches.sizes)
    assert len(patches.feats) == 4
    torch.testing.assert_close(patches.restored().mean(0), feats.mean(0), atol=1e-5, rtol=1e-4)


def test_tempme_merges_what_is_the_same() -> None:
    twice = noise(12, 8).repeat_interleave(2, 0)
    feats, counts, where = tempme.merge(twice, twice, torch.ones(24), 12)
    torch.testing.assert_close(feats[where], twice)
    assert counts.tolist() == [2.0] * 12


# STViT


def test_stvit_tokens_are_means_of_the_patches() -> None:
    x = noise(36, 8)
    tokens = stvit.cluster(x, stvit.pooled(x, (6, 6), (3, 3)), 2, 0.05)
    assert bool(((tokens >= x.amin(0)) & (tokens <= x.amax(0))).all())
    assert torch.allclose(stvit.pooled(x, (6, 6), (3, 3))[0], x.view(6, 6, 8)[:2, :2].mean((0, 1)), atol=1e-6)
    flat = torch.ones(36, 8)
    assert torch.allclose(stvit.cluster(flat, stvit.pooled(flat, (6, 6), (3, 3)), 2, 0.05), torch.ones(9, 8))


def test_stvit_with_one_blurred_token_is_the_mean() -> None:
    x = noise(36, 8)
    (token,) = stvit.cluster(x, stvit.pooled(x, (6, 6), (1, 1)), 1, 1e6)
    torch.testing.assert_close(token, x.mean(0), atol=1e-5, rtol=1e-4)


def test_stvit_gives_back_more_with_more_tokens() -> None:
    """A picture that is smooth, as pictures are."""
    where = corners((12, 12), CPU) / 12
    x = torch.cat([torch.sin(where * own) for own in (1, 2, 4, 7)] + [torch.cos(where * own) for own in (1, 2, 4)], 1)
    errors = []
    for keep in (1 / 144, 1 / 16, 1 / 4):
        thinning = stvit.Stvit(keep=keep, depth=0, temperature=0.01).start(x, (12, 12), 4)
        assert thinning is not None
        patches = thinning.thin(0, Patches.whole(x), Tap.of(x, x, x))
        assert len(patches.feats) == round(keep * 144)
        errors.append(float((patches.restored() - x).norm() / x.norm()))
    assert errors[0] > 1.5 * errors[1] > 2 * errors[2]


# all


def test_a_tap_of_some_rows_is_as_if_there_were_no_others() -> None:
    tap, rows = tapped(1), torch.tensor([0, 3, 4, 9, 20])
    part = tap.weights()[:, rows][:, :, rows]
    torch.testing.assert_close(tap.only(rows).weights(), part / part.sum(2, keepdim=True))
    bias = wave(24)
    torch.testing.assert_close(torch.stack(list(tap.maps(bias))), tap.weights(bias))
    torch.testing.assert_close(tap.received(bias), tap.weights(bias).mean((0, 1)))


def test_a_patch_that_left_has_the_nearest_that_stayed() -> None:
    patches, _ = only(Patches.whole(noise(24, 4)), torch.tensor([0, 5, 20]), corners((4, 6), CPU))
    assert patches.back.view(4, 6).tolist() == [
        [0, 0, 0, 1, 1, 1],
        [0, 0, 2, 1, 1, 1],
        [0, 2, 2, 2, 1, 1],
        [2, 2, 2, 2, 2, 1],
    ]


@pytest.mark.parametrize("name", [name for name in tower.TABLE if name != "none"])
def test_of_a_real_tower_fewer_rows_are_run(name: str) -> None:
    """What the tower's later blocks cost is counted in the rows of their MLP: it is smaller with every method."""
    model, rows = random_model(3), []
    hook = model.tower.layers[-1].mlp.register_forward_pre_hook(lambda _module, given: rows.append(given[0].shape[-2]))
    image = torch.zeros(1, 96, 96, 3, dtype=torch.uint8).random_(generator=torch.Generator().manual_seed(1)).numpy()
    plain, thin = model.encode(image)[0], model.encode(image, tower.make({name: {}}))[0]
    hook.remove()
    assert rows[0] == 36
    assert rows[1] < 30
    assert thin.feats.shape == plain.feats.shape
    alike = cosines(thin.feats, plain.feats)
    assert alike.diagonal().mean() > alike.mean() + 0.05, "tokens are more like themselves than like the others"
