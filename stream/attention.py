"""The attention function that reads carriers: registered with transformers, so no forward is ever replaced.

The text model's rotary module is disarmed (`stream/rope.py`), so queries and keys arrive un-rotated. What to do with
them stands in a `Reading` that travels through the model as a keyword argument:

    Side    [ tokens for store 0 | for store 1 | ... ]     the daemon: cameras' frames, or all questions in flight,
            each turned once, written, read in place       flat in one row: nothing is padded, nothing copied
    Plan    [== block 0 ==][== block 1 ==] ...             one-shot with evictions: one block a frame, each reads
                                                           keys at positions of its own, under its own mask

Training has a reading of its own (`stream/train/unroll.py`), which has the same rule for a whole clip at once.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface

from stream.kv import Store
from stream.prefill import Passing
from stream.rope import Rope, Rotation
from stream.types import Pointer

NAME = "longwatch"


class Reading(Protocol):
    """How one forward reads its keys: travels through the model as the keyword argument `plan`."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Un-rotated `query` [B, heads, Q, Dh], `key` and `value` [B, Hkv, K, Dh] of a layer -> [B, heads, Q, Dh]."""
        ...


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive queries that share key positions."""

    first: int  # queries first .. last-1
    last: int
    queries: Rotation  # of those queries
    keys: Rotation  # of all keys
    mask: Tensor  # bool [B or 1, 1, Q, K], True = may read


@dataclass(frozen=True, slots=True)
class Plan:
    """Blocks of queries over the forward's own keys."""

    blocks: tuple[Block, ...]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:  # noqa: ARG002
        """See Reading."""
        outs = []
        for block in self.blocks:
            own = block.queries(query[:, :, block.first : block.last])
            outs.append(_attend(own, block.keys(key), value, block.mask, scale))
        return outs[0] if len(outs) == 1 else torch.cat(outs, dim=2)


@dataclass(slots=True)
class Mass:
    """Attention of the newest query to every key: the raw material of evidence.

    Of the pointer's layer and heads where the checkpoint was trained to point; else the mean over all of them.
    With `keep_queries` also what the block's tokens look for, layer by layer, before rotation: what recall asks with.
    """

    pointer: Pointer | None = None
    keep_queries: bool = False
    layers: int = 0
    total: Tensor | None = field(default=None)  # [B, K] mean over heads, summed over layers
    newest: list[Tensor] = field(default_factory=list)  # per layer [B, heads, Dh] the newest query
    mean: list[Tensor] = field(default_factory=list)  # per layer [B, heads, Dh] mean over the block's queries

    def wants(self, layer: int) -> bool:
        """Whether this layer's weights count."""
        return self.pointer is None or layer == self.pointer.layer

    def like(self) -> Mass:
        """A new one of the same kind."""
        return Mass(self.pointer, self.keep_queries)

    def clear(self) -> None:
        """As new."""
        self.layers, self.total = 0, None
        self.newest.clear()
        self.mean.clear()

    def look(self, queries: Tensor) -> None:
        """One layer's un-rotated `queries` [B, heads, Q, Dh]."""
        if self.keep_queries:
            self.newest.append(queries[:, :, -1])
            self.mean.append(queries.mean(2))

    def add(self, weights: Tensor) -> None:
        """One layer's `weights` [B, heads, K]."""
        chosen = weights
        if self.pointer is not None:  # one by one: a list of numbers would go to the GPU, which a graph cannot hold
            chosen = torch.stack([weights[:, head] for head in self.pointer.heads], dim=1)
        mean = chosen.float().mean(1)
        self.total = mean if self.total is None else self.total + mean
        self.layers += 1


@dataclass(slots=True)
class Thin:
    """A frame's way through the layers, see `stream/prefill`; and what came of it."""

    passing: Passing
    tail: int  # rows at the end that go through every layer
    modules: bool = False  # whether it is told what attention and MLP gave
    survivors: Tensor | None = None  # int64, rising: visual tokens that went through all of them; known afterwards


@dataclass(frozen=True, slots=True)
class Step:
    """What one store's rows contribute to a forward."""

    embeds: Tensor  # [B, T, D]
    positions: Tensor  # [B, T] or [1, T], float32
    store: Store
    mass: Mass | None = None  # collects the attention of the newest query
    thin: Thin | None = None  # which of its rows go through which layers; then B is 1 and the store a Lane
    ends: Tensor | None = None  # int64, rising: the only rows that are read afterwards (`stream/ending.py`); None: all


