"""Every so-manieth remembered key, and all rules at once: the plain choice at an equal budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from memory.rules import Reader
from memory.rules.thin import Thin
from memory.view import MemoryView
from stream.policy import Paper


@dataclass(frozen=True)
class Uniform(Thin):
    """The middle key of each of equal stretches.

    `share`: of the keys that are read, in (0, 1].
    """

    paper: ClassVar[Paper] = Paper("uniform keys", "", "baseline")

    def kept(self, reader: Reader, view: MemoryView, rules: Sequence[Sequence[int]], count: int) -> Tensor:  # noqa: ARG002
        """See Thin."""
        return (2 * torch.arange(count) + 1) * len(view.past) // (2 * count)
