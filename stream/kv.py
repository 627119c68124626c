"""Keys and values on their way into one forward: the only file that touches transformers' Cache.

    slab     [ system | remembered, padded to the longest of the batch | new tokens ... | room ]
    state      rotated, valid           rotated, valid or not             rotated as written

Storage elsewhere (`Past`, carriers, bank) is un-rotated; a Slab rotates once when it is filled and once per new
token, and hands the un-rotated new keys back, because those are what a carrier keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from stream.rope import Rope, Rotation


@dataclass(frozen=True, slots=True)
class Past:
    """What a forward may read, in time order. Keys are un-rotated; each has one position."""

    keys: Tensor  # [L, Hkv, n, Dh]
    values: Tensor  # [L, Hkv, n, Dh]
    positions: Tensor  # [n] float32

    def __len__(self) -> int:
        return int(self.positions.shape[0])

    @classmethod
    def join(cls, parts: Sequence[Past]) -> Past:
        """Several pasts one after another."""
        return cls(
            torch.cat([part.keys for part in parts], dim=2),
            torch.cat([part.values for part in parts], dim=2),
            torch.cat([part.positions for part in parts]),
        )


class Slab(Cache):  # type: ignore[misc]
    """A preallocated cache for a batch of pasts and `room` new tokens each. Made per forward or per answer."""

    def __init__(self, pasts: Sequence[Past], room: int, rope: Rope) -> None:
        super().__init__(layers=[])
        layers, heads, _, width = pasts[0].keys.shape
        longest = max(len(past) for past in pasts)
        shape = (layers, len(pasts), heads, longest + room, width)
        self.keys = pasts[0].keys.new_zeros(shape)  # [L, B, Hkv, C, Dh] rotated
        self.values = pasts[0].values.new_zeros(shape)  # [L, B, Hkv, C, Dh]
        self.valid = torch.zeros(len(pasts), longest + room, dtype=torch.bool, device=self.keys.device)
        self.length = longest
        self.rope = rope
        self.fresh: list[tuple[Tensor, Tensor]] = []  # per layer: un-rotated keys and values of the newest forward
        self._rotation: Rotation | None = None
        for row, past in enumerate(pasts):
            count = len(past)
            if count == 0:
                continue
            rotation = rope.at(past.positions[None].to(self.keys.device), past.keys)
            self.keys[:, row, :, :count] = rotation(past.keys)
            self.values[:, row, :, :count] = past.values
            self.valid[row, :count] = True

    def extend(self, positions: Tensor) -> None:
        """Announce the next forward's tokens at `positions` [B, T]."""
        count = positions.shape[1]
        if self.length + count > self.valid.shape[1]:
            raise ValueError(f"slab has room for {self.valid.shape[1] - self.length} tokens, {count} were announced")
        self._rotation = self.rope.at(positions, self.keys)
        self.fresh = []
        self.valid[:, self.length : self.length + count] = True
        self.length += count

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_args: Any, **_kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Called by the model's attention with un-rotated [B, Hkv, T, Dh]; returns all keys and values so far."""
        assert self._rotation is not None, "extend() comes before the forward"
        assert layer_idx == len(self.fresh), "layers run in order"
        first = self.length - key_states.shape[2]
        self.fresh.append((key_states, value_states))
        self.keys[layer_idx, :, :, first : self.length] = self._rotation(key_states)
        self.values[layer_idx, :, :, first : self.length] = value_states
        return self.keys[layer_idx, :, :, : self.length], self.values[layer_idx, :, :, : self.length]

    def mask(self, own: Tensor) -> Tensor:
        """Bool [B, 1, T, C]: everything valid before the new tokens, and `own` [T, T] among them."""
        count = own.shape[0]
        before = self.valid[:, None, None, : self.length - count].expand(-1, 1, count, -1)
        return torch.cat((before, own.to(before.device).expand(before.shape[0], 1, count, count)), dim=-1)

    def get_seq_length(self, layer_idx: int = 0) -> int:  # noqa: ARG002 - all layers are as long
        """Tokens held, padding included."""
        return self.length
