"""Frames with fewer tokens, and pictures that repeat, on their way through encoder, bank and fork."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from memory.bank import MemoryBank
from stream.encoder import Encoder
from stream.model.llava_onevision import LlavaOnevision
from stream.reduce.chain import Chain, chain
from stream.reduce.m3 import M3
from stream.reuse import Reuse
from stream.types import Carrier, Frame, VisualTokens
from tests.models import absorb, make_bank, make_encoder, random_frames, random_model

DETAIL = 3


@pytest.fixture(scope="module")
def model() -> LlavaOnevision:
    return random_model()


def scored(count: int, camera: str = "door", seed: int = 0) -> list[Frame]:
    """Frames of which every other one is dull."""
    return [replace(frame, score=frame.index % 2 * 2.0) for frame in random_frames(count, seed, camera)]


class Shown:
    """A model that notes how many pictures its tower was shown. All else is the model's."""

    def __init__(self, model: LlavaOnevision) -> None:
        self._model, self.count = model, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._model, name)

    def encode(self, images: np.ndarray, *rest: Any) -> list[VisualTokens]:
        self.count += len(images)
        return self._model.encode(images, *rest)


def run(encoder: Encoder, bank: MemoryBank, frames: list[Frame]) -> list[Carrier]:
    """One after the other; the last `DETAIL` carriers' detail is in the bank."""
    return [absorb(encoder, bank, frame) for frame in frames]


@pytest.mark.parametrize("positions", ["compact", "spaced", "time"])
def test_a_question_reads_the_tokens_that_a_frame_kept(model: LlavaOnevision, positions: str) -> None:
    bank = make_bank(model, 4, DETAIL, positions=positions)
    run(replace(make_encoder(model), reduce=Chain((M3(dull=1),))), bank, scored(7))
    bank.check_integrity()
    view = bank.fork(now_s=1006.0)
    assert view.source.tolist() == [0, 1, 2, 3, 1, *[2] * 9, 3], "frames 4 and 6 are dull and have one token each"
    assert view.past.keys.isfinite().all()
    assert len(view.past.positions) == 4 + 11


@pytest.mark.parametrize(
    "specs",
    [
        [{"m3": {"dull": 1}}],
        [{"uniform": {"dull": 4, "keen": 6}}],
        [{"hiprune": {"dull": 5, "keen": 7, "alpha": 1.0}}, {"divprune": {"dull": 2, "keen": 4, "against": 2}}],
        [{"vflowopt": {"dull": 4, "alpha": 0.5, "recycle": 2}}, {"random": {"dull": 2}}],
        [{"recoverable": {"dull": 5, "keen": 7}}],
    ],
    ids=str,
)
def test_a_batch_of_cameras_equals_the_cameras_one_by_one(
    model: LlavaOnevision, specs: list[dict[str, dict[str, Any]]]
) -> None:
    films = [scored(5, camera, seed) for seed, camera in enumerate(("door", "yard", "gate"))]
    films[1] = [replace(frame, score=0.0) for frame in films[1]]
    together = replace(make_encoder(model), reduce=chain(specs), reuse=Reuse(4.0))
    banks = [make_bank(model, 3, DETAIL, camera=film[0].camera) for film in films]
    for frames in zip(*films, strict=True):
        made = together.absorb([bank.work(frame) for bank, frame in zip(banks, frames, strict=True)])
        for bank, carrier in zip(banks, made, strict=True):
            bank.add(carrier)
    for bank, film in zip(banks, films, strict=True):
        alone = make_bank(model, 3, DETAIL, camera=bank.camera)
        run(replace(make_encoder(model), reduce=chain(specs), reuse=Reuse(4.0)), alone, film)
        one, other = alone.fork(now_s=2000.0), bank.fork(now_s=2000.0)
        torch.testing.assert_close(one.past.keys, other.past.keys, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(one.digests, other.digests, rtol=1e-4, atol=1e-4)
        assert torch.equal(one.source, other.source)


def test_a_level_changes_no_digest(model: LlavaOnevision) -> None:
    """The mean of means of equal squares is the mean: what a carrier is made from stays as it was."""
    frame = scored(1)[0]
    plain = absorb(make_encoder(model), make_bank(model), frame)
    coarse = absorb(replace(make_encoder(model), reduce=Chain((M3(dull=1),))), make_bank(model), frame)
    torch.testing.assert_close(plain.digest, coarse.digest)


def test_a_picture_that_repeats_costs_no_tower_and_changes_nothing(model: LlavaOnevision) -> None:
    first, *_ = scored(1)
    frames = [replace(first, index=index, wall_s=1000.0 + index) for index in range(4)]
    shown = Shown(model)
    encoder = Encoder(shown, make_encoder(model).carrier, reuse=Reuse(4.0))  # type: ignore[arg-type]
    bank, plain = make_bank(model, 8, DETAIL), make_bank(model, 8, DETAIL)
    run(encoder, bank, frames)
    run(make_encoder(model), plain, frames)
    assert shown.count == 1
    torch.testing.assert_close(bank.fork().past.keys, plain.fork().past.keys)
    torch.testing.assert_close(bank.fork().past.values, plain.fork().past.values)


def test_what_was_forgotten_is_not_looked_back_at(model: LlavaOnevision) -> None:
    frames = scored(2)
    looks_back = chain([{"divprune": {"dull": 3, "keen": 3, "against": 1}}])
    encoder = replace(make_encoder(model), reduce=looks_back)
    alone = absorb(encoder, make_bank(model), frames[1])
    encoder.forget()
    absorb(encoder, make_bank(model), frames[0])
    assert not torch.equal(absorb(encoder, make_bank(model), frames[1]).digest, alone.digest)
    absorb(encoder, make_bank(model), frames[0])
    encoder.forget()
    assert torch.equal(absorb(encoder, make_bank(model), frames[1]).digest, alone.digest)
