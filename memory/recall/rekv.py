"""The carriers that most layers would retrieve for the question, and the newest ones (ReKV)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from memory.recall import Asked, Method, Rows
from memory.recall.choose import fill, kept
from memory.recall.score import by_layer, standard
from stream.policy import Paper


def votes(scores: Tensor, count: int) -> list[int]:
    """Rows by how many layers have them among the `count` highest of their `scores` [L, n], best first; then by the
    mean of the layers' standardised scores, then in time order. Of one layer: its ranking."""
    best = torch.argsort(scores, dim=1, descending=True, stable=True)[:, :count]
    found = torch.zeros(scores.shape[1]).index_add_(0, best.flatten(), torch.ones(best.numel()))
    worth = torch.stack([standard(row) for row in scores]).mean(0).tolist()
    return sorted(range(scores.shape[1]), key=lambda row: (-float(found[row]), -worth[row], row))


@dataclass(frozen=True)
class ReKV(Method):
    """Every layer ranks carriers by the dot product of the mean query with the un-rotated key.

    `local`: newest carriers of the bank that are read anyhow, at most half of the room.
    """

    local: int = 16

    paper: ClassVar[Paper] = Paper(
        title="Streaming Video Question-Answering with In-context Video KV-Cache Retrieval (ReKV)",
        link="https://arxiv.org/abs/2503.00540",
        fidelity="style",
        differs="theirs lets every layer read blocks of its own; ours reads what most layers would, because a carrier "
        "is read by all of them; one carrier stands for a frame's keys",
    )

    def __post_init__(self) -> None:
        if self.local < 0:
            raise ValueError(f"local must be 0 or more, got {self.local}")

    def select(self, asked: Asked, rows: Rows, room: int) -> Sequence[int]:
        """See Recall."""
        assert asked.look is not None, "`looks`"
        newest = kept(rows, min(self.local, room // 2), bank=True)
        return fill(newest, votes(by_layer(asked.look, rows.keys), room - len(newest)), room)
