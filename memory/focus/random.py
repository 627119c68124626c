"""Recent tokens drawn by chance: the floor that every focus has to beat at an equal budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from memory.focus import Focus, Reading, Tokens
from memory.recall import Asked
from stream.policy import Paper


@dataclass(frozen=True)
class Random(Focus):
    """`room` tokens drawn with `seed`: the same for every question."""

    seed: int = 0
    paper: ClassVar[Paper] = Paper("random recent tokens", "", "baseline")
    looks: ClassVar[bool] = False

    def select(self, asked: Asked, tokens: Tokens, room: int) -> Reading:  # noqa: ARG002
        """See Focus."""
        drawn = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(self.seed))
        return Reading(drawn[:room].sort().values)
