"""What no rule looks at is not read: every rule keeps the keys it attends to most, the more the more it finds (PAP)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from memory.rules import Reader
from memory.rules.pepe import Chunks, owners, together
from memory.rules.thin import Thin
from memory.view import MemoryView
from stream.attention import Mass
from stream.kv import Past
from stream.ops import top
from stream.policy import Paper
from stream.rule import causal


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
        together(reader, view.past, view.count, rules, (store, watch))
        assert watch.sums is not None
        return chosen(watch.sums.cpu(), count)