class Side:
    """Steps side by side in one row of tokens [1, sum of B x T]. One forward uses it up."""

    def __init__(self, steps: Sequence[Step], rope: Rope) -> None:
        self._parts: list[tuple[Step, Tensor | None, int, int]] = []  # with its mask, and where its tokens are
        end = 0
        for step in steps:
            rows, count = step.embeds.shape[:2]
            begin, end = end, end + rows * count
            self._parts.append((step, step.store.begin(count), begin, end))
        self.embeds = torch.cat([step.embeds.flatten(0, 1) for step in steps])[None]
        where = [step.positions.expand(step.embeds.shape[:2]).flatten() for step in steps]
        self._turn = rope.at(torch.cat(where)[None].to(self.embeds.device), self.embeds)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """See Reading."""
        asked, turned = self._turn(query), self._turn(key)
        whole = query.new_empty(query.transpose(1, 2).shape)  # [1, tokens, heads, Dh]
        for step, mask, begin, end in self._parts:
            shape = step.embeds.shape[:2]
            own, raw, new, val = (rows_of(item, begin, end, shape) for item in (asked, key, turned, value))
            keys, values = step.store.put(layer, raw, new, val)
            out = read_past(step.mass, layer, own, (keys, values), mask, scale)
            whole[0, begin:end] = out.transpose(1, 2).flatten(0, 1)
            if step.mass is not None:
                step.mass.look(rows_of(query, begin, end, shape))
        return whole.transpose(1, 2)

    @property
    def key(self) -> Hashable:
        """Equal for sides whose forwards do the same with the same memory, so that one can be replayed for another;
        None where that is not so."""
        found = []
        for step, *_ in self._parts:
            if step.store.fixed is None or (step.mass is not None and step.mass.keep_queries):
                return None
            found.append((step.store.fixed, *step.embeds.shape[:2], step.mass is None))
        return tuple(found)

    def still(self) -> Side:
        """The same side with inputs of its own, which `load` fills: what a graph is captured of."""
        side = copy(self)
        side.embeds, side._turn = self.embeds.clone(), Rotation(self._turn.cos.clone(), self._turn.sin.clone())
        side._parts = []
        for step, mask, begin, end in self._parts:
            own = replace(step, store=step.store.still(), mass=step.mass and step.mass.like())
            side._parts.append((own, mask, begin, end))
        return side

    def load(self, side: Side) -> None:
        """Take over the inputs of `side`, which has the same key."""
        self.embeds.copy_(side.embeds)
        self._turn.cos.copy_(side._turn.cos)
        self._turn.sin.copy_(side._turn.sin)

    def renew(self) -> None:
        """Ready for one more forward."""
        for step, *_ in self._parts:
            if step.mass is not None:
                step.mass.clear()

    def adopt(self, side: Side) -> None:
        """What the forward of `side` collected is this one's."""
        for (own, *_), (other, *_) in zip(self._parts, side._parts, strict=True):
            if own.mass is not None and other.mass is not None:
                own.mass.layers = other.mass.layers
                own.mass.total = None if other.mass.total is None else other.mass.total.clone()

    def split(self, hidden: Tensor) -> list[Tensor]:
        """The forward came to its end: [1, tokens, D] -> one [B, T, D] a step."""
        for step, *_ in self._parts:
            step.store.finish()
        return [hidden[0, begin:end].view(step.embeds.shape) for step, _, begin, end in self._parts]


def install(language_model: nn.Module) -> None:
    """Make a Hugging Face text model attend through `read`."""
    AttentionInterface.register(NAME, read)
    language_model.set_attn_implementation(NAME)  # type: ignore[operator]


def read(
    module: nn.Module,
    query: Tensor,  # [B, heads, Q, Dh] un-rotated
    key: Tensor,  # [B, Hkv, K, Dh]
    value: Tensor,  # [B, Hkv, K, Dh]
    attention_mask: Tensor | None,  # noqa: ARG001 - the interface's slot; the mask is in the plan
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention under `kwargs["plan"]`, a `Reading`; returns [B, Q, heads, Dh] as transformers expects it."""
    plan: Reading = kwargs["plan"]
    out = plan.attend(int(module.layer_idx), query, key, value, kwargs["scaling"])  # type: ignore[arg-type]
    return out.transpose(1, 2).contiguous(), None


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale, enable_gqa=True)


def read_past(
    mass: Mass | None, layer: int, query: Tensor, past: tuple[Tensor, Tensor], mask: Tensor | None, scale: float
) -> Tensor:
    """One step's rows [B, heads, T, Dh] read keys and values; `mass` takes the weights of the newest, if it wants."""
    keys, values = past
    alone = query.shape[2] == 1
    wants = mass is not None and mass.wants(layer)
    weights = weights_of(query[:, :, -1:], keys, mask, scale) if wants or alone else None
    if wants and mass is not None and weights is not None:
        mass.add(weights)
    if alone and weights is not None:  # one word: half the price of a kernel
        return _mix(weights, values)
    return _attend(query, keys, values, mask, scale)


def rows_of(states: Tensor, begin: int, end: int, shape: torch.Size) -> Tensor:
    """[1, heads, tokens, Dh] -> the tokens of one step [B, heads, T, Dh], a view."""
    return states[0, :, begin:end].view(states.shape[1], *shape, states.shape[3]).transpose(0, 1)


def weights_of(query: Tensor, key: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Softmax weights [B, heads, K] of one `query` [B, heads, 1, Dh] over `key` [B, Hkv, K, Dh]."""
    groups = query.reshape(query.shape[0], key.shape[1], -1, query.shape[3])  # [B, Hkv, heads a group, Dh]
    scores = (groups @ key.transpose(2, 3)).float().flatten(1, 2) * scale
    return (scores if mask is None else scores + mask[:, :, -1]).softmax(-1)


def _mix(weights: Tensor, value: Tensor) -> Tensor:
    """Softmax `weights` [B, heads, K] of one query over `value` [B, Hkv, K, Dh] -> [B, heads, 1, Dh]."""
    groups = weights.to(value.dtype).view(value.shape[0], value.shape[1], -1, value.shape[2])
    return (groups @ value).flatten(1, 2)[:, :, None]
