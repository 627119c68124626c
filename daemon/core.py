"""The parts of a daemon that need no network: model, encoder and banks, built from settings."""

from __future__ import annotations

import os
from dataclasses import dataclass

import structlog
import torch

from daemon.methods import check_methods
from daemon.recaller import Recaller, Sight
from daemon.settings import Settings
from memory import focus, recall, retain
from memory.archive import Reader
from memory.bank import MemoryBank, Policy
from memory.recall import Recall
from memory.recall.search import How, Limits
from stream import carrier, prefill, tower
from stream.encoder import Encoder
from stream.errors import ConfigError
from stream.model import Model
from stream.model.loading import open_model
from stream.positions import TABLE
from stream.reduce.chain import chain
from stream.reuse import Reuse
from stream.types import Budget


@dataclass(frozen=True, slots=True)
class Core:
    """Built once; owned by the engine's thread."""

    encoder: Encoder
    policy: Policy
    recall: Recall
    recalled: int  # carriers that a question reads from the archive on top of a full bank
    sight: Sight | None = None  # what a question reads of recent visual tokens; None: all

    @property
    def model(self) -> Model:
        """The checkpoint."""
        return self.encoder.model

    def recaller(self, reader: Reader | None = None) -> Recaller:
        """What questions read; with a `reader` of the archive, from there too."""
        room = self.policy.budget.carriers + self.recalled
        how = How(self.policy.positions, Limits(room))
        return Recaller(self.recall, how, reader, self.sight, self.recalled)

    def bank(self, camera: str) -> MemoryBank:
        """An empty memory for one camera."""
        return MemoryBank(camera, self.model.geometry, self.policy)


def build(settings: Settings, model: Model | None = None) -> Core:
    """Load the model, where it is not given, and check that the memory fits it. Takes seconds.

    Raises ModelError or ConfigError.
    """
    check_methods(settings)
    wanted = settings.model
    if model is None:
        torch.set_num_threads(wanted.threads or max(1, (os.cpu_count() or 2) - 1))
        model = open_model(wanted.path, wanted.device, wanted.dtype, wanted.system_prompt, wanted.weights)
    geometry, memory = model.geometry, settings.memory
    carriers = memory.carriers or geometry.carriers or 128
    scheme = TABLE[geometry.positions if memory.positions == "auto" else memory.positions]
    positions = scheme(len(model.system()), geometry.visual)
    need = positions.bound(carriers + memory.recalled, settings.answer.max_tokens + 64)
    if need > geometry.max_positions:
        raise ConfigError(
            f"memory.carriers: {carriers}, and memory.recalled: {memory.recalled}, need {need} positions in scheme "
            f"`{memory.positions}`; {geometry.name} has {geometry.max_positions}: remember fewer, or set "
            "memory.positions: compact"
        )
    log = structlog.get_logger("longwatch.core")
    if not geometry.trained:
        log.warning("not trained for carriers: expect weak answers about the past", model=geometry.name)
    if geometry.carriers is not None and carriers > geometry.carriers:
        log.warning("more carriers than the model was trained with", carriers=carriers, trained=geometry.carriers)
    carries, passes = carrier.make(wanted.carrier), prefill.make(wanted.prefill)
    policy = Policy(
        budget=Budget(carriers, memory.detail_frames),
        retain=retain.make(memory.retain),
        positions=positions,
        seed=memory.seed,
        companions=carries.companions,
        before=passes.before,
        recover=memory.recover,
    )
    encoder = Encoder(
        model,
        carries,
        reduce=chain(wanted.reduce),
        reuse=None if wanted.reuse_below is None else Reuse(wanted.reuse_below),
        tower=None if "none" in wanted.tower else tower.make(wanted.tower),
        prefill=passes,
    )
    room = memory.focus_tokens
    sight = None if room is None else Sight(focus.make(memory.focus), room, geometry.grid)
    return Core(encoder, policy, recall.make(memory.recall), memory.recalled, sight)
