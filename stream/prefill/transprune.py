"""Tokens that the layers turn most go on: TransPrune's token transition variation. No question is needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from stream.policy import Paper
from stream.prefill import Part
from stream.prefill.cut import Cutting, Schedule
from stream.prefill.ranked import Ranked, Ranking, last_row


def transition(x: Tensor, y: Tensor) -> Tensor:
    """How much a module turned each token: float32 [T], of what it read `x` [T, D], normalised, and gave `y` [T, D].

    (|y| / |x|) * softmax over the tokens of (1 - cos(x, y)), before the residual (liaolea/TransPrune, MIT).
    """
    x, y = x.float(), y.float()
    turn = (1 - F.cosine_similarity(x, y, dim=-1)).softmax(0)
    moved: Tensor = y.norm(dim=-1) / x.norm(dim=-1) * turn
    return moved


@dataclass(frozen=True)
class TransPrune(Ranked):
    """Attention and MLP of the layers from just before the first cut on add up.

    `keep`: share of the frame's tokens that stays, at each depth, rounded down.
    `depths`: after which layers, in shares of all layers.
    `carrier`: whether the attention of the carrier, in the layer before the cut, counts as much as the transitions.
    """

    keep: tuple[float, ...] = (0.875, 0.625, 0.125)
    depths: tuple[float, ...] = (7 / 32, 9 / 32, 12 / 32)  # the authors' 7th, 9th and 12th of 32 layers
    carrier: bool = False

    paper: ClassVar[Paper] = Paper(
        title="TransPrune: Token Transition Pruning for Efficient Large Vision-Language Model",
        link="https://arxiv.org/abs/2507.20630",
        fidelity="parity",
        differs="transitions alone: at absorption there is no question whose attention could be added (the carrier's "
        "can, of the layer before the cut); the softmax runs over the frame; tokens keep their positions",
    )
    modules: ClassVar[bool] = True

    def passing(self, schedule: Schedule) -> Cutting:
        """See Cut."""
        return _Turning(schedule, carrier=self.carrier)


@dataclass
class _Turning(Ranking):
    carrier: bool = False
    turned: Tensor | None = None  # float32 [visual], all layers so far
    looked: Tensor | None = None  # float32 [visual], the newest layer

    def attention(self, layer: int, query: Tensor, key: Tensor) -> None:
        """See Passing."""
        if self.carrier and self.cuts_next(layer):
            self.looked = last_row(query, key)[: self.schedule.visual]

    def module(self, layer: int, part: Part, x: Tensor, y: Tensor) -> None:
        """See Passing."""
        plan = self.schedule.plan
        if not min(plan) - 1 <= layer < max(plan):
            return
        own = transition(x, y)[: self.schedule.visual]
        self.turned = own if self.turned is None else self.turned + own
        if part == "mlp" and self.cuts_next(layer):
            self.scores = self.turned if self.looked is None else share(self.turned) + share(self.looked)

    def places(self, layer: int, hidden: Tensor, count: int) -> Tensor:
        """See Cutting."""
        kept = super().places(layer, hidden, count)
        assert self.turned is not None
        self.turned = self.turned[kept]
        return kept


def share(scores: Tensor) -> Tensor:
    """`scores` [n] that sum to 1."""
    return scores / (scores.sum() + 1e-8)
