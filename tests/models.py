"""Small random models of the real classes, and frames for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from memory import retain
from memory.bank import MemoryBank, Policy
from stream import carrier
from stream.encoder import Encoder
from stream.model import tiny
from stream.model.card import Card
from stream.model.llava_onevision import LlavaOnevision
from stream.positions import TABLE
from stream.types import Budget, Carrier, Frame

WORDS = ["what is visible now?", "a red car", "nothing", "user\n", "assistant\n"] * 10


def random_model(
    seed: int = 0, card: Card = tiny.CARD, dtype: torch.dtype = torch.float32, **text: Any
) -> LlavaOnevision:
    """The tiny geometry with random weights."""
    tokenizer = tiny.tokenizer(WORDS)
    net = tiny.untrained(seed, len(tokenizer), **text).to(dtype).requires_grad_(False)
    return LlavaOnevision(net, tokenizer, card, "random")


def random_frames(count: int, seed: int = 0, camera: str = "door", px: int = 96) -> list[Frame]:
    """Noise pictures, one a second; some repeat, so that similarity has something to find."""
    rng = np.random.default_rng(seed)
    pictures: list[np.ndarray] = []
    for index in range(count):
        again = index > 0 and rng.random() < 0.3
        fresh = rng.integers(0, 256, (px, px, 3), dtype=np.uint8)
        pictures.append(pictures[int(rng.integers(index))] if again else fresh)
    return [Frame(camera, index, 0, float(index), 1000.0 + index, item) for index, item in enumerate(pictures)]


def make_bank(
    model: LlavaOnevision,
    carriers: int = 16,
    detail: int = 0,
    retain_by: dict[str, Any] | None = None,
    positions: str = "compact",
    camera: str = "door",
) -> MemoryBank:
    """A bank for `model`."""
    scheme = TABLE[positions](len(model.system()), model.geometry.visual)
    policy = Policy(Budget(carriers, detail), retain.make(retain_by or {"adjacent": {}}), scheme)
    return MemoryBank(camera, model.geometry, policy)


def make_encoder(model: LlavaOnevision) -> Encoder:
    """Frames to mean carriers."""
    return Encoder(model, carrier.make({"mean": {}}))


def absorb(encoder: Encoder, bank: MemoryBank, frame: Frame) -> Carrier:
    """One frame through encoder and bank."""
    made = encoder.absorb([bank.work(frame)])[0]
    bank.add(made)
    return made


def save_random(folder: Path, seed: int = 0) -> Path:
    """The random tiny model as a checkpoint directory; returns `folder`."""
    from stream.train.loop import export  # only here: most tests need no training code

    export(random_model(seed), folder)
    return folder
