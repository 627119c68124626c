"""Few frames on a coarser grid each: the relevant ones, and one of those that are alike (B-VLLM)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from memory.focus import Focus, Reading, Tokens
from memory.focus.pool import averages, own, reading, sides, spread, whole
from memory.focus.score import frame_means, token_scores
from memory.recall import Asked
from memory.recall import bvllm as recalled
from memory.recall.choose import best_first
from stream.policy import Paper


@dataclass(frozen=True)
class BVLLM(Focus):
    """The best frames, repeats averaged into the frame that they repeat; the room is shared out evenly among them.

    `frames`: at most.
    `same`: a repeat has a (cosine + 1) / 2 above this with an earlier frame; above 1 nothing repeats.
    """

    frames: int = 16
    same: float = 0.75

    paper: ClassVar[Paper] = Paper(
        title=recalled.BVLLM.paper.title,
        link=recalled.BVLLM.paper.link,
        fidelity="style",
        differs="without its trained Q-Formers: relevance comes from the question's own queries; repeats are found by "
        "frames' mean keys, less the mean of all, and among those that stay; average pooling in place of merging "
        "brings a frame to its share",
    )
    looks: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.frames < 1 or self.same <= 0:
            raise ValueError(f"frames must be at least 1 and same above 0, got {self.frames} and {self.same}")

    def select(self, asked: Asked, tokens: Tokens, room: int) -> Reading:
        """See Focus."""
        if len(tokens) <= room:
            return Reading(torch.arange(len(tokens)))
        scores = frame_means(token_scores(asked, tokens), tokens.frames)
        chosen = sorted(best_first(scores)[: min(self.frames, room)])
        owner = recalled.owners(_vectors(tokens)[chosen], self.same)
        alike = [[frame for frame, place in zip(chosen, owner, strict=True) if place == first] for first in set(owner)]
        return reading([self._frame(tokens, frames, room // len(alike)) for frames in alike], tokens)

    def _frame(self, tokens: Tokens, alike: list[int], room: int) -> Tensor:
        """Weights [at most `room`, n] of frames that are read as one, on one grid."""
        if len(alike) == 1 and len(own(tokens, alike[0])) <= room:
            return whole(tokens, alike[0])
        cells = averages(tokens.grid, sides(room, tokens.grid))
        return torch.stack([spread(cells, tokens, frame) for frame in alike]).mean(0)


def _vectors(tokens: Tokens) -> Tensor:
    """float32 [F, L * Hkv * Dh]: the mean key of each frame, less that of all tokens."""
    keys = tokens.keys.float().cpu().permute(2, 0, 1, 3).flatten(1)
    counts = torch.bincount(tokens.frames)
    sums = torch.zeros(len(counts), keys.shape[1]).index_add(0, tokens.frames, keys - keys.mean(0))
    return sums / counts[:, None]
