"""The do-nothing tower: every block reads every patch. The upper bound in every comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from stream.policy import Paper
from stream.tower import Thinning, Tower


@dataclass(frozen=True)
class Nothing(Tower):
    """Keep all patches."""

    paper: ClassVar[Paper] = Paper("keep all patches", "", "baseline")
    share: ClassVar[float] = 1.0

    def start(self, embeddings: Tensor, grid: tuple[int, int], blocks: int) -> Thinning | None:  # noqa: ARG002
        """See Tower."""
        return None
