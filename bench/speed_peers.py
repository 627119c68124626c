"""How others remember a stream, on the same weights: the policies of published systems, as a reader's keys and values.

    full         nothing is kept but visual tokens: all of them are read anew at each question (LLaVA-Video)
    full-cached  the keys and values of every visual token are kept, every frame and question reads all of them
    rekv         the same, in host memory; a frame reads the last 15,000 tokens, a question per layer the system prompt
                 and the 64 frames whose mean key is nearest to its mean query (ReKV, arXiv 2503.00540)
    window       the system prompt and the last 16 seconds at contiguous positions (StreamingVLM, arXiv 2510.09608)

Written from the papers; only what costs time is modelled. A pool of random keys and values stands for the past: what
attention costs does not depend on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from stream.model.llava_onevision import LlavaOnevision
from stream.rope import Rotation

RECALLED = 64  # frames that ReKV's question reads
LOCAL_TOKENS = 15_000  # that ReKV's frame reads
WINDOW = 16  # frames of StreamingVLM's 16 seconds at one a second
BLOCK = 1_048_573  # values drawn, then repeated


class Pool:
    """Keys and values of a past of up to `frames` frames, [L, Hkv, S + frames * N + room, Dh] on `device`."""

    def __init__(self, model: LlavaOnevision, frames: int, room: int, device: torch.device) -> None:
        geo = model.geometry
        self.system, self.visual, self.frames = len(model.system()), geo.visual, frames
        columns = self.system + frames * geo.visual + room
        shape = (geo.layers, geo.kv_heads, columns, geo.head_width)
        self.keys = _random(shape, geo.dtype, device)
        self.values = _random(shape, geo.dtype, device)
        own = self.keys[:, :, self.system : self.system + frames * geo.visual]
        self.means = own.unflatten(2, (frames, geo.visual)).mean(3).to(geo.device)  # [L, Hkv, F, Dh]

    def end(self, frames: int) -> int:
        """The column after `frames` frames."""
        return self.system + frames * self.visual


def _random(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    out = torch.empty(shape, dtype=dtype, device=device)
    block, flat = torch.randn(BLOCK, device=device).to(dtype), out.view(-1)
    for begin in range(0, len(flat), BLOCK):
        part = flat[begin : begin + BLOCK]
        part.copy_(block[: len(part)])
    return out


class Attending(Protocol):
    """See `stream.attention.Reading`."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Un-rotated queries, keys and values of a layer -> [B, heads, Q, Dh]."""
        ...


@dataclass(frozen=True, slots=True)
class Alone:
    """Nothing but the tokens themselves, at positions 0, 1, ...: `full` reads everything anew."""

    turn: Rotation

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:  # noqa: ARG002
        """See Attending."""
        own, keys = self.turn(query), self.turn(key)
        return F.scaled_dot_product_attention(own, keys, value, is_causal=True, scale=scale, enable_gqa=True)


@dataclass(frozen=True, slots=True)
class Stored:
    """All positions up to `end`, which stand rotated in the pool; new ones are written after them."""

    pool: Pool
    end: int
    turn: Rotation
    mask: Tensor  # [T, end + T]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """See Attending."""
        last = self.end + key.shape[2]
        keys, values = self.pool.keys[layer, None, :, :last], self.pool.values[layer, None, :, :last]
        keys[:, :, self.end :], values[:, :, self.end :] = self.turn(key), value
        own = self.turn(query)
        return F.scaled_dot_product_attention(own, keys, values, self.mask, scale=scale, enable_gqa=True)


