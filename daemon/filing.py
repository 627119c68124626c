"""A camera's carriers as the archive takes them, and back."""

from __future__ import annotations

import torch

from daemon.settings import ArchiveSettings
from memory.archive import Entry, Quota, Setup, Shape
from memory.archive.types import Floats
from memory.bank import MemoryBank
from stream.model import Model
from stream.types import Carrier, Part


def filed(carrier: Carrier, score: float) -> Entry:
    """A carrier as the archive takes it."""
    return Entry(
        camera=carrier.camera,
        frame=carrier.frame,
        span=carrier.span,
        score=score,
        digest=_array(carrier.digest),
        keys=_array(carrier.keys),
        values=_array(carrier.values),
        jpeg=carrier.jpeg,
    )


def setup(model: Model, own: ArchiveSettings) -> Setup:
    """How carriers of `model` are archived."""
    geometry, base = model.geometry, model.key_base()
    return Setup(
        shape=Shape(geometry.layers, geometry.kv_heads, geometry.head_width, geometry.width),
        identity=model.identity,
        dtype=own.dtype,
        base=None if base is None else _array(base),
        quota=Quota(
            bytes=None if own.quota_gb is None else int(own.quota_gb * 1e9),
            age_s=None if own.keep_days is None else own.keep_days * 86_400.0,
        ),
        thumbnail_px=own.thumbnail_px,
    )


def unfiled(entry: Entry, bank: MemoryBank) -> Carrier:
    """An archived carrier as `bank` takes it: without recent detail."""
    geometry = bank.geometry
    keys, values = (torch.from_numpy(array).to(geometry.device, geometry.dtype) for array in (entry.keys, entry.values))
    digest = torch.from_numpy(entry.digest).to(geometry.device, geometry.dtype)
    detail = Part(keys[:, :, None][:, :, :0], values[:, :, None][:, :, :0], torch.arange(0))
    return Carrier(entry.camera, entry.frame, entry.span, digest, keys, values, detail, jpeg=entry.jpeg)


def _array(tensor: torch.Tensor) -> Floats:
    """In memory of its own: a view would keep a whole batch's cache alive."""
    return tensor.detach().to("cpu", torch.float32, copy=True).numpy()
