"""A frame reads only the newest carriers: Video-XL-2's chunked prefill, with carriers in a chunk's place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from stream.policy import Paper
from stream.prefill import Passing, Prefill


@dataclass(frozen=True)
class Chunks(Prefill):
    """Frames look back a bounded way; questions read everything that is remembered.

    `before`: how many of the newest carriers a frame reads, beside the system prompt.
    """

    before: int = 12  # three chunks of four groups of frames; a carrier is to us what a group is to the authors

    paper: ClassVar[Paper] = Paper(
        title="Video-XL-2: Towards Very Long-Video Understanding Through Task-Aware KV Sparsification",
        link="https://arxiv.org/abs/2506.19225",
        fidelity="style",
        differs="a chunk is one frame, and of the chunks before it the carriers are read, not all tokens; a window "
        "that moves frame by frame; no timestamp tokens; what a question reads of it is the recall stage's",
    )
    modules: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.before < 1:
            raise ValueError(f"before must be at least 1 carrier, got {self.before}")

    def start(self, visual: int, tail: int, layers: int) -> Passing | None:  # noqa: ARG002
        """See Prefill: every token goes through every layer."""
        return None
