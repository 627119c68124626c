"""A view with fewer visual tokens: what a focus chose, in place of all of them. Carriers stay as they are."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from memory.focus import Focus, Tokens
from memory.recall import Asked
from memory.view import MemoryView
from stream.kv import Past


def focused(method: Focus, view: MemoryView, asked: Asked, room: int, grid: tuple[int, int]) -> MemoryView:
    """`view`, itself unchanged, with at most `room` keys beside its carriers."""
    past, own = view.past, slice(view.count, None)
    keys, values = past.keys[:, :, own], past.values[:, :, own]
    owners, frames = torch.unique(view.source[own], return_inverse=True)
    found = method.select(asked, Tokens(keys, values, frames, view.places[own], grid), room)
    if found.weights is None and len(found.rows) == len(frames):
        return view
    rows = found.rows.to(keys.device)
    read = Past(
        _read(keys, rows, found.weights), _read(values, rows, found.weights), past.positions[own][found.rows.cpu()]
    )
    carriers = Past(past.keys[:, :, : view.count], past.values[:, :, : view.count], past.positions[: view.count])
    chosen = found.rows.cpu()
    return replace(
        view,
        past=Past.join([carriers, read]),
        source=torch.cat((view.source[: view.count], owners[frames[chosen]])),
        places=torch.cat((view.places[: view.count], view.places[own][chosen])),
    )


def _read(states: Tensor, rows: Tensor, weights: Tensor | None) -> Tensor:
    """[L, Hkv, n, Dh] -> [L, Hkv, m, Dh]: rows as they are, or means."""
    if weights is None:
        return states[:, :, rows]
    mixed: Tensor = torch.einsum("mn,lhnd->lhmd", weights.to(states.device), states.float()).to(states.dtype)
    return mixed
