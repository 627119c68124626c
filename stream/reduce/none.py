"""The do-nothing reducer: the language model reads every visual token. The upper bound in every comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from stream.policy import Paper
from stream.reduce import ATTENTION, GRID, Reduce, Seen
from stream.types import VisualTokens


@dataclass(frozen=True)
class Nothing(Reduce):
    """Keep all tokens."""

    paper: ClassVar[Paper] = Paper("keep all tokens", "", "baseline")
    window: ClassVar[int] = 1
    needs: ClassVar[frozenset[str]] = frozenset()
    leaves: ClassVar[frozenset[str]] = frozenset({GRID, ATTENTION})

    def blocks(self, depth: int) -> tuple[int, ...]:  # noqa: ARG002
        """See Reduce."""
        return ()

    def reduce(self, seen: Sequence[Seen]) -> VisualTokens:
        """See Reduce."""
        return seen[-1].tokens
