"""The do-nothing prefill: every visual token goes through every layer. The upper bound in every comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from stream.policy import Paper
from stream.prefill import Passing, Prefill


@dataclass(frozen=True)
class Nothing(Prefill):
    """Keep all tokens in all layers."""

    paper: ClassVar[Paper] = Paper("keep all tokens in all layers", "", "baseline")
    modules: ClassVar[bool] = False

    def start(self, visual: int, tail: int, layers: int) -> Passing | None:  # noqa: ARG002
        """See Prefill."""
        return None
