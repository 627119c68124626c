"""Where a forward's keys and values live. Each place is preallocated, and read in place by every layer.

    Lane   one camera, for ever     [ system | slots of the bank            | the frame being absorbed ]
    Slab   one question             [ system | remembered, padded to longest | text so far ... | room  ]

Storage elsewhere (`Past`, carriers, archive) is un-rotated. What is read here stands rotated: a Lane turns its slots
when their positions changed, a Slab its pasts once, and new tokens come turned (`stream/attention.py`).
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from stream.rope import Rope
from stream.rule import causal
from stream.types import Frame

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

    @property
    def fixed(self) -> Hashable:
        """What the announced forward reads, if that never moves and is read in full, so that it can be replayed."""
        ...

    def begin(self, count: int) -> Tensor | None:
        """Announce `count` = T new tokens a row. Returns what each may read, [B or 1, 1, T, K] to be added to the
        scores (0 or -inf); None: everything. Raises ValueError when there is no room for them."""
        ...

    def put(self, layer: int, key: Tensor, turned: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Take a layer's new `key` un-rotated and `turned` to its positions, and `value`, each [B, Hkv, T, Dh].
        Returns all rotated keys and values so far [B, Hkv, K, Dh], which are not copied."""
        ...

    def still(self) -> Store:
        """What `put` of the announced forward works on, for as long as it may be replayed."""
        ...

    def finish(self) -> None:
        """All layers took the announced tokens. A forward that broke off is announced again, and begins anew."""
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
        self._columns: Tensor | None = None  # int64 [L, T]: where each layer has the tokens that `fresh` gives
        self.primed = extent.system == 0

    @property
    def fixed(self) -> Hashable:
        """See Store."""
        return self

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

    def narrow(self, slots: Sequence[int]) -> None:
        """Of the held slots only `slots` are read by the next frame."""
        self._mask[:, self.extent.system : self.first] = NO
        self._mask[:, [self.extent.system + slot for slot in slots]] = 0.0

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
        self._count, self._columns = count, None
        return self._mask[None, None, :count, : self.first + count]

    def put(self, layer: int, key: Tensor, turned: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """See Store."""
        count = key.shape[2]  # fewer than announced, where some tokens do not go through this layer
        first, last = self.first, self.first + count
        self._new_keys[layer, :, :count] = key[0]
        self.keys[layer, :, first:last] = turned[0]
        self.all_values[layer, :, first:last] = value[0]
        return self.keys[layer, None, :, :last], self.all_values[layer, None, :, :last]

    def still(self) -> Lane:
        """See Store."""
        return self

    def finish(self) -> None:
        """See Store. The bank takes what it wants; the next frame stands in the same place."""

    def settle(self, columns: Tensor) -> None:
        """Not all tokens went through all layers: `columns` int64 [L, T] are where those stand that `fresh` gives."""
        self._columns = columns

    def fresh(self) -> tuple[Tensor, Tensor]:
        """Un-rotated keys and values of the last forward's tokens [L, Hkv, T, Dh]; views, unless some were thinned."""
        keys, values = self._new_keys, self.all_values[:, :, self.first :]
        if self._columns is None:
            return keys[:, :, : self._count], values[:, :, : self._count]
        where = self._columns[:, None, :, None].expand(-1, keys.shape[1], -1, keys.shape[3])
        return keys.gather(2, where), values.gather(2, where)


@dataclass(frozen=True, slots=True)
class Work:
    """One frame to absorb, and where. A camera's next work is made when this one was absorbed and remembered."""

    frame: Frame
    lane: Lane  # of the camera, its slots placed for this frame
    positions: Tensor  # float32 [N+1] of the visual tokens and the carrier


class Board:
    """What a slab is written on: allocated once, wiped for the next one. All of it is read, what is free is masked."""

    def __init__(self, like: Tensor, rows: int, columns: int) -> None:
        layers, heads, _, width = like.shape
        self.keys = like.new_zeros(layers, rows, heads, columns, width)  # rotated
        self.values = torch.zeros_like(self.keys)
        self.mask = like.new_zeros(rows, columns)
        self.at = torch.zeros(1, dtype=torch.long, device=like.device)  # column of the newest word

    def put(self, layer: int, turned: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """One word a row, [B, Hkv, 1, Dh], to where `at` says at the time; all keys and values."""
        keys, values = self.keys[layer], self.values[layer]
        keys.index_copy_(2, self.at, turned)
        values.index_copy_(2, self.at, value)
        return keys, values

    def wipe(self) -> None:
        """Nothing is left of the answer before."""
        self.keys.zero_()
        self.values.zero_()


class Boards:
    """Free boards by rows and columns, in steps of `bucket`: what comes again finds the same memory again."""

    def __init__(self, bucket: int = 256) -> None:
        self.bucket = bucket
        self._free: dict[tuple[int, int], list[Board]] = {}

    def take(self, like: Tensor, rows: int, columns: int) -> Board:
        """A board of at least `columns`; `like` as for Lane."""
        size = rows, -(-columns // self.bucket) * self.bucket
        free = self._free.setdefault(size, [])
        if not free:
            return Board(like, *size)
        board = free.pop()
        board.wipe()
        return board

    def give(self, board: Board) -> None:
        """Its slab is gone."""
        self._free[tuple(board.mask.shape)].append(board)  # type: ignore[index]


class Slab:
    """A cache for a batch of pasts and `room` new tokens each. Made per answer.

    Where `boards` are given it is written on one of them, and a forward of one word, which reads all of it, can be
    replayed.
    """

    def __init__(self, pasts: Sequence[Past], room: int, rope: Rope, boards: Boards | None = None) -> None:
        longest = max(len(past) for past in pasts)
        like, columns = pasts[0].keys[:, :, :0], longest + room
        rows = len(pasts)
        self._board = Board(like, rows, columns) if boards is None else boards.take(like, rows, columns)
        if boards is not None:
            weakref.finalize(self, boards.give, self._board).atexit = False
        self._replays = boards is not None
        self._room = columns
        self.length = longest  # tokens that are read
        self._count = 0  # that were announced
        self._ragged = any(len(past) < longest for past in pasts)
        self._board.mask.zero_()
        for row, past in enumerate(pasts):
            count = len(past)
            self._board.mask[row, count:longest] = NO
            if count:
                rotation = rope.at(past.positions[None].to(like.device), past.keys)
                self._board.keys[:, row, :, :count] = rotation(past.keys)
                self._board.values[:, row, :, :count] = past.values

    @property
    def like(self) -> Tensor:
        """Of the dtype and on the device that masks have to be."""
        return self._board.mask

    @property
    def fixed(self) -> Hashable:
        """See Store: one word a row, on a board."""
        return self._board if self._replays and self._count == 1 else None

    def begin(self, count: int) -> Tensor | None:
        """See Store."""
        self._count = count
        last, mask = self.length + count, self._board.mask
        if last > self._room:
            raise ValueError(f"a slab has room for {self._room - self.length} tokens, {count} were announced")
        if self.fixed is not None:
            mask[:, self.length :] = NO
            mask[:, self.length] = 0.0
            self._board.at.fill_(self.length)
            return mask[:, None, None]
        mask[:, self.length : last] = 0.0
        before = mask[:, None, None, :last] if self._ragged else None
        if count == 1:
            return before
        own = mask.new_zeros(count, last)
        own[:, self.length :].masked_fill_(~causal(count).to(own.device), NO)
        return own[None, None] if before is None else own + before

    def put(self, layer: int, key: Tensor, turned: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """See Store. Nobody asks a question's keys back: un-rotated ones are not kept."""
        if self.fixed is not None:
            return self._board.put(layer, turned, value)
        return self.write(layer, self.length, turned, value)

    def write(self, layer: int, first: int, turned: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """A layer's keys, `turned` to their positions, and values of some tokens to the columns from `first` on.
        Returns what stands there until their end, which is not copied."""
        keys, values = self._board.keys[layer], self._board.values[layer]
        last = first + turned.shape[2]
        keys[:, :, first:last] = turned
        values[:, :, first:last] = value
        return keys[:, :, :last], values[:, :, :last]

    def still(self) -> Slab:
        """See Store: another slab on the same board, which may be given to the next answer all the same."""
        other = copy(self)  # not bound to the board's return
        other._count = 1
        return other

    def finish(self) -> None:
        """See Store."""
        self.length += self._count
        self._count = 0
