"""Tokens that matter to tokens that matter go on, fewer in every layer: AIM's PageRank on attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from stream.policy import Paper
from stream.prefill import Passing, Prefill
from stream.prefill.cut import Schedule
from stream.prefill.ranked import Ranking, logits

TEMPERATURE, ROUNDS = 0.1, 5  # of the authors


def importance(scores: Tensor) -> Tensor:
    """PageRank without damping of attention `scores` [heads, n, n] before softmax, -inf where a row may not look: [n].

    All rows begin with the same weight and hand it on by softmax(scores / 0.1), five times; then the root of the mean
    square over heads (`get_importance` of LaVi-Lab/AIM, Apache-2.0).
    """
    hand_on = (scores.float() / TEMPERATURE).softmax(-1)
    weight = scores.new_full((len(scores), 1, scores.shape[1]), 1 / scores.shape[1], dtype=torch.float32)
    for _ in range(ROUNDS):
        weight = weight @ hand_on
    return weight.square().mean(0).sqrt()[0]


def rate(layer: int, layers: int, begin: float = 15 / 28, end: float = 22 / 28) -> float:
    """The share of tokens that enters `layer` of `layers`: less than 1 from `begin` on, falling evenly to 0 at `end`.

    Both are shares of all layers. With 28 the authors' 0.875 after layer 14, .., 0 after layer 21.
    """
    first, last = round(begin * layers), round(end * layers)
    return min(1.0, max(0.0, 1 - (layer - first + 1) / (last - first + 1)))


@dataclass(frozen=True)
class Aim(Prefill):
    """What a layer shows takes effect in the next.

    `begin`: the first layer that fewer tokens enter, as a share of all layers.
    `end`: the first layer that as good as none enters, as a share of all layers.
    `least`: share of the frame's tokens that stays in any case; one token stays always.
    """

    begin: float = 15 / 28
    end: float = 22 / 28
    least: float = 0.0

    paper: ClassVar[Paper] = Paper(
        title="AIM: Adaptive Inference of Multi-Modal LLMs via Token Merging and Pruning (inside the language model)",
        link="https://arxiv.org/abs/2412.03248",
        fidelity="parity",
        differs="the attention is that of the frame's own rows, not of all that came before; tokens leave, where the "
        "authors mask them; one stays where theirs falls to none",
    )
    modules: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 <= self.begin <= self.end <= 1:
            raise ValueError(
                f"begin and end are rising shares of all layers in [0, 1], got {self.begin} and {self.end}"
            )
        if not 0 <= self.least <= 1:
            raise ValueError(f"least is a share of the tokens in [0, 1], got {self.least}")

    def start(self, visual: int, tail: int, layers: int) -> Passing | None:
        """See Prefill."""
        shares = {layer: max(self.least, rate(layer, layers, self.begin, self.end)) for layer in range(1, layers)}
        plan = {layer: max(1, int(share * visual)) for layer, share in shares.items() if share < 1}
        if not plan or min(plan.values()) >= visual:
            return None
        return _Inner(Schedule(plan, visual, tail))


@dataclass
class _Inner(Ranking):
    def attention(self, layer: int, query: Tensor, key: Tensor) -> None:
        """See Passing."""
        if self.cuts_next(layer):
            self.scores = importance(logits(query, key))[: self.schedule.visual]
