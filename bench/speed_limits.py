"""What a machine can do at best, measured, and what a frame and a word need of it, by formula.

Limits are the best of many tries, so that a share of them is never flattered by a slow moment. Work counts a multiply
and an add as two; only what the result needs is counted: no masked scores, no padding.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

TRIES = 7
BUFFER_BYTES = 512 * 2**20  # many times any cache
GPU_BUFFER_BYTES = 4 * 2**30


@dataclass(frozen=True, slots=True)
class Limits:
    """Of this machine, with this many threads, in this dtype."""

    matrix_flops: float  # matrix product, floating-point operations a second
    read_bytes: float  # memory, bytes a second


def timed(what: Callable[[], Any], device: torch.device) -> float:
    """Seconds that `what` takes, its work on the device included."""
    wait(device)
    began_s = time.perf_counter()
    what()
    wait(device)
    return time.perf_counter() - began_s


def wait(device: torch.device) -> None:
    """Until the device has done all it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def limits(config: Any, device: torch.device, dtype: torch.dtype, tries: int = TRIES) -> Limits:
    """The best matrix product over the geometry's own shapes and square ones, and the best pass over memory."""
    text, vision = config.text_config, config.vision_config
    patches = (vision.image_size // vision.patch_size) ** 2
    edge = 8192 if device.type == "cuda" else 1536
    shapes = [
        (patches, vision.hidden_size, vision.intermediate_size),
        (patches, vision.intermediate_size, vision.hidden_size),
        (256, text.hidden_size, text.intermediate_size),
        (edge, edge, edge),
        (edge // 2, edge, edge),
    ]
    best = 0.0
    for rows, inner, columns in shapes:
        left = torch.randn(rows, inner, device=device, dtype=dtype)
        right = torch.randn(columns, inner, device=device, dtype=dtype)
        took_s = min(timed(lambda a=left, b=right: F.linear(a, b), device) for _ in range(tries))  # type: ignore[misc]
        best = max(best, 2 * rows * inner * columns / took_s)
    return Limits(best, _read_bytes(device, tries))


def _read_bytes(device: torch.device, tries: int) -> float:
    size = GPU_BUFFER_BYTES if device.type == "cuda" else BUFFER_BYTES
    rows = torch.ones(size // 4 // 1024, 1024, device=device)
    vector = torch.ones(1024, device=device)
    sums = min(timed(rows.sum, device) for _ in range(tries))
    products = min(timed(lambda: rows @ vector, device) for _ in range(tries))
    return size / min(sums, products)


@dataclass(frozen=True, slots=True)
class Work:
    """Floating-point operations and bytes of one geometry."""

    config: Any

    @property
    def tower(self) -> int:
        """One picture through tower and projector."""
        vision, width = self.config.vision_config, self.config.text_config.hidden_size
        own, inner = vision.hidden_size, vision.intermediate_size
        patches = (vision.image_size // vision.patch_size) ** 2
        layer = 2 * patches * (4 * own * own + 2 * own * inner) + 4 * patches * patches * own
        first = 2 * patches * 3 * vision.patch_size**2 * own
        return first + vision.num_hidden_layers * layer + 2 * patches * (own * width + width * width)

    @property
    def layer_weights(self) -> int:
        """Weights of all linear layers of the language model's body: each is used once a token."""
        text = self.config.text_config
        head = text.hidden_size // text.num_attention_heads
        attention = 2 * text.hidden_size**2 + 2 * text.hidden_size * text.num_key_value_heads * head
        return int(text.num_hidden_layers * (attention + 3 * text.hidden_size * text.intermediate_size))

    @property
    def head_weights(self) -> int:
        """Weights that turn a hidden state into scores over the vocabulary."""
        return int(self.config.text_config.hidden_size * self.config.text_config.vocab_size)

    def language(self, tokens: int, before: int) -> int:
        """`tokens` through the language model's body on top of `before` positions, causal among themselves."""
        text = self.config.text_config
        pairs = tokens * before + tokens * (tokens + 1) // 2
        return 2 * self.layer_weights * tokens + 4 * text.num_hidden_layers * text.hidden_size * pairs

    def word_bytes(self, weight_bytes: float, before: int, value_bytes: int) -> float:
        """What writing one more word on top of `before` positions has to read: weights, keys and values."""
        text = self.config.text_config
        width = text.num_key_value_heads * text.hidden_size // text.num_attention_heads
        cache = 2 * text.num_hidden_layers * width * before * value_bytes
        return (self.layer_weights + self.head_weights) * weight_bytes + cache
