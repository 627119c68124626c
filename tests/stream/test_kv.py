"""Lanes and slabs: preallocated, read in place, the same at every frame; steps side by side equal steps alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from memory.bank import MemoryBank
from stream.attention import Step
from stream.kv import Extent, Lane, Past, Slab
from stream.model.llava_onevision import LlavaOnevision
from tests.models import absorb, make_bank, make_encoder, random_frames, random_model


@pytest.fixture(scope="module")
def model() -> LlavaOnevision:
    return random_model()


def places(bank: MemoryBank) -> list[int]:
    """Where the tensors of a bank lie."""
    owners = (vars(bank._lane), vars(bank._detail), {"digests": bank._digests})
    return [item.data_ptr() for own in owners for item in own.values() if isinstance(item, Tensor) and item.dim() > 1]


def relative(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


def test_a_bank_is_allocated_once(model: LlavaOnevision) -> None:
    """Through filling up, evictions, merges and erasing: the same bytes at the same addresses."""
    bank, encoder = make_bank(model, 4, 2, {"adjacent": {"when_full": "merge"}}), make_encoder(model)
    before = places(bank), bank.held_bytes
    for frame in random_frames(9):
        absorb(encoder, bank, frame)
        bank.fork(now_s=frame.wall_s)
    bank.forget(1002.0, 1005.0)
    assert (places(bank), bank.held_bytes) == before
    assert len(before[0]) > 5


def test_every_frame_reads_as_much_as_the_first(model: LlavaOnevision) -> None:
    """A free slot is masked, not left out: shapes are static, and what is masked does not count."""
    bank, encoder = make_bank(model, 5), make_encoder(model)
    widths = []
    for frame in random_frames(8):
        work = bank.work(frame)
        model.prepare(work.lane)
        mask = work.lane.begin(len(work.positions))
        assert mask is not None
        widths.append(mask.shape)
        assert int((mask[0, 0, -1] == 0).sum()) == len(model.system()) + len(bank) + model.geometry.visual + 1
        absorb(encoder, bank, frame)
    assert len(set(widths)) == 1


def test_a_lane_gives_what_a_slab_over_the_same_past_gives(model: LlavaOnevision) -> None:
    bank, encoder = make_bank(model, 6, 0), make_encoder(model)
    for frame in random_frames(9):
        absorb(encoder, bank, frame)
    frame = random_frames(12)[-1]
    work = bank.work(frame)
    embeds = torch.randn(1, len(work.positions), model.geometry.width, generator=torch.Generator().manual_seed(0))
    model.prepare(work.lane)
    ours = model.forward(embeds, work.positions[None], work.lane)
    slab = model.slab([bank.past(frame.wall_s)], embeds.shape[1])
    assert relative(ours, model.forward(embeds, work.positions[None], slab)) < 1e-5


def test_a_forward_of_many_steps_gives_what_each_gives_alone(model: LlavaOnevision) -> None:
    """Frames of a camera, a question over two views and one word of another: lengths and pasts all differ."""
    rng = torch.Generator().manual_seed(1)
    geo = model.geometry

    def past(count: int) -> Past:
        shape = (geo.layers, geo.kv_heads, count, geo.head_width)
        where = torch.arange(count) + 1.0
        return Past(torch.randn(shape, generator=rng), torch.randn(shape, generator=rng), where)

    def step(pasts: list[Past], count: int, lane: bool = False) -> Step:
        embeds = torch.randn(len(pasts), count, geo.width, generator=rng)
        where = torch.arange(20, 20 + count, dtype=torch.float32).expand(len(pasts), count)
        if not lane:
            return Step(embeds, where, model.slab(pasts, count))
        own = Lane(pasts[0].keys[:, :, :0], Extent(len(model.system()), 3, count))
        model.prepare(own)
        return Step(embeds, where, own)

    steps = [step([past(4), past(2)], 5), step([past(3)], 1), step([past(0)], 7, lane=True)]
    alone = [model.forward_all([own])[0] for own in steps]
    for own in steps:
        if isinstance(own.store, Slab):
            own.store.length -= own.embeds.shape[1]  # as if that forward had not come to its end
    for ours, theirs in zip(model.forward_all(steps), alone, strict=True):
        assert ours.shape == theirs.shape
        assert relative(ours, theirs) < 1e-5


def test_a_forward_that_breaks_off_leaves_nothing_behind(
    model: LlavaOnevision, monkeypatch: pytest.MonkeyPatch
) -> None:
    past = Past(*(torch.randn(4, 2, 3, 64) for _ in range(2)), torch.arange(3) + 1.0)
    embeds, where = torch.randn(1, 2, model.geometry.width), torch.tensor([[9.0, 10.0]])
    slab = model.slab([past], 4)
    with monkeypatch.context() as patch:
        patch.setattr(model.language.layers[2], "forward", lambda *_args, **_more: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            model.forward(embeds, where, slab)
    again = model.forward(embeds, where, slab)
    assert torch.equal(again, model.forward(embeds, where, model.slab([past], 4)))
    model.forward(embeds, where + 2, slab)
    with pytest.raises(ValueError, match="room for 0 tokens, 1 were announced"):
        model.forward(embeds[:, :1], where[:, :1], slab)


def test_a_frame_that_does_not_fit_is_named() -> None:
    lane = Lane(torch.zeros(1, 1, 0, 4), Extent(1, 2, 3))
    with pytest.raises(ValueError, match="room for 3 tokens of a frame, 4 were announced"):
        lane.begin(4)
