"""The attention function that reads carriers: registered with transformers, so no forward is ever replaced.

The text model's rotary module is disarmed (`stream/rope.py`), so queries and keys arrive un-rotated. What to do with
them stands in a `Plan` that travels through the model as a keyword argument:

    queries   [==== block 0 ====][==== block 1 ====] ...      the daemon: one block, keys rotated by the cache
    keys      each block reads some keys, each at a           one-shot with evictions: one block a frame
              position of its own, under its own mask

Training has a plan of its own (`stream/train/unroll.py`), which reads the same rule for a whole clip at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface

from stream.rope import Rotation
from stream.types import Pointer

NAME = "longwatch"


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive queries that share key positions."""

    first: int  # queries first .. last-1
    last: int
    queries: Rotation  # of those queries
    keys: Rotation | None  # of all keys; None: they come rotated from the cache
    mask: Tensor  # bool [B or 1, 1, Q, K], True = may read


class Reading(Protocol):
    """How one forward reads its keys: travels through the model as the keyword argument `plan`."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Un-rotated `query` [B, heads, Q, Dh], `key` and `value` [B, Hkv, K, Dh] of a layer -> [B, heads, Q, Dh]."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """Blocks of queries. `mass` collects, when given, the attention of the last query (see `Mass`)."""

    blocks: tuple[Block, ...]
    mass: Mass | None = None

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """See Reading."""
        outs = [_block(block, query, key, value, scale) for block in self.blocks]
        if self.mass is not None:
            last = self.blocks[-1]
            own = query[:, :, last.first : last.last]
            self.mass.look(own)
            if self.mass.wants(layer):
                self.mass.add(_weights(last, own[:, :, -1:], key, scale)[:, :, 0])
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

    def look(self, queries: Tensor) -> None:
        """One layer's un-rotated `queries` [B, heads, Q, Dh]."""
        if self.keep_queries:
            self.newest.append(queries[:, :, -1])
            self.mean.append(queries.mean(2))

    def add(self, weights: Tensor) -> None:
        """One layer's `weights` [B, heads, K]."""
        chosen = weights if self.pointer is None else weights[:, list(self.pointer.heads)]
        mean = chosen.float().mean(1)
        self.total = mean if self.total is None else self.total + mean
        self.layers += 1


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


def _block(block: Block, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    turned = block.queries(query[:, :, block.first : block.last])
    keys = key if block.keys is None else block.keys(key)
    return F.scaled_dot_product_attention(turned, keys, value, attn_mask=block.mask, scale=scale, enable_gqa=True)


def _weights(block: Block, query: Tensor, key: Tensor, scale: float) -> Tensor:
    """Softmax weights [B, heads, 1, K] of the block's last query."""
    rotation = Rotation(block.queries.cos[..., -1:, :], block.queries.sin[..., -1:, :])
    keys = key if block.keys is None else block.keys(key)
    keys = keys.repeat_interleave(query.shape[1] // keys.shape[1], 1)
    scores = (rotation(query) @ keys.transpose(2, 3)).float() * scale
    return scores.masked_fill(~block.mask[:, :, -1:], float("-inf")).softmax(-1)
