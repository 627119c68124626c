"""Frames -> carriers, for all cameras that have a frame ready, in one forward.

    images --tower, projector, pooling--> visual tokens --carrier input--> [ E_1 .. E_N  C ]
    [ E_1 .. E_N  C ] on top of (system prompt + what that camera remembers) --language model--> K, V of C

What is remembered comes in as an argument: this file knows no bank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stream.carrier import CarrierInput
from stream.kv import Past
from stream.model import Model
from stream.types import Carrier, Frame, Span


@dataclass(frozen=True, slots=True)
class Work:
    """One frame to absorb, and what it may look back on."""

    frame: Frame
    past: Past  # the camera's remembered carriers
    positions: Tensor  # float32 [N+1] of the visual tokens and the carrier


class Encoder:
    """The pipeline from picture to carrier over one model."""

    def __init__(self, model: Model, carrier: CarrierInput) -> None:
        self.model, self.carrier = model, carrier

    @torch.inference_mode()
    def absorb(self, batch: Sequence[Work]) -> list[Carrier]:
        """Carriers of a batch of frames, one a camera. A batch gives what its frames give one by one."""
        tokens = self.model.encode(np.stack([work.frame.image for work in batch]))
        inputs = [self.carrier.embed(item) for item in tokens]
        embeds = torch.stack(
            [torch.cat((item.feats, own[None])) for item, own in zip(tokens, inputs, strict=True)]
        )  # [B, N+1, D]
        slab = self.model.slab([work.past for work in batch], embeds.shape[1])
        self.model.forward(embeds, torch.stack([work.positions for work in batch]), slab)
        keys = torch.stack([keys for keys, _ in slab.fresh])  # [L, B, Hkv, N+1, Dh]
        values = torch.stack([values for _, values in slab.fresh])
        return [
            Carrier(
                camera=work.frame.camera,
                frame=work.frame.index,
                span=Span(work.frame.wall_s, work.frame.wall_s),
                digest=inputs[row],
                keys=keys[:, row, :, -1],
                values=values[:, row, :, -1],
                detail_keys=keys[:, row, :, :-1],
                detail_values=values[:, row, :, :-1],
                jpeg=work.frame.jpeg,
            )
            for row, work in enumerate(batch)
        ]
