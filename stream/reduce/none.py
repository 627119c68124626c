"""The do-nothing reducer: the language model reads every visual token. The upper bound in every comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from stream.policy import Paper
from stream.reduce import Reduce
from stream.types import VisualTokens


@dataclass(frozen=True)
class Nothing(Reduce):
    """Keep all tokens."""

    paper: ClassVar[Paper] = Paper("keep all tokens", "", "baseline")

    def reduce(self, tokens: VisualTokens, score: float) -> VisualTokens:  # noqa: ARG002
        """See Reduce."""
        return tokens
