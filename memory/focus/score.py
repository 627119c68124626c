"""How much a recent token has to do with a question: as `memory.recall.score` has it of carriers, token by token."""

from __future__ import annotations

import torch
from torch import Tensor

from memory.focus import Tokens
from memory.recall import Asked
from memory.recall.score import by_keys


def token_scores(asked: Asked, tokens: Tokens) -> Tensor:
    """float32 [n]; larger is more relevant. Only the order means something."""
    assert asked.look is not None, "a method that scores has `looks`"
    return by_keys(asked.look, tokens.keys) if len(tokens) else torch.zeros(0)


def frame_means(scores: Tensor, frames: Tensor) -> Tensor:
    """float32 [F]: mean of `scores` [n] over the tokens of each frame; `frames` [n] counts 0 .. F-1 and skips none."""
    count = int(frames.max()) + 1 if len(frames) else 0
    sums = torch.zeros(count).index_add(0, frames.cpu(), scores)
    return sums / torch.bincount(frames.cpu(), minlength=count).clamp_min(1)
