"""What a question sees: an immutable fork of a bank. Nothing that is done with it reaches the bank."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from memory.recover import Left
from stream.kv import Past
from stream.types import Span


@dataclass(frozen=True, slots=True)
class Moment:
    """A remembered frame, as evidence names it."""

    frame: int
    span: Span
    jpeg: bytes


@dataclass(frozen=True, slots=True)
class MemoryView:
    """One camera's memory at one instant, with positions assigned.

    `source` says for every key of `past` which moment it belongs to, so that attention turns into evidence.
    """

    camera: str
    past: Past  # carriers, then visual tokens of the last k frames and companions, by moment
    source: Tensor  # int64 [len(past)] index into moments
    places: Tensor  # int64 [len(past)] which of its frame's N+1 positions each key has; a carrier the last, N
    moments: tuple[Moment, ...]  # in time order
    digests: Tensor  # [count, D] of the carriers
    count: int  # carriers read, the first of `past`: where the question's positions start
    now_s: float  # when the question came, wall seconds
    held_from_s: float | None  # of the whole bank, not only of what is read
    held_to_s: float | None
    newest_frame: int = -1  # number of the newest frame when this view was made: nothing later may be recalled
    evicted: int = 0  # carriers that have left the bank since it began
    recalled: int = 0  # of `count`, how many came from the archive, or came back by their tiny keys
    left: tuple[Left, ...] = ()  # of the asked range, what left the bank, where tiny keys are kept

    def __bool__(self) -> bool:
        return len(self.moments) > 0
