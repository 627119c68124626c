"""Keep each frame with the same chance: the baseline that any clever gate has to beat at an equal budget."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import ClassVar

from stream.policy import Paper
from stream.types import Frame, Verdict


@dataclass
class Random:
    """Keep a `share` of the frames, drawn with `seed`: the same stream gives the same choice."""

    share: float = 0.5
    seed: int = 0
    paper: ClassVar[Paper] = Paper("random sampling", "", "baseline")
    looks: ClassVar[bool] = False
    _rng: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:
            raise ValueError(f"share must lie in [0, 1], got {self.share}")
        self._rng = random.Random(self.seed)

    def judge(self, frame: Frame) -> Verdict:  # noqa: ARG002
        """Keep by chance; the score is the draw, so that the largest scores are the kept ones."""
        score = 1.0 - self._rng.random()
        keep = score > 1.0 - self.share
        return Verdict(keep=keep, score=score, reason="kept" if keep else "random")
