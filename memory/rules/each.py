"""One rule after the other, each over the whole view: what every faster way has to equal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from memory.rules import Reader, Rules
from memory.view import MemoryView
from stream.policy import Paper


@dataclass(frozen=True)
class Each(Rules):
    """A forward a rule."""

    paper: ClassVar[Paper] = Paper("one rule after the other", "", "baseline")

    @torch.inference_mode()
    def scores(self, reader: Reader, view: MemoryView, rules: Sequence[Sequence[int]]) -> Tensor:
        """See Rules."""
        model, found = reader.model, []
        for rule in rules:
            slab = model.slab([view.past], len(rule))
            where = reader.positions.text(view.count, len(rule))
            hidden = model.forward(model.embed(torch.tensor([list(rule)])), where[None], slab)
            found.append(model.logits(hidden[:, -1])[0].log_softmax(-1))
        return torch.stack(found)
