"""In every other layer only some tokens run, the others wait: VideoLLM-MoD without its trained routers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from stream.ops import top
from stream.policy import Paper
from stream.prefill import Passing, Prefill, Way
from stream.prefill.quickvideo import key_norms
from stream.prefill.ranked import logits, nearest_layer

Router = Literal["attention", "keys", "uniform", "random"]


def received(scores: Tensor) -> Tensor:
    """How much later rows look at each of n rows but the last, as a multiple of an even spread: float32 [n - 1].

    `scores` [heads, n, n] before softmax, causal. A row spreads over as many as are before it, so that without the
    multiple an early token would win by its place alone.
    """
    count = scores.shape[1]
    spread = torch.arange(1, count + 1, device=scores.device)  # how many rows each reads
    lift = (scores.softmax(-1).mean(0) * spread[:, None]).tril(-1)
    return lift.sum(0)[:-1] / (count - spread[:-1])


@dataclass(frozen=True)
class Mod(Prefill):
    """Whole layers and layers for some take turns.

    `keep`: share of the frame's tokens that runs in a layer for some.
    `begin`: the first such layer, as a share of all layers.
    `router`: who runs: `attention` received in the layer before, smallest `keys` in it, `uniform` or `random`.
    `seed`: of `random`.
    """

    keep: float = 0.2
    begin: float = 4 / 28
    router: Router = "attention"
    seed: int = 0

    paper: ClassVar[Paper] = Paper(
        title="VideoLLM-MoD: Efficient Video-Language Streaming with Mixture-of-Depths Vision Computation",
        link="https://arxiv.org/abs/2408.16730",
        fidelity="style",
        differs="no code and no trained routers: what the layer before shows takes their place, and nothing scales "
        "what a layer adds; recent detail holds the tokens that ran in every layer: there may be none",
    )
    modules: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise ValueError(f"keep is a share of the tokens in (0, 1], got {self.keep}")
        if not 0 <= self.begin < 1:
            raise ValueError(f"begin is a share of all layers in [0, 1), got {self.begin}")
        if self.router not in get_args(Router):
            raise ValueError(f"router is one of {', '.join(get_args(Router))}, got {self.router!r}")

    def start(self, visual: int, tail: int, layers: int) -> Passing | None:  # noqa: ARG002
        """See Prefill."""
        count = max(1, round(self.keep * visual))
        if count >= visual or layers < 2:
            return None
        rng = torch.Generator().manual_seed(self.seed)
        return _Turns(self.router, nearest_layer(self.begin, layers), visual, count, rng)


@dataclass
class _Turns(Passing):
    router: Router
    begin: int  # the first layer for some
    visual: int
    count: int  # that run in it
    rng: torch.Generator
    scores: Tensor | None = field(default=None)  # [visual]

    def enter(self, layer: int, hidden: Tensor) -> Way | None:
        """See Passing."""
        if not self._some(layer):
            return None
        if self.router == "random":
            rows = torch.randperm(self.visual, generator=self.rng)[: self.count].sort().values
        elif self.router == "uniform":
            rows = (2 * torch.arange(self.count) + 1) * self.visual // (2 * self.count)
        else:
            assert self.scores is not None, "the layer before gives scores"
            rows = top(self.scores, self.count)
        return Way(rows.to(hidden.device), wait=True)

    def attention(self, layer: int, query: Tensor, key: Tensor) -> None:
        """See Passing."""
        if not self._some(layer + 1):
            return
        if self.router == "attention":
            self.scores = received(logits(query, key))[: self.visual]
        elif self.router == "keys":
            self.scores = -key_norms(key)[: self.visual]

    def _some(self, layer: int) -> bool:
        """Whether this layer is for some."""
        return layer >= self.begin and (layer - self.begin) % 2 == 0
