"""Visual tokens drawn by chance go on: the floor that every prefill method has to beat at an equal budget."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from stream.policy import Paper
from stream.prefill.cut import Cut, Cutting, Schedule


@dataclass(frozen=True)
class Random(Cut):
    """The same places in every frame, drawn with `seed`.

    `keep`: share of the frame's tokens that stays, at each depth.
    `depths`: on entering which layers, in shares of all layers.
    """

    seed: int = 0
    paper: ClassVar[Paper] = Paper("random tokens in later layers", "", "baseline")

    def passing(self, schedule: Schedule) -> Cutting:
        """See Cut."""
        return _Drawn(schedule, torch.Generator().manual_seed(self.seed))


@dataclass
class _Drawn(Cutting):
    rng: torch.Generator = field()

    def places(self, layer: int, hidden: Tensor, count: int) -> Tensor:  # noqa: ARG002
        """A draw for each cut, the same in every frame."""
        drawn = torch.randperm(self.schedule.visual, generator=self.rng)
        return drawn[:count].sort().values.to(hidden.device)
