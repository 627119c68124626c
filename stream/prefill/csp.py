"""A few tokens, then all, then those that the carrier looks at: the three phases of LVLM_CSP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from stream.policy import Paper
from stream.prefill import Passing, Prefill, Way
from stream.prefill.cut import Schedule
from stream.prefill.ranked import Ranking, last_row, nearest_layer


def representatives(visual: int, count: int) -> Tensor:
    """int64 [count], rising: every so-manieth of `visual` tokens, i * floor(visual / count) as published."""
    return torch.arange(count) * (visual // count)


@dataclass(frozen=True)
class Csp(Prefill):
    """Clustering: a share of the tokens, evenly, goes on and the others wait. Scattering: all go on. Then pruning.

    `cluster`: share of the tokens that goes through the first layers.
    `scatter`: from which layer on all go, as a share of all layers.
    `prune`: from which layer on only few are left, as a share of all layers.
    `keep`: share of the tokens that is left then.
    """

    cluster: float = 0.25
    scatter: float = 8 / 28
    prune: float = 14 / 28
    keep: float = 0.1

    paper: ClassVar[Paper] = Paper(
        title="LVLM_CSP: Accelerating Large Vision Language Models via Clustering, Scattering, and Pruning for "
        "Reasoning Segmentation",
        link="https://arxiv.org/abs/2504.10854",
        fidelity="style",
        differs="no code: phases and shares are our choice; the carrier is the pivot, with the attention of the layer "
        "before; recent detail holds the tokens that went through every layer, those of the first phase that are left: "
        "there may be none",
    )
    modules: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name in ("cluster", "keep"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share of the tokens in (0, 1], got {getattr(self, name)}")
        if not 0 <= self.scatter <= self.prune < 1:
            raise ValueError(
                f"scatter and prune are rising shares of all layers in [0, 1), got {self.scatter}, {self.prune}"
            )

    def start(self, visual: int, tail: int, layers: int) -> Passing | None:
        """See Prefill."""
        few, kept = (max(1, int(share * visual)) for share in (self.cluster, self.keep))
        prune = nearest_layer(self.prune, layers)
        scatter = min(nearest_layer(self.scatter, layers, 0), prune)
        if min(few if scatter else visual, kept if layers > 1 else visual) >= visual:
            return None
        return _Phases(Schedule({prune: kept}, visual, tail), clustered=representatives(visual, few), scatter=scatter)


@dataclass
class _Phases(Ranking):
    clustered: Tensor | None = None  # int64, rising: tokens of the first phase
    scatter: int = 0  # the layer that ends it

    def enter(self, layer: int, hidden: Tensor) -> Way | None:
        """See Passing."""
        if layer < self.scatter and self.clustered is not None and len(self.clustered) < self.schedule.visual:
            return Way(self.clustered.to(hidden.device), wait=True)
        return super().enter(layer, hidden)

    def attention(self, layer: int, query: Tensor, key: Tensor) -> None:
        """See Passing."""
        if self.cuts_next(layer):
            self.scores = last_row(query, key)[: self.schedule.visual]
