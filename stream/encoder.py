"""Frames -> carriers, for all cameras that have a frame ready, in one forward.

    images --tower, projector, pooling--> visual tokens --reduce--> fewer --carrier input--> [ E_1 .. E_n  C ]
    [ E_1 .. E_n  C ] on top of (system prompt + what that camera remembers) --language model--> K, V of C

What is remembered stands in the camera's lane, which comes in as an argument: this file knows no bank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from stream.attention import Step
from stream.carrier import CarrierInput
from stream.kv import Work
from stream.model import Model
from stream.reduce import Seen
from stream.reduce.chain import Chain
from stream.reuse import Reuse
from stream.stages import OFF, Stages
from stream.types import Carrier, Frame, Span, VisualTokens


@dataclass
class Encoder:
    """The pipeline from picture to carrier over one model."""

    model: Model
    carrier: CarrierInput
    reduce: Chain = field(default_factory=Chain)
    reuse: Reuse | None = None  # of visual tokens, where a picture repeats
    stages: Stages = OFF

    @torch.inference_mode()
    def absorb(self, batch: Sequence[Work]) -> list[Carrier]:
        """Carriers of a batch of frames, one a camera. A batch gives what its frames give one by one.

        `detail_*` are views of the camera's lane: its next frame overwrites them.
        """
        with self.stages.span("tower"):
            seen = self._see([work.frame for work in batch])
        with self.stages.span("carrier"):
            tokens = [self.reduce.reduce(Seen(own, work.frame)) for own, work in zip(seen, batch, strict=True)]
            inputs = [self.carrier.embed(own)[-1] for own in tokens]
        with self.stages.span("rotate"):
            for work in batch:
                self.model.prepare(work.lane)
        with self.stages.span("language"):
            self.model.forward_all(
                [_step(work, own.feats, last) for work, own, last in zip(batch, tokens, inputs, strict=True)]
            )
        return [_carrier(work, digest) for work, digest in zip(batch, inputs, strict=True)]

    def forget(self) -> None:
        """What was erased from memory must not come back through pictures that were encoded of late."""
        if self.reuse is not None:
            self.reuse.forget()

    def _see(self, frames: Sequence[Frame]) -> list[VisualTokens]:
        """The frames' visual tokens; of pictures that repeat, those of the last time."""
        if self.reuse is not None:
            return self.reuse.encode(frames, self.model.encode)
        return self.model.encode(np.stack([frame.image for frame in frames]))


def _step(work: Work, feats: Tensor, carrier: Tensor) -> Step:
    """The frame's n <= N tokens and its carrier, which always has the last position."""
    count = feats.shape[0]
    where = work.positions
    if count + 1 < len(where):
        where = torch.cat((where[:count], where[-1:]))
    return Step(torch.cat((feats, carrier[None]))[None], where[None], work.lane)


def _carrier(work: Work, digest: Tensor) -> Carrier:
    keys, values = work.lane.fresh()  # [L, Hkv, n+1, Dh]
    frame = work.frame
    return Carrier(
        camera=frame.camera,
        frame=frame.index,
        span=Span(frame.wall_s, frame.wall_s),
        digest=digest,
        keys=keys[:, :, -1].clone(),
        values=values[:, :, -1].clone(),
        detail_keys=keys[:, :, :-1],
        detail_values=values[:, :, :-1],
        jpeg=frame.jpeg,
    )
