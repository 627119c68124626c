"""How many tokens a frame may keep: few when it is dull, more when it is not. What all reducers but `none` share."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace

import torch

from stream.reduce import Reduce
from stream.types import VisualTokens


@dataclass(frozen=True)
class Dull(Reduce):
    """A frame is dull when its gate's score is below `below`: for the gate `still`, less than enough change.

    The gates `all` and `stride` call no frame dull, and the score of `random` is chance.
    """

    dull: int = 1
    keen: int = 0
    below: float = 1.0

    def __post_init__(self) -> None:
        if self.dull < 0 or self.keen < 0:
            raise ValueError(f"dull and keen are numbers of tokens, 0 for all; got dull {self.dull}, keen {self.keen}")

    def reduce(self, tokens: VisualTokens, score: float) -> VisualTokens:
        """See Reduce."""
        budget = self.dull if score < self.below else self.keen
        return self.shrink(tokens, budget) if 0 < budget < len(tokens.feats) else tokens

    @abstractmethod
    def shrink(self, tokens: VisualTokens, budget: int) -> VisualTokens:
        """At most `budget` tokens, 0 < budget < N."""


@dataclass(frozen=True)
class Selecting(Dull):
    """Some tokens stay as they are, the others go."""

    def shrink(self, tokens: VisualTokens, budget: int) -> VisualTokens:
        """`budget` tokens in a row."""
        places = self.places(len(tokens.feats), budget)
        kept = tokens.feats[torch.tensor(places, device=tokens.feats.device)]
        return replace(tokens, feats=kept, grid=(1, budget))

    @abstractmethod
    def places(self, count: int, budget: int) -> list[int]:
        """Which `budget` < `count` of them stay: rising, each once."""
