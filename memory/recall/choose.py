"""Index arithmetic that recall methods share: the best so many, evenly spread, whole runs and what they are as one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from memory.recall import Rows
from stream.types import Span


def evenly(count: int, room: int) -> list[int]:
    """At most `room` of `count` indices, evenly spread, first and last among them (the last where room is 1)."""
    if count <= room:
        return list(range(count))
    if room == 1:
        return [count - 1]
    return sorted({int(place) for place in np.linspace(0, count - 1, room).round()})


def kept(rows: Rows, room: int, *, bank: bool) -> list[int]:
    """The indices that are read anyhow: what the bank holds, its newest first where there is no room for all."""
    held = [index for index, inside in enumerate(rows.held) if inside] if bank else []
    return held[max(0, len(held) - room) :]


def best_first(scores: Tensor) -> list[int]:
    """Indices [n] by score, equal ones in time order."""
    return torch.argsort(scores, descending=True, stable=True).tolist()


def fill(chosen: Iterable[int], order: Iterable[int], room: int) -> list[int]:
    """`chosen` and then the first of `order` until there are `room`; sorted."""
    found = set(chosen)
    for index in order:
        if len(found) >= room:
            break
        found.add(index)
    return sorted(found)


def blocks(count: int, size: int) -> list[range]:
    """0 .. `count` cut into runs of `size`; the last may be shorter."""
    return [range(first, min(first + size, count)) for first in range(0, count, size)]


def pooled(rows: Rows, groups: Sequence[Sequence[int]]) -> Rows:
    """One row a group, float32: the mean of its digests and keys, under the name of its newest frame."""
    return Rows(
        frames=[rows.frames[group[-1]] for group in groups],
        spans=[reduce(Span.join, (rows.spans[index] for index in group)) for group in groups],
        held=[any(rows.held[index] for index in group) for group in groups],
        digests=torch.stack([rows.digests[list(group)].float().mean(0) for group in groups]),
        keys=torch.stack([rows.keys[:, :, list(group)].float().mean(2) for group in groups], dim=2),
    )
