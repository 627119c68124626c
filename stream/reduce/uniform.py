"""Every so-manieth token: the plain choice at an equal budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from stream.policy import Paper
from stream.reduce.dull import Selecting


@dataclass(frozen=True)
class Uniform(Selecting):
    """Tokens that stand evenly in reading order.

    `dull`: tokens of a frame whose gate score is below `below`; 0 is all of them.
    `keen`: tokens of every other frame; 0 is all of them.
    `below`: a frame with a lower score is dull.
    """

    paper: ClassVar[Paper] = Paper("uniform tokens", "", "baseline")

    def places(self, count: int, budget: int) -> list[int]:
        """See Selecting: the middle of each of `budget` equal stretches."""
        return [(2 * number + 1) * count // (2 * budget) for number in range(budget)]
