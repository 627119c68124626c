"""A forward of which only some rows are read in the end: in the last layer the others are keys and values, no more.

    layer 0 .. L-2   all rows
    layer L-1        all rows: norm, keys, values  |  rows that are read: queries, attention, MLP, final norm

Exact: nobody reads what is left out. Of standing questions it is a fifth of all products.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from stream.attention import Side, Step, read_past, rows_of
from stream.rope import Rope


class Ending(Side):
    """See Side; steps have B = 1 and no mass. One forward uses it up, and none is replayed."""

    def __init__(self, steps: Sequence[Step], rope: Rope) -> None:
        """Raises ValueError where a step wants what this forward does not compute."""
        super().__init__(steps, rope)
        if any(step.mass is not None or step.embeds.shape[0] != 1 for step in steps):
            raise ValueError("a forward that is read in some rows only has one row a step, and collects no attention")
        parts = [(step.ends, begin, end) for step, _, begin, end in self._parts]
        rows = [torch.arange(end - begin) if ends is None else ends for ends, begin, end in parts]
        device = self.embeds.device
        self._ends = [own.to(device) for own in rows]  # of each step
        self._rows = torch.cat([own + begin for own, (_, begin, _) in zip(rows, parts, strict=True)]).to(device)
        self._bounds = list(pairwise([0, *torch.tensor([len(own) for own in rows]).cumsum(0).tolist()]))
        self._asks = self._turn.take(self._rows)
        self._whole: tuple[Tensor, Tensor] | None = None  # keys and values of all rows, in the last layer

    @property
    def key(self) -> None:
        """See Side."""
        return None

    @contextmanager
    def watching(self, layers: nn.ModuleList) -> Iterator[None]:
        """While this lasts the last of the language model's `layers` runs on the rows that are read."""
        handle = layers[-1].register_forward_pre_hook(self._enter)
        try:
            yield
        finally:
            handle.remove()

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """See Reading."""
        if self._whole is None:
            return super().attend(layer, query, key, value, scale)
        key, value = self._whole
        asked, turned = self._asks(query), self._turn(key)
        whole = query.new_empty(query.transpose(1, 2).shape)  # [1, rows, heads, Dh]
        for (step, mask, begin, end), ends, (first, last) in zip(self._parts, self._ends, self._bounds, strict=True):
            shape = step.embeds.shape[:2]
            raw, new, val = (rows_of(item, begin, end, shape) for item in (key, turned, value))
            keys, values = step.store.put(layer, raw, new, val)
            if first < last:
                own = None if mask is None else mask[:, :, ends]
                out = read_past(None, layer, asked[:, :, first:last], (keys, values), own, scale)
                whole[0, first:last] = out[0].transpose(0, 1)
        return whole.transpose(1, 2)

    def split(self, hidden: Tensor) -> list[Tensor]:
        """See Side; of a step with `ends` these rows [1, e, D]."""
        for step, *_ in self._parts:
            step.store.finish()
        return [hidden[:, first:last] for first, last in self._bounds]

    def _enter(self, layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Before the last layer: keys and values of all rows; what goes through."""
        hidden: Tensor = args[0]
        own = cast("Any", layer)
        normed = own.input_layernorm(hidden)
        shape = (*hidden.shape[:-1], -1, own.self_attn.head_dim)
        key, value = (part(normed).view(shape).transpose(1, 2) for part in (own.self_attn.k_proj, own.self_attn.v_proj))
        self._whole = key, value
        return (hidden[:, self._rows], *args[1:])
