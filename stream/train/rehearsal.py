"""What a real bank would remember of a clip, frame by frame: training sees the evictions and merges of the daemon.

Which carriers stay depends on digests and times alone, never on keys and values. So the daemon's own bank runs here
over one-hot vectors in the place of keys: frame f is written as e_f, a merge averages, and what stands in slot m is the
mix of frames that the slot is made of. The network then takes the same mixes of real keys and values (`unroll.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from memory import retain
from memory.bank import MemoryBank, Policy
from memory.view import MemoryView
from stream.model import Geometry
from stream.positions import TABLE
from stream.types import Budget, Carrier, Part, Span


@dataclass(frozen=True, slots=True)
class Keeping:
    """How a rehearsed bank behaves: the daemon's settings."""

    carriers: int  # M
    detail: int  # newest frames that questions read in full
    retain: dict[str, dict[str, Any]]
    positions: str = "compact"


@dataclass(frozen=True, slots=True)
class Shelf:
    """What a frame or a question reads of the past, padded to M carriers."""

    mix: Tensor  # float32 [M, F] which frames each slot is made of; rows sum to 1, empty slots are 0
    where: Tensor  # float32 [M] rotary positions
    valid: Tensor  # bool [M]
    own: Tensor  # float32 [N+1] a frame: where it stands itself
    detail: Tensor  # int64 [k] a question: frames it reads in full, -1 for none
    detail_where: Tensor  # float32 [k, N]
    detail_slot: Tensor  # int64 [k] the slot each of them counts for
    text: int  # a question: carriers read, from which its positions follow

    @property
    def held(self) -> frozenset[int]:
        """Frames that something is left of."""
        return frozenset(torch.nonzero(self.mix.sum(0) > 0).flatten().tolist())


@dataclass(frozen=True, slots=True)
class Shape:
    """What the rehearsal must know of the model."""

    grid: tuple[int, int]  # rows, columns of visual tokens
    system: int  # S
    width: int  # D
    patches: tuple[int, int] = (0, 0)  # rows, columns of the picture before pooling; training of sight only

    @property
    def visual(self) -> int:
        """N."""
        return self.grid[0] * self.grid[1]


class Rehearsal:
    """A bank that lives through one clip. `digests` [F, D], `times_s` ascending."""

    def __init__(
        self, digests: Tensor, times_s: Sequence[float], keeping: Keeping, shape: Shape, seed: int = 0
    ) -> None:
        self._digests, self._times_s, self._keeping, self._shape = digests, times_s, keeping, shape
        frames = len(times_s)
        scheme = TABLE[keeping.positions](shape.system, shape.visual)
        budget = Budget(keeping.carriers, keeping.detail)
        policy = Policy(budget, retain.make(keeping.retain), scheme, seed)
        self.bank = MemoryBank("street", _geometry(frames, shape), policy)
        self._eye = torch.eye(frames)

    def frame(self, step: int) -> Shelf:
        """What frame `step` reads; then it is remembered. Call in order."""
        now_s = self._times_s[step]
        past = self.bank.past(now_s)
        shelf = self._shelf(past.keys[0, 0], past.positions, self.bank.next_positions(now_s))
        one = self._eye[step]
        detail = one.expand(1, 1, self._shape.visual, -1)
        self.bank.add(
            Carrier(
                camera="street",
                frame=step,
                span=Span(now_s, now_s),
                digest=self._digests[step],
                keys=one[None, None],
                values=one[None, None],
                detail=Part(detail, detail, torch.arange(self._shape.visual)),
            )
        )
        return shelf

    def question(self) -> Shelf:
        """What a question reads after the frame that came last."""
        view: MemoryView = self.bank.fork(now_s=self._times_s[self.bank.newest_frame])
        count, visual = view.count, self._shape.visual
        shelf = self._shelf(view.past.keys[0, 0, :count], view.past.positions[:count], torch.zeros(visual + 1))
        detail, where, slot = shelf.detail.clone(), shelf.detail_where.clone(), shelf.detail_slot.clone()
        for place, first in enumerate(range(count, len(view.past), visual)):
            detail[place] = int(view.past.keys[0, 0, first].argmax())
            where[place] = view.past.positions[first : first + visual]
            slot[place] = int(view.source[first])
        return replace(shelf, detail=detail, detail_where=where, detail_slot=slot, text=count)

    def _shelf(self, mix: Tensor, where: Tensor, own: Tensor) -> Shelf:
        room, count, keep = self._keeping.carriers, len(mix), self._keeping.detail
        return Shelf(
            mix=torch.cat((mix, mix.new_zeros(room - count, mix.shape[1]))),
            where=torch.cat((where, where.new_zeros(room - count))),
            valid=torch.arange(room) < count,
            own=own,
            detail=torch.full((keep,), -1),
            detail_where=torch.zeros(keep, self._shape.visual),
            detail_slot=torch.zeros(keep, dtype=torch.long),
            text=count,
        )


def _geometry(frames: int, shape: Shape) -> Geometry:
    """One layer, one head as wide as the clip is long: room for one-hot keys."""
    return Geometry(
        name="rehearsal",
        layers=1,
        kv_heads=1,
        head_width=frames,
        width=shape.width,
        visual=shape.visual,
        grid=shape.grid,
        image_px=1,
        tower_blocks=1,
        max_positions=0,
        positions="compact",
        carriers=None,
        trained=True,
        pointer=None,
        trust=None,
        dtype=torch.float32,
        device=torch.device("cpu"),
    )
