"""What rule methods that read only a part of the memory share: the part, and one forward over it."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memory.rules import Reader, Rules
from memory.rules.trie import read
from memory.view import MemoryView
from stream.kv import Past


@dataclass(frozen=True)
class Thin(Rules):
    """Reads `share` of all remembered keys, carriers and recent tokens alike, where they stand; all rules at once.

    `share`: of the keys, in (0, 1]; rounded up.
    """

    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share must lie in (0, 1], got {self.share}")

    @torch.inference_mode()
    def scores(self, reader: Reader, view: MemoryView, rules: Sequence[Sequence[int]]) -> Tensor:
        """See Rules."""
        past = view.past
        count = math.ceil(self.share * len(past) - 1e-9)
        if count < len(past):
            rows = self.kept(reader, view, rules, count)
            own = rows.to(past.keys.device)
            past = Past(past.keys[:, :, own], past.values[:, :, own], past.positions[rows.to(past.positions.device)])
        return read(reader, past, view.count, rules)

    @abstractmethod
    def kept(self, reader: Reader, view: MemoryView, rules: Sequence[Sequence[int]], count: int) -> Tensor:
        """int64 [count], rising: the keys of `view.past` that stay, fewer than all of them."""
