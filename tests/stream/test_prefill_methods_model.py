"""Prefill methods inside a real language model: batches, precision, what is stored, and how far a frame looks back."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from memory.bank import MemoryBank
from stream import carrier, prefill
from stream.encoder import Encoder
from stream.model.llava_onevision import LlavaOnevision
from stream.prefill import Passing, Prefill
from stream.types import Carrier, Frame
from tests.conformance.test_prefill import WHOLE
from tests.models import make_bank, random_frames, random_model


@pytest.fixture(scope="module")
def model() -> LlavaOnevision:
    return random_model()


def encoder(model: LlavaOnevision, method: Prefill) -> Encoder:
    return Encoder(model, carrier.make({"mean": {}}), prefill=method)


def bank_of(
    model: LlavaOnevision, before: int | None = None, carriers: int = 8, positions: str = "compact"
) -> MemoryBank:
    bank = make_bank(model, carriers, 2, positions=positions)
    bank.policy = type(bank.policy)(bank.policy.budget, bank.policy.retain, bank.policy.positions, before=before)
    return bank


def live(encoder: Encoder, banks: list[MemoryBank], films: list[list[Frame]]) -> list[list[Carrier]]:
    """All cameras' carriers; those of one moment are absorbed in one batch."""
    made = list[list[Carrier]]()
    for frames in zip(*films, strict=True):
        batch = encoder.absorb([bank.work(frame) for bank, frame in zip(banks, frames, strict=True)])
        for bank, item in zip(banks, batch, strict=True):
            bank.add(item)
        made.append([copied(item) for item in batch])
    return [list(items) for items in zip(*made, strict=True)]


def copied(item: Carrier) -> Carrier:
    """The detail is a view of the lane, which the next frame overwrites."""
    detail = type(item.detail)(item.detail.keys.clone(), item.detail.values.clone(), item.detail.places)
    return Carrier(item.camera, item.frame, item.span, item.digest, item.keys, item.values, detail)


def same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("name", prefill.TABLE)
def test_a_batch_of_cameras_is_the_cameras_one_by_one(model: LlavaOnevision, name: str) -> None:
    films = [random_frames(3, seed, camera) for seed, camera in enumerate(("door", "yard"))]
    method = prefill.make({name: {}})
    both = live(encoder(model, method), [bank_of(model), bank_of(model)], films)
    for film, found in zip(films, both, strict=True):
        (alone,) = live(encoder(model, prefill.make({name: {}})), [bank_of(model)], [film])
        for one, other in zip(found, alone, strict=True):
            assert same(one.keys, other.keys)
            assert same(one.values, other.values)
            assert same(one.detail.keys, other.detail.keys)
            assert torch.equal(one.detail.places, other.detail.places)


@pytest.mark.parametrize("name", WHOLE)
def test_keep_all_gives_the_same_carriers_bit_for_bit(model: LlavaOnevision, name: str) -> None:
    film = [random_frames(3)]
    (found,) = live(encoder(model, prefill.make({name: WHOLE[name]})), [bank_of(model)], film)
    (plain,) = live(encoder(model, prefill.make({"none": {}})), [bank_of(model)], film)
    assert all(torch.equal(one.values, other.values) for one, other in zip(found, plain, strict=True))


@pytest.mark.parametrize("name", prefill.TABLE)
def test_what_leaves_is_missed_and_nothing_is_nan_in_bf16(model: LlavaOnevision, name: str) -> None:
    film, method = [random_frames(2)], prefill.make({name: {}})
    ((*_, newest),) = live(encoder(model, method), [bank_of(model)], film)
    ((*_, plain),) = live(encoder(model, prefill.make({"none": {}})), [bank_of(model)], film)
    thins = method.start(model.geometry.visual, 1, model.geometry.layers) is not None
    assert torch.equal(newest.values, plain.values) == (not thins)
    assert (newest.detail.keys.shape[2] < model.geometry.visual) == thins, "detail: what went through every layer"
    coarse = random_model(dtype=torch.bfloat16)
    (found,) = live(encoder(coarse, method), [bank_of(coarse)], film)
    assert all(item.keys.isfinite().all() and item.values.isfinite().all() for item in found)
    assert found[0].keys.dtype == torch.bfloat16


@pytest.mark.parametrize("before", [1, 2, 5])
def test_chunks_read_as_if_older_carriers_were_never_there(model: LlavaOnevision, before: int) -> None:
    method = prefill.make({"chunks": {"before": before}})
    frames = random_frames(6)
    (found,) = live(encoder(model, method), [bank_of(model, method.before, positions="time")], [frames])
    for index, frame in enumerate(frames):  # a bank that holds nothing but the newest
        trimmed = bank_of(model, positions="time")
        for item in found[max(0, index - before) : index]:
            trimmed.add(item)
        (alone,) = encoder(model, prefill.make({"none": {}})).absorb([trimmed.work(frame)])
        assert same(alone.values, found[index].values)
    (plain,) = live(encoder(model, prefill.make({"none": {}})), [bank_of(model, positions="time")], [frames])
    assert same(found[-1].values, plain[-1].values) == (before >= 5)


def test_transprune_sees_what_modules_read_and_gave(model: LlavaOnevision, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = dict[tuple[int, str], tuple[Tensor, Tensor]]()
    method = prefill.make({"transprune": {"keep": [0.5], "depths": [0.5]}})

    class Noting(Passing):
        def module(self, layer: int, part: prefill.Part, x: Tensor, y: Tensor) -> None:
            seen[layer, part] = x.clone(), y.clone()

    monkeypatch.setattr(type(method), "start", lambda *_: Noting())
    rows = list[Tensor]()
    layer = model.language.layers[1]
    hook = layer.register_forward_hook(lambda _m, args, out: rows.extend((args[0][0], out[0])))
    live(encoder(model, method), [bank_of(model)], [random_frames(1)])
    hook.remove()
    read, gave = seen[1, "attention"]
    assert torch.equal(read, layer.input_layernorm(rows[0]))
    between = rows[0] + gave
    read, gave = seen[1, "mlp"]
    assert torch.equal(read, layer.post_attention_layernorm(between))
    assert torch.equal(between + gave, rows[1])
