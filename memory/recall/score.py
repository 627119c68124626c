"""How much a carrier has to do with a question: raw queries against raw keys, digests, or both.

Keys and queries meet before rotation: what is a year old is looked for as what is a minute old (LiveVLM, arXiv
2505.15269, loses 3.3 points when it scores with RoPE on).
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from memory.recall import Asked, Look, Rows

By = Literal["keys", "digests", "fused"]


def known(by: str) -> None:
    """Raises ValueError where `by` is no way to score."""
    if by not in get_args(By):
        raise ValueError(f"by is one of {', '.join(get_args(By))}; got {by!r}")


def score(asked: Asked, rows: Rows, by: By) -> Tensor:
    """float32 [n]; larger is more relevant. Only the order means something."""
    assert asked.look is not None, "a method that scores has `looks`"
    if not len(rows):
        return torch.zeros(0)
    if by == "keys":
        return by_keys(asked.look, rows.keys)
    if by == "digests":
        return by_digests(asked.look, rows.digests)
    return standard(by_keys(asked.look, rows.keys)) + standard(by_digests(asked.look, rows.digests))


def by_keys(look: Look, keys: Tensor) -> Tensor:
    """Attention [n] of the question to `keys` [L, Hkv, n, Dh].

    With trained pointer heads: what these attend to. Else ReKV (arXiv 2503.00540): the mean query against the key, per
    layer; its layers retrieve one by one, ours agree on whole frames by the mean of their standardised scores.
    """
    keys = keys.float().cpu()
    if look.pointer is None:
        return torch.stack([standard(row) for row in by_layer(look, keys)]).mean(0)
    layer, heads = look.pointer.layer, list(look.pointer.heads)
    query: Tensor = look.newest[layer, heads].float().cpu()  # [h, Dh]
    share = look.newest.shape[1] // keys.shape[1]
    own = keys[layer, [head // share for head in heads]]  # [h, n, Dh]
    weights: Tensor = (torch.einsum("hd,hnd->hn", query, own) * query.shape[-1] ** -0.5).softmax(-1)
    return weights.mean(0)


def by_layer(look: Look, keys: Tensor) -> Tensor:
    """float32 [L, n]: dot product, layer by layer, of the question's mean query with `keys` [L, Hkv, n, Dh]."""
    keys = keys.float().cpu()
    scores: Tensor = torch.einsum("lgd,lgnd->ln", folded(look.mean, keys.shape[1]), keys)
    return scores


def by_head(look: Look, keys: Tensor, layer: int) -> Tensor:
    """float32 [2 x heads, n]: softmax attention of one layer's heads to `keys` [L, Hkv, n, Dh], of the newest query and
    of the mean one. Nothing else is attended to: rows sum to 1."""
    queries = torch.stack((look.newest[layer], look.mean[layer])).float().cpu()  # [2, heads, Dh]
    own = keys[layer].float().cpu().repeat_interleave(queries.shape[1] // keys.shape[1], dim=0)  # [heads, n, Dh]
    scores: Tensor = torch.einsum("qhd,hnd->qhn", queries, own) * queries.shape[-1] ** -0.5
    return scores.softmax(-1).flatten(0, 1)


def by_digests(look: Look, digests: Tensor) -> Tensor:
    """Cosine [n] of the question's mean embedding with `digests` [n, D]."""
    return F.cosine_similarity(digests.float().cpu(), look.words.float().cpu()[None], dim=-1)


def folded(queries: Tensor, kv_heads: int) -> Tensor:
    """float32 [L, heads, Dh] -> [L, Hkv, Dh]: what one key head is asked for by all the query heads that share it."""
    layers, heads, width = queries.shape
    grouped: Tensor = queries.float().cpu().view(layers, kv_heads, heads // kv_heads, width)
    return grouped.sum(2)


def linear(look: Look, kv_heads: int) -> Tensor:
    """float32 [L, Hkv, Dh]: the query whose dot product with a carrier's keys orders pools, coarse to fine."""
    if look.pointer is None:
        query = folded(look.mean, kv_heads)
        return query / query.flatten(1).square().sum(1).sqrt().clamp_min(1e-12)[:, None, None]
    picked = torch.zeros_like(look.newest)
    heads = list(look.pointer.heads)
    picked[look.pointer.layer, heads] = look.newest[look.pointer.layer, heads]
    return folded(picked, kv_heads)


def standard(scores: Tensor) -> Tensor:
    """Mean 0, deviation 1; all zero where all are equal."""
    centred: Tensor = scores - scores.mean()
    deviation = float(centred.square().mean().sqrt())
    return centred / max(deviation, 1e-12)
