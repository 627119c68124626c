"""Where a forward's keys and values live. Each place is preallocated, and read in place by every layer.

    Lane   one camera, for ever     [ system | slots of the bank            | the frame being absorbed ]
    Slab   one question             [ system | remembered, padded to longest | text so far ... | room  ]

Storage elsewhere (`Past`, carriers, archive) is un-rotated. What is read here stands rotated: a Lane turns its slots
when their positions changed, a Slab its pasts once, and new tokens come turned (`stream/attention.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from stream.rope import Rope
from stream.rule import causal

NO = float("-inf")


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


class Store(Protocol):
    """Rows of keys and values that a forward reads and adds to."""

    rows: int  # B

    def begin(self, count: int) -> Tensor | None:
        """Announce `count` = T new tokens a row. Returns what each may read, [B or 1, 1, T, K] to be added to the
        scores (0 or -inf); None: everything. Raises ValueError when there is no room for them."""
        ...

    def put(self, layer: int, key: Tensor, turned: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Take a layer's new `key` un-rotated and `turned` to its positions, and `value`, each [B, Hkv, T, Dh].
        Returns all rotated keys and values so far [B, Hkv, K, Dh], which are not copied."""
        ...


@dataclass(frozen=True, slots=True)
class Extent:
    """How many positions of each kind a Lane has."""

    system: int  # S
    slots: int  # M
    tokens: int  # N + 1


