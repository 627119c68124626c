"""Remembered keys drawn by chance, and all rules at once: the floor that a choice has to beat at an equal budget."""

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
class Random(Thin):
    """Keys drawn with `seed`.

    `share`: of the keys that are read, in (0, 1].
    `seed`: of the draw: the same for every rule.
    """

    seed: int = 0

    paper: ClassVar[Paper] = Paper("random keys", "", "baseline")

    def kept(self, reader: Reader, view: MemoryView, rules: Sequence[Sequence[int]], count: int) -> Tensor:  # noqa: ARG002
        """See Thin."""
        drawn = torch.randperm(len(view.past), generator=torch.Generator().manual_seed(self.seed))
        return drawn[:count].sort().values
