"""Tokens where the question looks: every frame is resized to as many as its relevance earns it (QuoTA)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from memory.focus import Focus, Reading, Tokens
from memory.focus.pool import bilinear, reading, sides, spread, whole
from memory.focus.score import frame_means, token_scores
from memory.recall import Asked
from memory.recall.score import standard
from stream.policy import Paper


def shares(chances: Tensor) -> Tensor:
    """float64 [F]: (100 p)^2, normalised to 1, of the `chances` p [F] that a frame shows what is asked about."""
    squares = (100 * chances.double()).square()
    return squares / squares.sum().clamp_min(1e-300)


def quotas(weights: Tensor, most: Sequence[int], room: int) -> list[int]:
    """Tokens of each frame: int(room x weight), at most as many as `most` says; what a frame cannot take goes to the
    others in proportion to their weights."""
    left, open_ = room, list(range(len(most)))
    found = [0] * len(most)
    while open_:
        total = float(weights[open_].sum())
        for frame in open_:
            found[frame] = int(left * float(weights[frame]) / max(total, 1e-300) + 1e-6)
        full = [frame for frame in open_ if found[frame] > most[frame]]
        if not full:
            break
        for frame in full:
            found[frame] = most[frame]
            left -= most[frame]
        open_ = [frame for frame in open_ if frame not in full]
    return found


@dataclass(frozen=True)
class Quota(Focus):
    """Each frame's tokens, resized to its quota of the room by bilinear interpolation; a quota of 0 drops the frame."""

    paper: ClassVar[Paper] = Paper(
        title="QuoTA: Query-oriented Token Assignment via CoT Query Decouple for Long Video Comprehension",
        link="https://arxiv.org/abs/2503.08689",
        fidelity="style",
        differs="a frame's chance is the sigmoid of its tokens' mean standardised relevance to the question's own "
        "queries, not a second model's yes; the language model's un-rotated keys and values are resized, not the grid "
        "before its pooling; a quota ends at the frame's own tokens and the surplus goes to the others",
    )
    looks: ClassVar[bool] = True

    def select(self, asked: Asked, tokens: Tokens, room: int) -> Reading:
        """See Focus."""
        if len(tokens) <= room:
            return Reading(torch.arange(len(tokens)))
        chances = frame_means(standard(token_scores(asked, tokens)), tokens.frames).sigmoid()
        most = torch.bincount(tokens.frames).tolist()
        counts = quotas(shares(chances), most, room)
        if not any(counts):  # less than a token for each
            best = int(chances.argmax())
            counts[best] = min(room, most[best])
        parts = list[Tensor]()
        for frame, count in enumerate(counts):
            if count == most[frame]:
                parts.append(whole(tokens, frame))
            elif count:
                parts.append(spread(bilinear(tokens.grid, sides(count, tokens.grid)), tokens, frame))
        return reading(parts, tokens)
