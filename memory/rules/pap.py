"""What no rule looks at is not read: every rule keeps the keys it attends to most, the more the more it finds (PAP)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from memory.rules import Reader
from memory.rules.thin import Thin
from memory.view import MemoryView
from stream.attention import Mass
from stream.kv import NO, Past, Slab
from stream.ops import top
from stream.policy import Paper
from stream.rule import causal


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


def attention(query: Tensor, memory: Tensor, prompt: Tensor, own: Tensor) -> Tensor:
    """float32 [n]: attention of one rule to remembered keys, mean over heads and the rule's tokens.

    `query` [heads, T, Dh] against `memory` [Hkv, n, Dh]; the softmax also covers the system `prompt` [Hkv, S, Dh] and
    the rule's `own` keys [Hkv, T, Dh] up to the token itself, so that a rule that finds nothing has little to give.
    """
    heads, count, width = query.shape
    keys = torch.cat((memory, prompt, own), dim=1).float()
    grouped = query.float().reshape(keys.shape[0], heads // keys.shape[0], count, width)
    scores = grouped @ keys[:, None].transpose(2, 3) * width**-0.5  # [Hkv, heads a group, T, n + S + T]
    scores[..., -count:].masked_fill_(~causal(count).to(scores.device), -torch.inf)
    weights: Tensor = scores.softmax(-1)[..., : memory.shape[1]]
    return weights.mean((0, 1, 2))


def chosen(relevance: Tensor, count: int) -> Tensor:
    """int64 [count], rising, of the n keys that m rules have `relevance` [m, n] >= 0 for.

    The budget `count` < n is shared out in proportion to each rule's mean relevance, rounded down; the union of the
    rules' best stays. What is left of it goes to the best by any rule.
    """
    weights = relevance.double().mean(1)
    shares = (count * weights / weights.sum().clamp_min(1e-300)).long().tolist()
    worth = relevance.float().max(0).values
    for own, share in zip(relevance, shares, strict=True):
        worth[top(own, share)] = torch.inf
    return top(worth, count)


@dataclass(slots=True)
class _Watch(Mass):
    """Adds up, layer by layer, what the rules of `store` attend to before rotation."""

    store: Chunks | None = None
    past: Past | None = None
    prompt: Past | None = None
    sums: Tensor | None = None  # [m, n]

    def wants(self, layer: int) -> bool:  # noqa: ARG002
        return False

    def look(self, queries: Tensor) -> None:
        assert self.store is not None
        assert self.past is not None
        assert self.prompt is not None
        assert self.store.fresh is not None
        layer, self.layers = self.layers, self.layers + 1
        found = []
        for number in range(int(self.store.owner[-1]) + 1):
            own = torch.nonzero(self.store.owner == number).flatten().to(queries.device)
            keys = self.past.keys[layer], self.prompt.keys[layer], self.store.fresh[:, own]
            found.append(attention(queries[0, :, own], *keys))
        rows = torch.stack(found)
        self.sums = rows if self.sums is None else self.sums + rows


@dataclass(frozen=True)
class Pap(Thin):
    """As PEPE, over the keys that the rules attend to most.

    `share`: of all remembered keys that stay, in (0, 1].
    """

    paper: ClassVar[Paper] = Paper(
        title="SafeWatch: An Efficient Safety-Policy Following Video Guardrail Model with Transparent Explanations "
        "(PAP)",
        link="https://arxiv.org/abs/2412.06878",
        fidelity="style",
        differs="queries meet keys before rotation, of all layers; the rules are read twice: once to choose, once over "
        "what stays; what the union leaves of the budget goes to the best of the rest",
    )

    def kept(self, reader: Reader, view: MemoryView, rules: Sequence[Sequence[int]], count: int) -> Tensor:
        """See Thin."""
        store = Chunks(reader.model.slab([view.past], sum(map(len, rules))), owners(rules))
        watch = _Watch(keep_queries=True, store=store, past=view.past, prompt=reader.model.system())
        where = torch.cat([reader.positions.text(view.count, len(rule)) for rule in rules])
        tokens = torch.tensor([[token for rule in rules for token in rule]])
        reader.model.forward(reader.model.embed(tokens), where[None], store, watch)
        assert watch.sums is not None
        return chosen(watch.sums.cpu(), count)
