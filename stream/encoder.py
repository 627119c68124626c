"""Frames -> carriers, for all cameras that have a frame ready, in one forward.

    images --tower, projector, pooling--> visual tokens --reduce--> fewer --carrier input--> [ E_1 .. E_n  P ..  C ]
    all of it on top of (system prompt + what that camera remembers) --language model, prefill--> K, V of C and of the P

P are the frame's companions, if there are any; prefill lets some of the E leave between two layers.

What is remembered stands in the camera's lane, which comes in as an argument: this file knows no bank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from stream.attention import Mass, Step, Thin
from stream.carrier import CarrierInput
from stream.kv import Work
from stream.model import Model
from stream.ops import top
from stream.prefill import Prefill
from stream.prefill.none import Nothing
from stream.reduce import Seen
from stream.reduce.chain import Chain
from stream.reuse import Reuse
from stream.stages import OFF, Stages
from stream.tower import Tower
from stream.types import Carrier, Frame, Part, Span, VisualTokens


@dataclass
class Encoder:
    """The pipeline from picture to carrier over one model."""

    model: Model
    carrier: CarrierInput
    reduce: Chain = field(default_factory=Chain)
    reuse: Reuse | None = None  # of visual tokens, where a picture repeats
    stages: Stages = OFF
    tower: Tower | None = None  # fewer patches inside the vision tower
    prefill: Prefill = field(default_factory=Nothing)

    @torch.inference_mode()
    def absorb(self, batch: Sequence[Work]) -> list[Carrier]:
        """Carriers of a batch of frames, one a camera. A batch gives what its frames give one by one.

        Their `detail` are views of the camera's lane: its next frame overwrites them.
        """
        with self.stages.span("tower"):
            seen = self._see([work.frame for work in batch])
        with self.stages.span("carrier"):
            tokens = [self.reduce.reduce(Seen(own, work.frame)) for own, work in zip(seen, batch, strict=True)]
            passes = [_Pass(work, own, self.carrier.embed(own)) for work, own in zip(batch, tokens, strict=True)]
        with self.stages.span("rotate"):
            for work in batch:
                self.model.prepare(work.lane)
        with self.stages.span("language"):
            steps = [self._step(one) for one in passes]
            self.model.forward_all(steps)
        return [self._carrier(one, step) for one, step in zip(passes, steps, strict=True)]

    def forget(self) -> None:
        """What was erased from memory must not come back through pictures that were encoded of late."""
        self.reduce.forget()
        if self.reuse is not None:
            self.reuse.forget()

    def _see(self, frames: Sequence[Frame]) -> list[VisualTokens]:
        """The frames' visual tokens; of pictures that repeat, those of the last time."""
        if self.reuse is not None:
            return self.reuse.encode(frames, self._encode)
        return self._encode(np.stack([frame.image for frame in frames]))

    def _encode(self, images: np.ndarray) -> list[VisualTokens]:
        return self.model.encode(images, self.tower, self.reduce.blocks(self.model.geometry.tower_blocks))

    def _step(self, one: _Pass) -> Step:
        visual, tail = one.tokens.feats, len(one.inputs)
        passing = self.prefill.start(len(visual), tail, self.model.geometry.layers)
        thin = None if passing is None else Thin(passing, tail, self.prefill.modules)
        mass = Mass() if self.carrier.attentive else None
        return Step(torch.cat((visual, one.inputs))[None], one.positions[None], one.work.lane, mass, thin)

    def _carrier(self, one: _Pass, step: Step) -> Carrier:
        keys, values = one.work.lane.fresh()  # [L, Hkv, n + c + 1, Dh]
        frame, tail, places = one.work.frame, len(one.inputs), one.places
        if step.thin is not None and step.thin.survivors is not None:
            places = places[step.thin.survivors]
        detail = Part(keys[:, :, :-tail], values[:, :, :-tail], places)
        companions = None
        if step.mass is not None and step.mass.total is not None:
            own = step.mass.total[0][-1 - len(one.places) : -1].cpu()  # over the visual tokens; the carrier is the last
            kept = own if step.thin is None or step.thin.survivors is None else own[step.thin.survivors]
            companions = self._attended(detail, kept)
        elif tail > 1:
            rows = slice(-tail, -1)
            at = torch.full((tail - 1,), len(one.work.positions) - 1)
            companions = Part(keys[:, :, rows].clone(), values[:, :, rows].clone(), at)
        return Carrier(
            camera=frame.camera,
            frame=frame.index,
            span=Span(frame.wall_s, frame.wall_s),
            digest=one.inputs[-1],
            keys=keys[:, :, -1].clone(),
            values=values[:, :, -1].clone(),
            detail=detail,
            companions=companions,
            jpeg=frame.jpeg,
        )

    def _attended(self, detail: Part, mass: Tensor) -> Part:
        """The visual tokens that the carrier attended to most, `mass` [n]."""
        rows = top(mass, self.carrier.companions)
        there = rows.to(detail.keys.device)
        return Part(detail.keys[:, :, there], detail.values[:, :, there], detail.places[rows.cpu()])


@dataclass(frozen=True, slots=True)
class _Pass:
    """One frame's way from tokens to carrier."""

    work: Work
    tokens: VisualTokens  # n <= N
    inputs: Tensor  # [c + 1, D] companions, carrier

    @property
    def places(self) -> Tensor:
        """int64 [n]: which of the frame's N + 1 positions its tokens have."""
        own = self.tokens.places
        return torch.arange(len(self.tokens.feats)) if own is None else own.cpu()

    @property
    def positions(self) -> Tensor:
        """float32 [n + c + 1]: companions and carrier share the last one."""
        where = self.work.positions
        return torch.cat((where[self.places], where[-1:].expand(len(self.inputs))))
