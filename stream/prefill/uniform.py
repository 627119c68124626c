"""Every so-manieth visual token goes on: the plain choice at an equal budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from stream.policy import Paper
from stream.prefill.cut import Cut, Cutting, Schedule


@dataclass(frozen=True)
class Uniform(Cut):
    """Tokens that stand evenly in reading order.

    `keep`: share of the frame's tokens that stays, at each depth.
    `depths`: on entering which layers, in shares of all layers.
    """

    paper: ClassVar[Paper] = Paper("uniform tokens in later layers", "", "baseline")

    def passing(self, schedule: Schedule) -> Cutting:
        """See Cut."""
        return _Evenly(schedule)


class _Evenly(Cutting):
    def places(self, layer: int, hidden: Tensor, count: int) -> Tensor:  # noqa: ARG002
        """The middle of each of `count` equal stretches."""
        return (2 * torch.arange(count, device=hidden.device) + 1) * self.schedule.visual // (2 * count)
