"""Carriers that left, as what stayed recalls of them: read in their places by questions about the past (HoT).

Only where there is no archive: it has the real ones.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from memory.recall.choose import evenly
from memory.recall.search import How, detail
from memory.recover import Recovery, recover, tiny_keys
from memory.view import MemoryView, Moment
from stream.kv import Past


def recovered(view: MemoryView, room: int, how: How, by: Recovery) -> MemoryView:
    """`view`, itself unchanged, and at most `room` of its `left`, evenly over them. Their moments have no picture."""
    left = [view.left[place] for place in evenly(len(view.left), room)]
    held = {moment.frame for moment in view.moments}
    left = [item for item in left if item.frame not in held]
    if not left or not view.count:
        return view
    count, past = view.count, view.past
    small = tiny_keys(view.digests, by.seed)

    def back(rows: torch.Tensor) -> torch.Tensor:
        """`rows` [n, ...] and behind them those of the frames that left."""
        return torch.stack([*rows, *(recover(item.key, small, rows, by.temperature) for item in left)])

    keys, values = (back(states[:, :, :count].movedim(2, 0)) for states in (past.keys, past.values))
    moments = [*view.moments, *(Moment(item.frame, item.span, b"") for item in left)]
    order = sorted(range(len(moments)), key=lambda place: moments[place].frame)
    ranks = {place: rank for rank, place in enumerate(order) if place < count}
    positions = how.positions.carriers([moments[place].span for place in order], view.now_s)
    tokens = detail(view, ranks, how)
    return replace(
        view,
        past=Past.join(
            [
                Past(keys[order].movedim(0, 2), values[order].movedim(0, 2), positions),
                *(part for part, _, _ in tokens),
            ]
        ),
        source=torch.tensor([*range(len(order)), *(rank for part, rank, _ in tokens for _ in range(len(part)))]),
        places=torch.cat((torch.full((len(order),), how.positions.visual), *(own for _, _, own in tokens))),
        moments=tuple(moments[place] for place in order),
        digests=back(view.digests)[order],
        count=len(order),
        recalled=view.recalled + len(left),
    )