@dataclass(frozen=True, slots=True)
class Recent:
    """The system prompt and positions `begin` .. `end`, turned anew each time: they stand contiguous."""

    pool: Pool
    begin: int
    end: int
    turn: Rotation  # of all that is read, then of the new ones
    mask: Tensor

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """See Attending."""
        device = query.device
        parts = (slice(0, self.pool.system), slice(self.begin, self.end))
        keys = torch.cat([*(self.pool.keys[layer, None, :, part].to(device) for part in parts), key], 2)
        values = torch.cat([*(self.pool.values[layer, None, :, part].to(device) for part in parts), value], 2)
        count = key.shape[2]
        own = Rotation(self.turn.cos[:, :, -count:], self.turn.sin[:, :, -count:])(query)
        return F.scaled_dot_product_attention(own, self.turn(keys), values, self.mask, scale=scale, enable_gqa=True)


@dataclass(frozen=True, slots=True)
class Recalled:
    """The system prompt and, chosen per layer, the frames whose mean key is nearest to the mean query."""

    pool: Pool
    frames: int
    turn: Rotation
    mask: Tensor

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """See Attending."""
        pool, device = self.pool, query.device
        asked = query[0].mean(1).unflatten(0, (key.shape[1], -1)).mean(1)  # [Hkv, Dh]
        near = torch.einsum("hfd,hd->f", pool.means[layer, :, : self.frames], asked)
        best = near.topk(min(RECALLED, self.frames)).indices.sort().values.to(pool.keys.device)
        columns = pool.end(0) + best[:, None] * pool.visual + torch.arange(pool.visual, device=pool.keys.device)
        columns = torch.cat((torch.arange(pool.system, device=columns.device), columns.flatten()))
        keys = torch.cat((pool.keys[layer][:, columns][None].to(device), key), 2)
        values = torch.cat((pool.values[layer][:, columns][None].to(device), value), 2)
        count = key.shape[2]
        own = Rotation(self.turn.cos[:, :, -count:], self.turn.sin[:, :, -count:])(query)
        return F.scaled_dot_product_attention(own, self.turn(keys), values, self.mask, scale=scale, enable_gqa=True)


@dataclass(frozen=True, slots=True)
class Peers:
    """All of them over one model. `near` is a pool on the model's device, `host` one in host memory."""

    model: LlavaOnevision
    near: Pool
    host: Pool

    def read(self, system: str, frames: int, tokens: int, asks: bool) -> tuple[Attending, int]:
        """What attends for `tokens` new tokens after `frames` frames, and how many positions it reads before them."""
        pool = self.near
        if system == "full":
            return Alone(self._turn(0, tokens)), 0
        if system == "full-cached":
            end = pool.end(frames)
            return Stored(pool, end, self._turn(end, tokens), self._mask(end, tokens)), end
        if system == "rekv" and asks:
            before = pool.end(min(RECALLED, frames))
            return Recalled(self.host, frames, self._turn(0, before + tokens), self._mask(before, tokens)), before
        local = LOCAL_TOKENS // pool.visual if system == "rekv" else WINDOW
        begin = pool.end(max(0, frames - local))
        before = pool.system + pool.end(frames) - begin
        where = self._turn(0, before + tokens)
        return Recent(pool, begin, pool.end(frames), where, self._mask(before, tokens)), before

    def _turn(self, first: int, count: int) -> Rotation:
        positions = torch.arange(first, first + count, device=self.model.geometry.device, dtype=torch.float32)
        return self.model.rope.at(positions[None], self.near.keys[0, :, :0].to(self.model.geometry.device))

    def _mask(self, before: int, tokens: int) -> Tensor:
        geo = self.model.geometry
        mask = torch.zeros(tokens, before + tokens, device=geo.device, dtype=geo.dtype)
        later = torch.ones(tokens, tokens, dtype=torch.bool, device=geo.device).triu(1)
        mask[:, before:].masked_fill_(later, float("-inf"))
        return mask

    @torch.inference_mode()
    def run(self, system: str, frames: int, embeds: Tensor, asks: bool) -> int:
        """`embeds` [1, T, D] through the language model, and the newest one's scores where it asks; positions read."""
        reading, before = self.read(system, frames, embeds.shape[1], asks)
        hidden = self.model.run(embeds, reading)
        if asks:
            self.model.logits(hidden[:, -1]).argmax(-1).tolist()
        return before
