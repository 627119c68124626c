"""The do-nothing gate: every frame is kept. The upper bound in every comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from stream.policy import Paper
from stream.types import Frame, Verdict


@dataclass
class All:
    """Keep everything."""

    paper: ClassVar[Paper] = Paper("keep all frames", "", "baseline")
    looks: ClassVar[bool] = False

    def judge(self, frame: Frame) -> Verdict:  # noqa: ARG002
        """Always keep."""
        return Verdict(keep=True, score=1.0, reason="kept")