class Lane:
    """One camera's row, allocated once. Its slots are the bank's own storage, so a frame copies nothing of a bank.

    All shapes are fixed from the first frame on: a free slot is masked. One thread owns a lane, and the results of
    `fresh` are views that the camera's next frame overwrites.
    """

    rows = 1

    def __init__(self, like: Tensor, extent: Extent) -> None:
        """`like` [L, Hkv, 0, Dh] gives layers, heads, width, dtype and device."""
        layers, heads, _, width = like.shape
        self.extent = extent
        self.first = extent.system + extent.slots  # column of the first new token
        columns = self.first + extent.tokens
        self.raw = like.new_zeros(layers, heads, extent.slots, width)  # un-rotated keys of the slots
        self.keys = like.new_zeros(layers, heads, columns, width)  # rotated
        self.all_values = like.new_zeros(layers, heads, columns, width)
        self.values = self.all_values[:, :, extent.system : self.first]  # of the slots
        self._new_keys = like.new_zeros(layers, heads, extent.tokens, width)  # un-rotated
        mask = like.new_zeros(extent.tokens, columns)
        mask[:, extent.system : self.first] = NO
        mask[:, self.first :].masked_fill_(~causal(extent.tokens).to(mask.device), NO)
        self._mask = mask
        self._where = torch.zeros(extent.slots)  # positions of the slots
        self._stands: Tensor | None = None  # positions that `keys` were turned to
        self._count = 0
        self.primed = extent.system == 0

    @property
    def nbytes(self) -> int:
        """All that is allocated."""
        parts = (self.raw, self.keys, self.all_values, self._new_keys, self._mask)
        return sum(part.numel() * part.element_size() for part in parts)

    def prime(self, system: Past, rope: Rope) -> None:
        """Put the system prompt at the front, once."""
        own = slice(0, self.extent.system)
        self.keys[:, :, own] = rope.at(system.positions[None].to(self.keys.device), self.keys)(system.keys)
        self.all_values[:, :, own] = system.values
        self.primed = True

    def hold(self, slot: int) -> None:
        """`slot` was written: from now on it is read."""
        self._mask[:, self.extent.system + slot] = 0.0
        self._stands = None

    def held(self) -> list[int]:
        """The slots that are read, ascending."""
        return torch.nonzero(self._mask[0, self.extent.system : self.first] == 0).flatten().tolist()

    def free(self, slots: Sequence[int]) -> None:
        """Nothing is left of what these slots held, nor of the newest frame's tokens."""
        for slot in slots:
            column = self.extent.system + slot
            self._mask[:, column] = NO
            for tensor in (self.raw[:, :, slot], self.keys[:, :, column], self.all_values[:, :, column]):
                tensor.zero_()
        for tensor in (self._new_keys, self.keys[:, :, self.first :], self.all_values[:, :, self.first :]):
            tensor.zero_()

    def place(self, slots: Tensor, positions: Tensor) -> None:
        """Where `slots` [n] stand for the next forward: `positions` float32 [n]."""
        where = torch.zeros_like(self._where)
        where[slots] = positions
        if not torch.equal(where, self._where):
            self._where, self._stands = where, None

    def turn(self, rope: Rope) -> None:
        """Rotate the slots to where they stand, if something moved or changed since the last time."""
        if self._stands is self._where or self.extent.slots == 0:
            return
        by = rope.at(self._where[None].to(self.raw.device), self.raw)
        by.into(self.keys[:, :, self.extent.system : self.first], self.raw)
        self._stands = self._where

    def begin(self, count: int) -> Tensor | None:
        """See Store. The new tokens stand where the last frame's stood."""
        if count > self.extent.tokens:
            raise ValueError(f"a lane has room for {self.extent.tokens} tokens of a frame, {count} were announced")
        self._count = count
        return self._mask[None, None, :count, : self.first + count]

    def put(self, layer: int, key: Tensor, turned: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """See Store."""
        first, last = self.first, self.first + self._count
        self._new_keys[layer, :, : self._count] = key[0]
        self.keys[layer, :, first:last] = turned[0]
        self.all_values[layer, :, first:last] = value[0]
        return self.keys[layer, None, :, :last], self.all_values[layer, None, :, :last]

    def fresh(self) -> tuple[Tensor, Tensor]:
        """Un-rotated keys and values of the last forward's tokens [L, Hkv, T, Dh]; views."""
        new = self.all_values[:, :, self.first : self.first + self._count]
        return self._new_keys[:, :, : self._count], new


class Slab:
    """A cache for a batch of pasts and `room` new tokens each. Made per answer."""

    def __init__(self, pasts: Sequence[Past], room: int, rope: Rope) -> None:
        self.rows = len(pasts)
        layers, heads, _, width = pasts[0].keys.shape
        longest = max(len(past) for past in pasts)
        shape = (layers, len(pasts), heads, longest + room, width)
        self.keys = pasts[0].keys.new_zeros(shape)  # [L, B, Hkv, C, Dh] rotated
        self.values = pasts[0].values.new_zeros(shape)  # [L, B, Hkv, C, Dh]
        self.length = longest  # tokens that are read, without those of a forward that did not come to its end
        self._count, self._whole = 0, False  # tokens of the newest forward; whether all layers took them
        self._mask: Tensor | None = None  # [B, C]; None: all pasts are as long, so that all is read
        for row, past in enumerate(pasts):
            count = len(past)
            if count:
                rotation = rope.at(past.positions[None].to(self.keys.device), past.keys)
                self.keys[:, row, :, :count] = rotation(past.keys)
                self.values[:, row, :, :count] = past.values
            if count < longest:
                if self._mask is None:
                    self._mask = self.keys.new_zeros(len(pasts), longest + room)
                self._mask[row, count:longest] = NO

    def begin(self, count: int) -> Tensor | None:
        """See Store. A forward that broke off leaves nothing behind: the next one begins where it began."""
        self.length += self._count if self._whole else 0
        self._count, self._whole = count, False
        room = self.keys.shape[3] - self.length
        if count > room:
            raise ValueError(f"a slab has room for {room} tokens, {count} were announced")
        last = self.length + count
        before = None if self._mask is None else self._mask[:, None, None, :last]
        if count == 1:
            return before
        own = self.keys.new_zeros(count, last)
        own[:, self.length :].masked_fill_(~causal(count).to(own.device), NO)
        return own[None, None] if before is None else own + before

    def put(self, layer: int, key: Tensor, turned: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """See Store. Nobody asks a question's keys back: un-rotated ones are not kept."""
        last = self.length + self._count
        self.keys[layer, :, :, self.length : last] = turned
        self.values[layer, :, :, self.length : last] = value
        self._whole = layer == self.keys.shape[0] - 1
        return self.keys[layer, :, :, :last], self.values[layer, :, :, :last]
