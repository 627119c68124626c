"""Where remembered frames stand on the rotary axis: a setting, because keys are stored un-rotated.

    compact   system 0..S-1, remembered frame i at S+i; a frame's tokens and its carrier share one position
    spaced    remembered frame i owns N+1 positions, its carrier the last: the geometry of VideoScan's training
    time      by age: one position a second, newest at S+horizon, older than the horizon at S

All three stay below a bound that does not grow with the stream. `compact` and `spaced` count ranks among the
carriers that are remembered now, so an eviction moves every later one: exact, because keys are rotated on reading.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from stream.types import Span


class Positions(Protocol):
    """Positions of everything a forward reads or writes. All results are float32."""

    @property
    def system(self) -> int:
        """S, tokens of the system prompt; positions from there on are given out."""
        ...

    def carriers(self, spans: Sequence[Span], now_s: float) -> Tensor:
        """Of the remembered carriers [n], in time order."""
        ...

    def frame(self, rank: int, span: Span, now_s: float) -> Tensor:
        """Of the N visual tokens and the carrier [N+1] of the frame that is, or would be, number `rank`."""
        ...

    def text(self, count: int, length: int) -> Tensor:
        """Of a question's `length` tokens asked when `count` carriers are remembered."""
        ...

    def bound(self, carriers: int, text: int) -> int:
        """The first position that is never reached."""
        ...


@dataclass(frozen=True, slots=True)
class Compact:
    """One position a remembered frame."""

    system: int  # S
    visual: int  # N

    def carriers(self, spans: Sequence[Span], now_s: float) -> Tensor:  # noqa: ARG002
        """S, S+1, ..."""
        return self.system + torch.arange(len(spans), dtype=torch.float32)

    def frame(self, rank: int, span: Span, now_s: float) -> Tensor:  # noqa: ARG002
        """All at S+rank."""
        return torch.full((self.visual + 1,), float(self.system + rank))

    def text(self, count: int, length: int) -> Tensor:
        """From S+count on."""
        return self.system + count + torch.arange(length, dtype=torch.float32)

    def bound(self, carriers: int, text: int) -> int:
        """S + M + text (+1 while a frame joins a full bank)."""
        return self.system + carriers + 1 + text


@dataclass(frozen=True, slots=True)
class Spaced:
    """N+1 positions a remembered frame."""

    system: int
    visual: int

    def carriers(self, spans: Sequence[Span], now_s: float) -> Tensor:  # noqa: ARG002
        """The last position of each frame's stretch."""
        stride = self.visual + 1
        return self.system + stride * torch.arange(1, len(spans) + 1, dtype=torch.float32) - 1

    def frame(self, rank: int, span: Span, now_s: float) -> Tensor:  # noqa: ARG002
        """S + rank (N+1) and the N that follow."""
        stride = self.visual + 1
        return self.system + rank * stride + torch.arange(stride, dtype=torch.float32)

    def text(self, count: int, length: int) -> Tensor:
        """After the last stretch."""
        return self.system + count * (self.visual + 1) + torch.arange(length, dtype=torch.float32)

    def bound(self, carriers: int, text: int) -> int:
        """S + (M+1)(N+1) + text."""
        return self.system + (carriers + 1) * (self.visual + 1) + text


@dataclass(frozen=True, slots=True)
class Time:
    """One position a second of age, up to a horizon."""

    system: int
    visual: int
    horizon_s: float = 1024.0

    def carriers(self, spans: Sequence[Span], now_s: float) -> Tensor:
        """By the age of each span's end."""
        ends = torch.tensor([span.last_s - now_s for span in spans], dtype=torch.float64)
        return (self.system + self.horizon_s + ends.clamp(-self.horizon_s, 0.0)).float()

    def frame(self, rank: int, span: Span, now_s: float) -> Tensor:  # noqa: ARG002
        """All at the frame's age."""
        return self.carriers([span], now_s).expand(self.visual + 1)

    def text(self, count: int, length: int) -> Tensor:  # noqa: ARG002
        """Just after now."""
        return self.system + self.horizon_s + 1 + torch.arange(length, dtype=torch.float32)

    def bound(self, carriers: int, text: int) -> int:  # noqa: ARG002
        """S + horizon + 1 + text."""
        return self.system + int(self.horizon_s) + 1 + text


TABLE: dict[str, type[Compact] | type[Spaced] | type[Time]] = {"compact": Compact, "spaced": Spaced, "time": Time}
