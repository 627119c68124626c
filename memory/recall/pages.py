"""Whole pages of consecutive carriers: the pages whose mean key the question attends to most (LiveVLM)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from memory.recall import Asked, Method, Rows
from memory.recall.choose import best_first, blocks, fill, pooled
from memory.recall.score import by_keys
from stream.policy import Paper


@dataclass(frozen=True)
class Pages(Method):
    """The best `share` of all pages, of bank and archive alike, as far as there is room; the newest page always.

    `size`: carriers a page.
    `share`: of all pages, at most.
    """

    size: int = 16
    share: float = 0.4

    paper: ClassVar[Paper] = Paper(
        title="LiveVLM: Efficient Online Video Understanding via Streaming-Oriented KV Cache and Retrieval",
        link="https://arxiv.org/abs/2505.15269",
        fidelity="style",
        differs="a page holds carriers, not tokens of one frame; one choice for all layers",
    )

    def __post_init__(self) -> None:
        if self.size < 1 or not 0 < self.share <= 1:
            raise ValueError(f"size must be at least 1 and share in (0, 1], got {self.size} and {self.share}")

    def select(self, asked: Asked, rows: Rows, room: int) -> Sequence[int]:
        """See Recall."""
        assert asked.look is not None, "`looks`"
        if not len(rows):
            return []
        pages = blocks(len(rows), self.size)
        order = [pages[number] for number in best_first(by_keys(asked.look, pooled(rows, pages).keys))]
        wanted = [pages[-1], *order[: math.ceil(self.share * len(pages))]]
        return fill((), (index for page in wanted for index in reversed(page)), room)
