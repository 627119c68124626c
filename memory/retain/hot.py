"""Representatives: the carrier that is neither central to its kind nor far from the others leaves (HoT's pruning)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn import functional as F

from memory.retain import Choice, Retain, Rows
from stream.ops import cosines, density_peaks
from stream.policy import Paper


@dataclass(frozen=True)
class Hot(Retain):
    """Density peaks by nearest neighbours (DPC-KNN) over all carriers, each scaled to length sqrt(D).

    The least score leaves. Where that is the newest, it stands for its nearest neighbour, which leaves.

    `neighbours`: carriers that make up a density, itself among them.
    """

    neighbours: int = 2

    paper: ClassVar[Paper] = Paper(
        title="Hourglass Tokenizer for Efficient Transformer-Based 3D Human Pose Estimation",
        link="https://arxiv.org/abs/2311.12028",
        fidelity="style",
        differs="over frame carriers of a video model; one leaves at a time where the paper keeps 81 of 243 at once; "
        "the newest always stays",
    )

    def __post_init__(self) -> None:
        if self.neighbours < 1:
            raise ValueError(f"neighbours must be >= 1, got {self.neighbours}")

    def choose(self, rows: Rows, rng: torch.Generator) -> Choice:
        """See Retain."""
        n, width = rows.digests.shape
        digests = F.normalize(rows.digests.float(), dim=1) * width**0.5  # as a layer norm gives: no density is 0
        kept = density_peaks(digests, n - 1, self.neighbours, rng)  # with noise: two nearest to each other tie
        least = n * (n - 1) // 2 - int(kept.sum())
        return Choice(least if least < n - 1 else int(cosines(digests[-1:], digests[:-1]).argmax()))
