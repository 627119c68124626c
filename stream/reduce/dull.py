"""How many tokens a frame may keep: few when it is dull, more when it is not. What all reducers but `none` share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from stream.reduce import ATTENTION, GRID, Reduce, Seen
from stream.tap import Tap
from stream.types import VisualTokens


@dataclass(frozen=True)
class Dull(Reduce):
    """A frame is dull when its gate's score is below `below`: for the gate `still`, less than enough change.

    The gates `all` and `stride` call no frame dull, and the score of `random` is chance.
    """

    dull: int = 1
    keen: int = 0
    below: float = 1.0

    window: ClassVar[int] = 1
    needs: ClassVar[frozenset[str]] = frozenset()
    leaves: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        if self.dull < 0 or self.keen < 0:
            raise ValueError(f"dull and keen are numbers of tokens, 0 for all; got dull {self.dull}, keen {self.keen}")

    def blocks(self, depth: int) -> tuple[int, ...]:  # noqa: ARG002 - most read no attention
        """See Reduce."""
        return ()

    def reduce(self, seen: Sequence[Seen]) -> VisualTokens:
        """See Reduce."""
        newest = seen[-1]
        budget = self.dull if newest.frame.score < self.below else self.keen
        return self.shrink(seen, budget) if 0 < budget < len(newest.tokens.feats) else newest.tokens

    @abstractmethod
    def shrink(self, seen: Sequence[Seen], budget: int) -> VisualTokens:
        """At most `budget` tokens of the newest frame, 0 < budget < N."""


@dataclass(frozen=True)
class Selecting(Dull):
    """Some tokens stay as they are, the others go."""

    def shrink(self, seen: Sequence[Seen], budget: int) -> VisualTokens:
        """The rows that stay."""
        return seen[-1].tokens.only(self.places(seen, budget))

    @abstractmethod
    def places(self, seen: Sequence[Seen], budget: int) -> Tensor:
        """Which of the newest frame's N tokens stay: int64 [budget], rising, each once; 0 < budget < N."""


@dataclass(frozen=True)
class Attentive(Selecting):
    """Judges by what the vision tower attends to: the attention of one or more of its blocks, tapped."""

    needs: ClassVar[frozenset[str]] = frozenset({GRID, ATTENTION})

    def blocks(self, depth: int) -> tuple[int, ...]:
        """See Reduce: the last block that is used, whose output becomes the tokens."""
        return (depth - 1,)


def last(tokens: VisualTokens) -> Tap:
    """The tap of the last block that the tower uses; of an `Attentive` method's tokens."""
    return tokens.taps[max(tokens.taps)]
