"""Every so-manieth recent token: the plain choice at an equal budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from memory.focus import Focus, Reading, Tokens
from memory.recall import Asked
from stream.policy import Paper


@dataclass(frozen=True)
class Uniform(Focus):
    """The middle token of each of `room` equal stretches."""

    paper: ClassVar[Paper] = Paper("uniform recent tokens", "", "baseline")
    looks: ClassVar[bool] = False

    def select(self, asked: Asked, tokens: Tokens, room: int) -> Reading:  # noqa: ARG002
        """See Focus."""
        count = min(room, len(tokens))
        return Reading((2 * torch.arange(count) + 1) * len(tokens) // max(1, 2 * count))
