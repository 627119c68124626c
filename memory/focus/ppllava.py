"""Small windows of neighbouring tokens become one each, and in a window the relevant token weighs most (PPLLaVA)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from memory.focus import Focus, Reading, Tokens
from memory.focus.pool import Size, reading
from memory.focus.score import token_scores
from memory.recall import Asked
from memory.recall.score import standard
from stream.policy import Paper

Window = tuple[int, int, int]  # frames, rows, columns


def fitted(window: Window, frames: int, grid: Size, room: int) -> Window:
    """`window`, or the first of those with longer sides and then more frames, of which at most `room` cover all."""
    deep, high, wide = window
    while -(-frames // deep) * -(-grid[0] // high) * -(-grid[1] // wide) > room:
        if high < grid[0] or wide < grid[1]:
            high, wide = high + 1, wide + 1
        else:
            deep += 1
    return deep, high, wide


def windows(tokens: Tokens, window: Window) -> Tensor:
    """int64 [n]: which window each token lies in, numbered in time and reading order without gaps. Windows stand side
    by side from the first frame's corner; those at the other ends may be smaller."""
    deep, high, wide = window
    across = -(-tokens.grid[1] // wide)
    down = -(-tokens.grid[0] // high)
    row, column = tokens.places // tokens.grid[1], tokens.places % tokens.grid[1]
    number = (tokens.frames // deep * down + row // high) * across + column // wide
    found: Tensor = torch.unique(number, return_inverse=True)[1]
    return found


def pooling(weights: Tensor, window: Tensor, temperature: float) -> Tensor:
    """float32 [m, n]: in every `window` [n] the softmax of its tokens' `weights` [n] / `temperature`."""
    inside = window[None, :] == torch.arange(int(window.max()) + 1)[:, None]
    return torch.where(inside, weights.float()[None] / temperature, -torch.inf).softmax(1)


@dataclass(frozen=True)
class PPLLaVA(Focus):
    """Windows of tokens, pooled by the question; larger than asked for where the room is short.

    `frames`, `side`: tokens a window spans in time, and in rows and columns.
    `temperature`: of the softmax in a window.
    `scale`: of relevance (deviation 1) in the softmax over all tokens that comes before.
    `raw`: relevance itself goes into the windows, without that softmax.
    """

    frames: int = 2
    side: int = 3
    temperature: float = 0.01
    scale: float = 1.0
    raw: bool = False

    paper: ClassVar[Paper] = Paper(
        title="PPLLaVA: Varied Video Sequence Understanding With Prompt Guidance",
        link="https://arxiv.org/abs/2411.02327",
        fidelity="parity",
        differs="given relevance and windows the pooling is theirs; relevance comes from the question's own queries "
        "(no text tower here); un-rotated keys and values are pooled; windows that the grid cuts off are kept",
    )
    looks: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if min(self.frames, self.side) < 1 or self.temperature <= 0:
            raise ValueError(
                "frames and side must be at least 1 and temperature above 0, got "
                f"{self.frames}, {self.side} and {self.temperature}"
            )

    def select(self, asked: Asked, tokens: Tokens, room: int) -> Reading:
        """See Focus."""
        if len(tokens) <= room:
            return Reading(torch.arange(len(tokens)))
        size = fitted((self.frames, self.side, self.side), int(tokens.frames[-1]) + 1, tokens.grid, room)
        scores = standard(token_scores(asked, tokens))
        weights = scores if self.raw else (self.scale * scores).softmax(0)
        return reading([pooling(weights, windows(tokens, size), self.temperature)], tokens)
