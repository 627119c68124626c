"""What stays when the bank is full: a method names one carrier that leaves, and perhaps the one that takes it in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor

from stream.policy import Paper, one
from stream.types import Span

Absorb = Literal["drop", "extend", "merge"]


@dataclass(frozen=True, slots=True)
class Rows:
    """All carriers in time order, the newest (which has just come) last. Read only."""

    digests: Tensor  # [n, D]
    spans: Sequence[Span]
    frames: Sequence[int]
    absorbed: int = 0  # carriers that this memory ever took in, the newest among them; n at least


@dataclass(frozen=True, slots=True)
class Choice:
    """Carrier `leaves` goes. With `into`, that one covers its time too.

    `extend`: the span grows, keys and values stay as they were (exact under the attention rule).
    `merge`: keys, values and digest become the mean, weighted by frames.
    """

    leaves: int
    into: int | None = None
    how: Absorb = "drop"


class Retain(Protocol):
    """One bank's policy. Sees carriers up to now only; never names the newest, which is always kept."""

    paper: ClassVar[Paper]

    def choose(self, rows: Rows, rng: torch.Generator) -> Choice:
        """Which of n >= 2 carriers leaves. Deterministic but for `rng`; must not change `rows`."""
        ...


TABLE: dict[str, str] = {
    "adjacent": "memory.retain.adjacent:Adjacent",
    "fifo": "memory.retain.fifo:Fifo",
    "uniform": "memory.retain.uniform:Uniform",
    "random": "memory.retain.random:Random",
    "sinks": "memory.retain.sinks:Sinks",
    "reservoir": "memory.retain.reservoir:Reservoir",
    "decay": "memory.retain.decay:Decay",
    "coin": "memory.retain.coin:Coin",
    "anypair": "memory.retain.anypair:AnyPair",
    "kmeans": "memory.retain.kmeans:Kmeans",
    "forest": "memory.retain.forest:Forest",
    "maxmin": "memory.retain.maxmin:MaxMin",
    "hot": "memory.retain.hot:Hot",
    "facility": "memory.retain.facility:Facility",
}


def make(spec: Mapping[str, Mapping[str, Any]]) -> Retain:
    """From a one-key map, e.g. `{"adjacent": {"when_full": "merge"}}`."""
    method: Retain = one("memory.retain", TABLE, spec)
    return method
