"""The vision tower block by block, and what its attention read."""

from __future__ import annotations

import gc
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from stream import tower
from stream.model.llava_onevision import LlavaOnevision
from stream.policy import Paper
from stream.reuse import Reuse
from stream.tap import Tap
from stream.tower import Patches, Thinning, Tower
from stream.tower.none import Nothing
from stream.types import VisualTokens
from tests.models import random_frames, random_model

LAST = 3  # block of the tiny tower, which has four


@dataclass(frozen=True)
class Toy(Tower):
    """Pairs of rows become one after `block`; never, at -1. Notes what it was shown."""

    block: int = -1
    share: float = 1.0
    every: int = 1  # frames whose first value is below 0 are left whole, at 2
    paper: ClassVar[Paper] = Paper("toy", "", "baseline")

    def start(self, embeddings: Tensor, grid: tuple[int, int], blocks: int) -> Thinning | None:
        assert (grid, blocks, embeddings.shape) == ((6, 6), 4, (36, 192))
        return None if self.every == 2 and embeddings[0, 0] < 0 else Halving(self.block)


@dataclass(frozen=True)
class Halving:
    block: int

    def thin(self, block: int, patches: Patches, tap: Tap) -> Patches:
        count = len(patches.feats)
        assert tap.queries.shape == tap.keys.shape == tap.values.shape == (6, count, 32)
        if block != self.block:
            return patches
        first = torch.arange(0, count, 2)
        thinner = patches.kept(first, torch.arange(count) // 2 * 2)
        means = patches.feats.view(count // 2, 2, -1).mean(1)
        return replace(thinner, feats=means, sizes=patches.sizes.view(-1, 2).sum(1))


@pytest.fixture(scope="module")
def model() -> LlavaOnevision:
    return random_model(3)


def pictures(count: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 96, 96, 3), dtype=np.uint8)


def feats(found: list[VisualTokens]) -> Tensor:
    return torch.stack([own.feats for own in found])


def eager(model: LlavaOnevision, images: np.ndarray) -> tuple[Tensor, ...]:
    """The attention weights that transformers gives, [B, heads, P, P] for each block."""
    vision = model.net.model.vision_tower
    before = vision.config._attn_implementation
    vision.set_attn_implementation("eager")
    try:
        with torch.inference_mode():
            made = vision(model.pixels(torch.from_numpy(images)), output_attentions=True)
    finally:
        vision.set_attn_implementation(before)
    return tuple(made.attentions)


def test_without_a_method_the_plain_way_is_taken(model: LlavaOnevision) -> None:
    images = pictures()
    plain = model.features(model.pixels(torch.from_numpy(images)))
    for found in (model.encode(images), model.encode(images, Nothing()), model.encode(images, None, [0, LAST])):
        assert torch.equal(feats(found), plain)
        assert [own.grid for own in found] == [(3, 3)] * 3
    assert not model.encode(images)[0].taps


@pytest.mark.parametrize("share", [1.0, 0.99999])  # both kernels: nothing of 36 weights goes
def test_a_method_that_never_thins_equals_the_plain_way(model: LlavaOnevision, share: float) -> None:
    images = pictures()
    found = feats(model.encode(images, Toy(share=share)))
    torch.testing.assert_close(found, feats(model.encode(images)), atol=1e-5, rtol=1e-5)


def test_an_earlier_block_may_be_the_last_in_use(model: LlavaOnevision) -> None:
    images = pictures(1)
    short = random_model(3)
    short.net.config.vision_feature_layer = -2
    assert short.tower.blocks == LAST

    @dataclass(frozen=True)
    class Whole(Toy):
        def start(self, embeddings: Tensor, grid: tuple[int, int], blocks: int) -> Thinning | None:
            assert blocks == LAST
            return super().start(embeddings, grid, 4)

    found = feats(short.encode(images, Whole()))
    torch.testing.assert_close(found, feats(short.encode(images)), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(found, feats(model.encode(images)), atol=1e-3)
    with pytest.raises(ValueError, match="tap of block 3: the tower has blocks 0 to 2"):
        short.encode(images, None, [LAST])


def test_tokens_of_several_blocks_cannot_be_thinned() -> None:
    short = random_model(3)
    short.net.config.vision_feature_layer = [-1, -2]
    with pytest.raises(ValueError, match=r"vision_feature_layer \[-1, -2\]"):
        short.encode(pictures(1), Toy())


def test_two_equal_rows_are_read_as_one_of_size_two(model: LlavaOnevision) -> None:
    """Patches that are pairwise equal stay so: merged after the first block they give what they gave apart."""
    vision = model.net.model.vision_tower
    rows = torch.randn(18, 192, generator=torch.Generator().manual_seed(1)).repeat_interleave(2, 0)
    whole, halved = (model.tower._thinned(rows, Halving(block), 1.0, ()) for block in (-1, 0))
    assert vision.training is False
    torch.testing.assert_close(halved.feats, whole.feats, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "method", [Toy(1), Toy(0, 0.5), Toy(1, every=2), *(tower.make({name: {}}) for name in tower.TABLE)]
)
def test_a_batch_gives_what_its_frames_give(model: LlavaOnevision, method: Tower) -> None:
    images = pictures(4)
    together = model.encode(images, method, [LAST])
    for image, own in zip(images, together, strict=True):
        (alone,) = model.encode(image[None], method, [LAST])
        torch.testing.assert_close(own.feats, alone.feats, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(own.taps[LAST].received(), alone.taps[LAST].received(), atol=1e-5, rtol=1e-5)
        assert own.feats.shape == (9, 256)


def test_some_frames_may_be_left_whole(model: LlavaOnevision) -> None:
    images = pictures(6)
    below = model.net.model.vision_tower.embeddings(model.pixels(torch.from_numpy(images)))[:, 0, 0] < 0
    assert 0 < int(below.sum()) < 6
    found, plain, thin = (feats(model.encode(images, way)) for way in (Toy(0, every=2), None, Toy(0)))
    torch.testing.assert_close(found[below], plain[below], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[~below], thin[~below], atol=1e-5, rtol=1e-5)
    assert (plain - thin).abs().amax((1, 2)).min() > 1e-3


def test_taps_are_the_attention_of_transformers(model: LlavaOnevision) -> None:
    images = pictures(2)
    attentions = eager(model, images)
    for method in (None, Toy()):
        for place, own in enumerate(model.encode(images, method, [0, LAST])):
            assert sorted(own.taps) == [0, LAST]
            for block, tap in own.taps.items():
                torch.testing.assert_close(tap.weights(), attentions[block][place], atol=1e-5, rtol=1e-4)
                torch.testing.assert_close(tap.mean(), attentions[block][place].mean(0), atol=1e-5, rtol=1e-4)
                assert float(tap.received().sum()) == pytest.approx(1.0, abs=1e-5)


def test_a_tap_of_a_thinned_block_covers_the_whole_grid(model: LlavaOnevision) -> None:
    (own,) = model.encode(pictures(1), Toy(1), [1, LAST])
    whole, thinned = own.taps[1], own.taps[LAST]
    assert whole.keys.shape == thinned.keys.shape == (6, 36, 32)
    assert torch.equal(thinned.keys[:, ::2], thinned.keys[:, 1::2])
    assert not torch.equal(whole.keys[:, ::2], whole.keys[:, 1::2])
    assert float(thinned.pool(thinned.received()).sum()) > 0


def test_scores_are_pooled_as_the_features_are(model: LlavaOnevision) -> None:
    (own,) = model.encode(pictures(1), None, [LAST])
    scores = torch.rand(36, generator=torch.Generator().manual_seed(1))
    wide = scores[None, :, None].expand(1, 36, 256)
    pooled = own.taps[LAST].pool(scores)
    assert torch.equal(pooled, model.net.model.apply_pooling(wide)[0, :, 7])
    torch.testing.assert_close(pooled, scores.view(3, 2, 3, 2).mean((1, 3)).flatten())  # 6x6 -> 3x3 is a plain mean


def test_a_tap_holds_its_own_frame_only(model: LlavaOnevision) -> None:
    found = model.encode(pictures(8), None, [LAST])
    tap = found[2].taps[LAST]
    del found
    alive = [own for own in gc.get_objects() if type(own) is Tensor and own.shape[-2:] == (36, 192)]
    assert sorted(own.untyped_storage().nbytes() for own in alive) == [36 * 192 * 4]
    assert tap.received().shape == (36,)


def test_hooks_are_gone_after_a_fault(model: LlavaOnevision) -> None:
    with pytest.raises(RuntimeError):
        model.tower.encode(torch.zeros(1, 4, 96, 96), None, [LAST])
    assert not model.tower.layers[LAST].self_attn._forward_pre_hooks


def test_tokens_that_serve_again_keep_their_taps(model: LlavaOnevision) -> None:
    reuse, frame = Reuse(4.0), random_frames(1)[0]
    frames = [frame, replace(frame, camera="yard")]
    first = reuse.encode(frames, lambda images: model.encode(images, None, [LAST]))
    again = reuse.encode(frames, lambda images: pytest.fail("it was encoded twice"))
    for one, two in zip(first, again, strict=True):
        assert torch.equal(one.taps[LAST].received(), two.taps[LAST].received())
        assert two.feats.untyped_storage().nbytes() == two.feats.numel() * 4


def test_half_precision() -> None:
    model = random_model(3, dtype=torch.bfloat16)
    (own,) = model.encode(pictures(1), Toy(0, 0.5), [LAST])
    assert own.feats.dtype == torch.bfloat16
    assert own.feats.isfinite().all()
    assert own.taps[LAST].keys.dtype == torch.float32
