"""A forward in which frames lose visual tokens on their way through the layers (`stream/prefill`).

Rows stand as in `Side`, one frame's after the other's, and become fewer from layer to layer. The checkpoint's own
layers run on what is there; hooks take rows out before a layer and put those that waited back behind it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from stream.attention import Side, Step, Thin, read_past, rows_of, weights_of
from stream.kv import Lane
from stream.prefill import Part
from stream.rope import Rope, Rotation


class Thinned(Side):
    """See Side; steps with `thin` have B = 1 and a Lane. One forward uses it up, and none is replayed."""

    def __init__(self, steps: Sequence[Step], rope: Rope) -> None:
        super().__init__(steps, rope)
        self._steps = [part[0] for part in self._parts]
        self._first = [part[2] for part in self._parts]  # where each step's tokens began
        counts = [step.embeds.shape[0] * step.embeds.shape[1] for step in self._steps]
        self._there = [torch.arange(count) for count in counts]  # of each step, the tokens that are there
        self._run = list(self._there)  # and those that go through the layer
        self._ran: list[list[Tensor]] = [[] for _ in steps]  # the latter, layer by layer
        self._waiting: tuple[Tensor, Tensor] | None = None  # what is there, and where those stand that went through
        self._now = self._turn

    @property
    def key(self) -> None:
        """See Side: what thins depends on what is seen."""
        return None

    @contextmanager
    def watching(self, layers: nn.ModuleList) -> Iterator[None]:
        """While this lasts the language model's `layers` run on the rows that are there."""
        told = any(step.thin is not None and step.thin.modules for step in self._steps)
        handles = []
        for number, layer in enumerate(layers):
            handles.append(layer.register_forward_pre_hook(partial(self._enter, number)))
            handles.append(layer.register_forward_hook(self._leave))
            if told:
                own = cast("Any", layer)
                tell = partial(self._tell, number, "attention")
                handles.append(own.self_attn.register_forward_hook(tell, with_kwargs=True))
                handles.append(own.mlp.register_forward_hook(partial(self._tell, number, "mlp"), with_kwargs=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """See Reading."""
        asked, turned = self._now(query), self._now(key)
        whole = query.new_empty(query.transpose(1, 2).shape)
        parts = zip(self._parts, self._bounds(self._run), strict=True)
        for number, ((step, mask, *_), (begin, end)) in enumerate(parts):
            count = end - begin
            shape = torch.Size((1, count)) if step.thin is not None else step.embeds.shape[:2]
            own, raw, new, val = (rows_of(item, begin, end, shape) for item in (asked, key, turned, value))
            keys, values = step.store.put(layer, raw, new, val)
            mass = step.mass
            if step.thin is not None:
                step.thin.passing.attention(layer, own[0], new[0])
                mask = None if mask is None else mask[:, :, :count, : keys.shape[2]]
                if mass is not None and mass.wants(layer):
                    mass.add(_spread(weights_of(own[:, :, -1:], keys, mask, scale), self._run[number], step))
                mass = None
            out = read_past(mass, layer, own, (keys, values), mask, scale)
            whole[0, begin:end] = out.transpose(1, 2).flatten(0, 1)
            if step.mass is not None:
                step.mass.look(rows_of(query, begin, end, shape))
        return whole.transpose(1, 2)

    def split(self, hidden: Tensor) -> list[Tensor]:
        """See Side; of a step that was thinned, the rows that are there in the end [1, T', D]."""
        for step, ran in zip(self._steps, self._ran, strict=True):
            step.store.finish()
            if step.thin is not None:
                _settle(step, step.thin, ran)
        bounds = self._bounds(self._there)
        return [
            hidden[:, begin:end] if step.thin is not None else hidden[0, begin:end].view(step.embeds.shape)
            for step, (begin, end) in zip(self._steps, bounds, strict=True)
        ]

    def _enter(self, number: int, _layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Before a layer: ask every step that thins; the hidden states of what goes through."""
        hidden: Tensor = args[0]
        parts, through = list[Tensor](), list[Tensor]()  # hidden states of what is there, and rows that go through
        self._run = list(self._there)
        for place, (begin, end) in enumerate(self._bounds(self._there)):
            step, rows = self._steps[place], hidden[0, begin:end]
            way = None if step.thin is None else step.thin.passing.enter(number, rows)
            chosen = torch.arange(end - begin)
            if way is not None and step.thin is not None:
                tail = torch.arange(end - begin - step.thin.tail, end - begin)
                chosen = torch.cat((way.rows.cpu(), tail))
                if way.hidden is not None:
                    rows = rows.index_copy(0, way.rows.to(rows.device), way.hidden.to(rows.dtype))
                self._run[place] = self._there[place][chosen]
                if not way.wait:
                    rows, self._there[place] = rows[chosen.to(rows.device)], self._run[place]
                    chosen = torch.arange(len(chosen))
            through.append(chosen + sum(map(len, parts)))
            parts.append(rows)
            self._ran[place].append(self._run[place])
        whole, index = torch.cat(parts)[None], torch.cat(through).to(hidden.device)
        self._waiting = (whole, index) if len(index) < whole.shape[1] else None
        turns = torch.cat([first + run for first, run in zip(self._first, self._run, strict=True)])
        self._now = self._turn if len(turns) == self._turn.cos.shape[2] else _take(self._turn, turns)
        return (whole if self._waiting is None else whole[:, index], *args[1:])

    def _leave(self, _layer: nn.Module, _args: tuple[Any, ...], out: Tensor) -> Tensor:
        """Behind a layer: those that waited are there again."""
        if self._waiting is None:
            return out
        whole, index = self._waiting
        return whole.index_copy(1, index, out)

    def _tell(
        self, number: int, part: Part, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any
    ) -> None:
        """What a part of a layer read and gave, to those that want it."""
        x: Tensor = args[0] if args else kwargs["hidden_states"]
        y: Tensor = out[0] if isinstance(out, tuple) else out
        for step, (begin, end) in zip(self._steps, self._bounds(self._run), strict=True):
            if step.thin is not None:
                step.thin.passing.module(number, part, x[0, begin:end], y[0, begin:end])

    @staticmethod
    def _bounds(rows: Sequence[Tensor]) -> list[tuple[int, int]]:
        """Where each step's rows begin and end."""
        ends = [0]
        for own in rows:
            ends.append(ends[-1] + len(own))
        return list(pairwise(ends))


def _settle(step: Step, thin: Thin, ran: Sequence[Tensor]) -> None:
    """Who went through all layers, and where each layer has them."""
    count = step.embeds.shape[1]
    times = torch.bincount(torch.cat(list(ran)), minlength=count)
    always = torch.nonzero(times == len(ran)).flatten()
    thin.survivors = always[: len(always) - thin.tail]
    cast("Lane", step.store).settle(
        torch.stack([torch.searchsorted(rows, always) for rows in ran]).to(step.embeds.device)
    )


def _spread(weights: Tensor, run: Tensor, step: Step) -> Tensor:
    """Weights [1, heads, K] over the keys of a layer -> as many as there would be if all tokens went through it; 0 for
    those that did not."""
    past, count = weights.shape[2] - len(run), step.embeds.shape[1]
    whole = weights.new_zeros(*weights.shape[:2], past + count)
    whole[..., :past] = weights[..., :past]
    whole[..., past + run.to(weights.device)] = weights[..., past:]
    return whole


def _take(turn: Rotation, index: Tensor) -> Rotation:
    return turn.take(index.to(turn.cos.device))
