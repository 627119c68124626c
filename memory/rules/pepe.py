"""All rules in one forward over one memory: each starts where the question would, and none reads another (PEPE)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from memory.rules import Reader, Rules
from memory.rules.trie import read
from memory.view import MemoryView
from stream.policy import Paper


@dataclass(frozen=True)
class Pepe(Rules):
    """One forward for all rules."""

    paper: ClassVar[Paper] = Paper(
        title="SafeWatch: An Efficient Safety-Policy Following Video Guardrail Model with Transparent Explanations "
        "(PEPE)",
        link="https://arxiv.org/abs/2412.06878",
        fidelity="style",
        differs="the model is not tuned for it; every rule is answered by itself, where theirs writes one answer that "
        "reads all policies",
    )

    @torch.inference_mode()
    def scores(self, reader: Reader, view: MemoryView, rules: Sequence[Sequence[int]]) -> Tensor:
        """See Rules."""
        return read(reader, view.past, view.count, rules)
