"""The most relevant carriers, each once: what repeats an earlier one is read together with it (B-VLLM)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from memory.recall import Asked, Method, Rows
from memory.recall.choose import best_first
from memory.recall.score import By, known, score
from stream.ops import cosines
from stream.policy import Paper


def owners(vectors: Tensor, same: float) -> list[int]:
    """For every row of `vectors` [n, D] the row it repeats, itself for most: of the earlier rows that repeat nothing
    the one with the highest (cosine + 1) / 2, if that is above `same`."""
    alike = (cosines(vectors) + 1) / 2
    equal = torch.cdist(vectors.float(), vectors.float(), compute_mode="donot_use_mm_for_euclid_dist") == 0
    alike = torch.where(equal, torch.ones(()), alike)  # also where a row is zero and has no direction
    found, kept = list[int](), list[int]()
    for row in range(len(vectors)):
        best = max(kept, key=lambda place: float(alike[row, place]), default=row)
        if best == row or float(alike[row, best]) <= same:
            kept.append(row)
            best = row
        found.append(best)
    return found


def joined(chosen: Sequence[int], owner: Sequence[int]) -> list[list[int]]:
    """Groups of `chosen`: a row joins the group before it if that holds its `owner`; if the owner's group is an older
    one, which tells the same, the row is left out."""
    groups: list[list[int]] = []
    held = -1  # owner of the newest group
    for place, index in enumerate(chosen):
        if owner[place] == place:
            groups.append([index])
            held = place
        elif owner[place] == held:
            groups[-1].append(index)
    return groups


@dataclass(frozen=True)
class BVLLM(Method):
    """As many of the best as there is room for, and of these the repeats averaged into what they repeat.

    `by`: `keys`, `digests` or `fused`, as in `relevance`.
    `same`: a repeat has a (cosine + 1) / 2 above this with an earlier one; above 1 nothing repeats.
    """

    by: By = "keys"
    same: float = 0.75

    paper: ClassVar[Paper] = Paper(
        title="B-VLLM: A Vision Large Language Model with Balanced Spatio-Temporal Tokens",
        link="https://arxiv.org/abs/2412.09919",
        fidelity="style",
        differs="without its trained Q-Formers: relevance comes from the question's own queries (the softmax of "
        "temperature 0.5 does not change their order and is left out); repeats are found by digests, less the mean of "
        "all that may be read, and among those that stay, so that a slow change is no repeat; a repeat that is not "
        "next to what it repeats is left out",
    )

    def __post_init__(self) -> None:
        known(self.by)
        if self.same <= 0:
            raise ValueError(f"same must be above 0, got {self.same}")

    def select(self, asked: Asked, rows: Rows, room: int) -> Sequence[int]:
        """See Recall: the newest of every group."""
        return [group[-1] for group in self.groups(asked, rows, room)]

    def groups(self, asked: Asked, rows: Rows, room: int) -> Sequence[Sequence[int]]:
        """See Recall."""
        chosen = sorted(best_first(score(asked, rows, self.by))[:room])
        digests = rows.digests.float().cpu()
        return joined(chosen, owners((digests - digests.mean(0))[chosen], self.same))
