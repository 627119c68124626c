"""All rules in one forward over one memory: each starts where the question would, and none reads another (PEPE)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from memory.rules import Reader, Rules
from memory.view import MemoryView
from stream.attention import Mass
from stream.kv import NO, Past, Slab
from stream.policy import Paper


class Chunks:
    """A slab whose next tokens are several texts side by side: every one reads what is remembered, and itself."""

    def __init__(self, slab: Slab, owner: Tensor) -> None:
        """`owner` int64 [T]: which of the texts each of the next T tokens belongs to."""
        self._slab = slab
        self.owner = owner
        self.fresh: Tensor | None = None  # [Hkv, T, Dh] un-rotated keys that the last layer put

    @property
    def fixed(self) -> Hashable:
        """See Store."""
        return self._slab.fixed

    def begin(self, count: int) -> Tensor | None:
        """See Store. Raises ValueError where `count` is not the number of owned tokens."""
        if count != len(self.owner):
            raise ValueError(f"the texts have {len(self.owner)} tokens together, {count} were announced")
        first, mask = self._slab.length, self._slab.begin(count)
        apart = self.owner[:, None] != self.owner[None, :]
        if mask is None or not apart.any():
            return mask
        mask = mask.clone()
        mask[..., first : first + count].masked_fill_(apart.to(mask.device), NO)
        return mask

    def put(self, layer: int, key: Tensor, turned: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """See Store."""
        self.fresh = key[0]
        return self._slab.put(layer, key, turned, value)

    def still(self) -> Slab:
        """See Store: only a single token is replayed, which has nobody beside it."""
        return self._slab.still()

    def finish(self) -> None:
        """See Store."""
        self._slab.finish()


def owners(rules: Sequence[Sequence[int]]) -> Tensor:
    """int64 [T]: the number of the rule that each of all rules' tokens belongs to."""
    return torch.cat([torch.full((len(rule),), number) for number, rule in enumerate(rules)])


def together(
    reader: Reader,
    past: Past,
    count: int,
    rules: Sequence[Sequence[int]],
    watch: tuple[Chunks, Mass] | None = None,
) -> Tensor:
    """[m, V] log-probabilities of the token after each of `rules`, read over `past` in one forward. `count` carriers
    are remembered, after which every rule starts. `watch`: a store of one's own, and what collects its attention."""
    model = reader.model
    tokens = torch.tensor([token for rule in rules for token in rule])
    if watch is None:
        store, mass = Chunks(model.slab([past], len(tokens)), owners(rules)), None
    else:
        store, mass = watch
    where = torch.cat([reader.positions.text(count, len(rule)) for rule in rules])
    hidden = model.forward(model.embed(tokens[None]), where[None], store, mass)
    last = torch.tensor([len(rule) for rule in rules]).cumsum(0) - 1
    return model.logits(hidden[0, last.to(hidden.device)]).log_softmax(-1)


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
        return together(reader, view.past, view.count, rules)
