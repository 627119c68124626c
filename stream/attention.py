"""The attention function that reads carriers: registered with transformers, so no forward is ever replaced.

The text model's rotary module is disarmed (`stream/rope.py`), so queries and keys arrive un-rotated. What to do with
them stands in a `Plan` that travels through the model as a keyword argument:

    queries   [==== block 0 ====][==== block 1 ====] ...      training: one block holds the whole clip
    keys      each block reads some keys, each at a           the daemon: one block, keys rotated by the cache
              position of its own, under its own mask         one-shot with evictions: one block a frame
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface

from stream.rope import Rotation

NAME = "longwatch"


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive queries that share key positions."""

    first: int  # queries first .. last-1
    last: int
    queries: Rotation  # of those queries
    keys: Rotation | None  # of all keys; None: they come rotated from the cache
    mask: Tensor  # bool [B or 1, 1, Q, K], True = may read


@dataclass(frozen=True, slots=True)
class Plan:
    """How one forward reads its keys. `mass` collects, when given, the attention of the last query (see `Mass`)."""

    blocks: tuple[Block, ...]
    mass: Mass | None = None


@dataclass(slots=True)
class Mass:
    """Attention of the newest query to every key, added up over layers: the raw material of evidence."""

    layers: int = 0
    total: Tensor | None = field(default=None)  # [B, K] mean over heads, summed over layers

    def add(self, weights: Tensor) -> None:
        """One layer's `weights` [B, heads, K]."""
        mean = weights.float().mean(1)
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
    """Attention under `kwargs["plan"]`; returns [B, Q, heads, Dh] as transformers expects it."""
    plan: Plan = kwargs["plan"]
    scale: float = kwargs["scaling"]
    outs = [_block(block, query, key, value, scale, module.training) for block in plan.blocks]
    if plan.mass is not None:
        last = plan.blocks[-1]
        plan.mass.add(_weights(last, query[:, :, last.first : last.last][:, :, -1:], key, scale)[:, :, 0])
    out = outs[0] if len(outs) == 1 else torch.cat(outs, dim=2)
    return out.transpose(1, 2).contiguous(), None


def _block(block: Block, query: Tensor, key: Tensor, value: Tensor, scale: float, training: bool) -> Tensor:
    turned = block.queries(query[:, :, block.first : block.last])
    keys = key if block.keys is None else block.keys(key)
    if training:  # on CPUs the plain form beats the fused kernel in the backward pass
        groups = turned.shape[1] // keys.shape[1]
        keys, value = keys.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        scores = (turned @ keys.transpose(2, 3)) * scale
        scores = scores.masked_fill(~block.mask, torch.finfo(scores.dtype).min)
        return scores.softmax(-1) @ value
    return F.scaled_dot_product_attention(turned, keys, value, attn_mask=block.mask, scale=scale, enable_gqa=True)


def _weights(block: Block, query: Tensor, key: Tensor, scale: float) -> Tensor:
    """Softmax weights [B, heads, 1, K] of the block's last query."""
    rotation = Rotation(block.queries.cos[..., -1:, :], block.queries.sin[..., -1:, :])
    keys = key if block.keys is None else block.keys(key)
    keys = keys.repeat_interleave(query.shape[1] // keys.shape[1], 1)
    scores = (rotation(query) @ keys.transpose(2, 3)).float() * scale
    return scores.masked_fill(~block.mask[:, :, -1:], float("-inf")).softmax(-1)
