"""The do-nothing focus: a question reads all recent detail, whatever the room. The upper bound in every comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from memory.focus import Focus, Reading, Tokens
from memory.recall import Asked
from stream.policy import Paper


@dataclass(frozen=True)
class All(Focus):
    """Read all tokens."""

    paper: ClassVar[Paper] = Paper("read all recent tokens", "", "baseline")
    looks: ClassVar[bool] = False

    def select(self, asked: Asked, tokens: Tokens, room: int) -> Reading:  # noqa: ARG002
        """See Focus; the one method that knows no `room`."""
        return Reading(torch.arange(len(tokens)))
