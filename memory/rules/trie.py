"""Rules as a tree of tokens, read in one forward: what several begin with is computed once.

    is --+-- there -- a --+-- red --+-- car -- ?        every node reads what is remembered, the nodes above it,
         |                |         +-- van -- ?        and itself: a rule is the way from the root to its end,
         |                +-- dog -- ?                  and gets what it would get alone
         +-- the -- gate -- open -- ?

Tree attention (SpecInfer, arXiv 2305.09781) over questions in the place of drafts. Nodes stand depth first, so that
all a limb of consecutive nodes reads are its own and the way to its first: no mask of all against all is made.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile

import torch
from torch import Tensor

from memory.rules import Reader
from stream.attention import Step
from stream.kv import NO, Past, Slab

LIMB = 128  # nodes that read together: more are fewer steps, with more that is masked
SETS = 16  # of rules whose trees are kept: one for each camera that has its own


@dataclass(frozen=True, slots=True)
class Limb:
    """Nodes `first` .. `last` - 1."""

    first: int
    last: int
    reads: (
        Tensor  # int64 [w + n], rising: nodes that some of its n nodes read: the w on the way to the first, and its own
    )
    mask: Tensor  # float32 [n, w + n], 0 or -inf
    ends: Tensor  # int64 [e], rising: those of its nodes at which a rule ends, from 0


@dataclass(frozen=True, slots=True)
class Trie:
    """Distinct beginnings of rules, whatever the order of the rules."""

    tokens: Tensor  # int64 [T]
    depth: Tensor  # int64 [T], 0 for what a rule begins with
    limbs: tuple[Limb, ...]
    rule: Tensor  # int64 [m]: of each rule, as they came, the number of its end among all ends

    def __len__(self) -> int:
        return len(self.tokens)


@lru_cache(SETS)
def grown(rules: tuple[tuple[int, ...], ...], limb: int = LIMB) -> Trie:
    """The tree of m >= 1 rules, in limbs of so many nodes. Raises ValueError where a rule is empty."""
    if not all(rules):
        raise ValueError(f"rule {rules.index(())} of {len(rules)} has no tokens")
    tokens: list[int] = []
    ways: list[tuple[int, ...]] = []  # of each node, the nodes from the root to itself
    ends: dict[tuple[int, ...], int] = {}
    before: tuple[int, ...] = ()
    for rule in sorted(set(rules)):  # what begins alike stands together, the shorter first: depth first
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(rule, before, strict=False)))
        way = ways[ends[before]][:shared] if shared else ()
        for token in rule[shared:]:
            way = (*way, len(tokens))
            tokens.append(token)
            ways.append(way)
        ends[rule], before = way[-1], rule
    order = sorted(ends.values())
    return Trie(
        tokens=torch.tensor(tokens),
        depth=torch.tensor([len(way) - 1 for way in ways]),
        limbs=tuple(_limb(ways, first, min(first + limb, len(ways)), order) for first in range(0, len(ways), limb)),
        rule=torch.tensor([order.index(ends[rule]) for rule in rules]),
    )


def _limb(ways: Sequence[tuple[int, ...]], first: int, last: int, ends: Sequence[int]) -> Limb:
    reads = [*ways[first][:-1], *range(first, last)]
    columns = {node: column for column, node in enumerate(reads)}
    mask = torch.full((last - first, len(reads)), NO)
    for row, way in enumerate(ways[first:last]):
        mask[row, [columns[node] for node in way]] = 0.0
    own = [end - first for end in ends if first <= end < last]
    return Limb(first, last, torch.tensor(reads), mask, torch.tensor(own, dtype=torch.long))


class Twig:
    """The store of one limb: what is remembered and the whole tree stand in one slab, and it reads its part of it."""

    def __init__(self, slab: Slab, limb: Limb) -> None:
        """`slab` holds what is remembered, and has room for the tree. A limb's step comes after those before it."""
        self._slab, self._limb, self._past = slab, limb, slab.length
        self._columns: Tensor | None = None  # int64 [past + w + n]

    @property
    def fixed(self) -> Hashable:
        """See Store: many tokens are not replayed."""
        return None

    def begin(self, count: int) -> Tensor | None:
        """See Store. Raises ValueError where `count` is not the number of its nodes."""
        limb = self._limb
        if count != limb.last - limb.first:
            raise ValueError(f"a limb of {limb.last - limb.first} nodes, {count} were announced")
        like = self._slab.like
        if limb.first:
            remembered = torch.arange(self._past)
            self._columns = torch.cat((remembered, self._past + limb.reads)).to(like.device)
        own = limb.mask.to(like.device, like.dtype)
        return torch.nn.functional.pad(own, (self._past, 0))[None, None]

    def put(self, layer: int, key: Tensor, turned: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """See Store; of the first limb nothing is copied."""
        keys, values = self._slab.write(layer, self._past + self._limb.first, turned, value)
        if self._columns is None:
            return keys, values
        return keys.index_select(2, self._columns), values.index_select(2, self._columns)

    def still(self) -> Twig:
        """See Store."""
        return self

    def finish(self) -> None:
        """See Store: a slab that was read by rules is read by nobody else."""


def read(reader: Reader, past: Past, count: int, rules: Sequence[Sequence[int]], limb: int = LIMB) -> Tensor:
    """[m, V] log-probabilities of the token after each of `rules`, read over `past` in one forward. `count` carriers
    are remembered, after which every rule starts. `limb` changes no more than rounding."""
    model, tree = reader.model, grown(tuple(tuple(rule) for rule in rules), limb)
    slab = model.slab([past], len(tree))
    embeds = model.embed(tree.tokens)[None]
    where = reader.positions.text(count, int(tree.depth.max()) + 1)[tree.depth][None]
    steps = [
        Step(embeds[:, limb.first : limb.last], where[:, limb.first : limb.last], Twig(slab, limb), ends=limb.ends)
        for limb in tree.limbs
    ]
    ended = torch.cat(model.forward_all(steps), dim=1)[0]
    return model.logits(ended).log_softmax(-1)[tree.rule.to(ended.device)]
