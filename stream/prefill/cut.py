"""What methods share that drop tokens at some depths for good: where, and how many stay."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from stream.prefill import Passing, Prefill, Way


@dataclass(frozen=True)
class Cut(Prefill):
    """On entering the layer at each of `depths` (shares of all layers), a share `keep` of the frame's own tokens stays.

    Shares are of the frame's original number of tokens, rounded, at least one token each; they belong to the depths in
    order.
    """

    keep: tuple[float, ...] = (0.5,)
    depths: tuple[float, ...] = (0.5,)
    modules: ClassVar[bool] = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "keep", tuple(self.keep))
        object.__setattr__(self, "depths", tuple(self.depths))
        falling = all(a >= b for a, b in zip(self.keep, self.keep[1:], strict=False))
        if not self.keep or not falling or not all(0 < share <= 1 for share in self.keep):
            raise ValueError(f"keep are falling shares in (0, 1], got {list(self.keep)}")
        rising = all(a < b for a, b in zip(self.depths, self.depths[1:], strict=False))
        if len(self.depths) != len(self.keep) or not rising or not all(0 <= depth < 1 for depth in self.depths):
            raise ValueError(
                f"depths are rising shares of all layers in [0, 1), one for each keep; got {list(self.depths)}"
            )

    def start(self, visual: int, tail: int, layers: int) -> Passing | None:
        """See Prefill."""
        counts = [max(1, round(share * visual)) for share in self.keep]
        plan = {int(depth * layers): count for depth, count in zip(self.depths, counts, strict=True)}
        if min(plan.values()) >= visual:
            return None
        return self.passing(Schedule(plan, visual, tail))

    @abstractmethod
    def passing(self, schedule: Schedule) -> Cutting:
        """A frame begins."""


@dataclass
class Schedule:
    """How many of a frame's tokens are there, and how many stay on entering a layer."""

    plan: dict[int, int]  # layer -> tokens that stay
    visual: int  # tokens that are there now
    tail: int


@dataclass
class Cutting(Passing):
    """See Passing. Drops down to the schedule."""

    schedule: Schedule = field()

    def enter(self, layer: int, hidden: Tensor) -> Way | None:
        """See Passing."""
        count = self.schedule.plan.get(layer)
        if count is None or count >= self.schedule.visual:
            return None
        rows = self.places(layer, hidden, count)
        self.schedule.visual = count
        return Way(rows)

    @abstractmethod
    def places(self, layer: int, hidden: Tensor, count: int) -> Tensor:
        """Which `count` of the `schedule.visual` tokens that are there stay: int64, rising. See Passing.enter."""
