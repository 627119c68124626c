"""Where remembered frames stand on the rotary axis: a setting, because keys are stored un-rotated.

    compact   system 0..S-1, remembered frame i at S+i; a frame's tokens and its carrier share one position
    spaced    remembered frame i owns N+1 positions, its carrier the last: the geometry of VideoScan's training
    time      by age: one position a second, newest at S+horizon, older than the horizon at S
    equal     everything remembered and the frame itself at S, the question after it: nothing is farther than another

All stay below a bound that does not grow with the stream. `compact` and `spaced` count ranks among the carriers that
are remembered now, so an eviction moves every later one: exact, because keys are rotated on reading.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from stream.carrier.mean import VIDEOSCAN
from stream.policy import Paper
from stream.types import Span


class Positions(Protocol):
    """Positions of everything a forward reads or writes. All results are float32."""

    paper: ClassVar[Paper]

    @property
    def system(self) -> int:
        """S, tokens of the system prompt; positions from there on are given out."""
        ...

    @property
    def visual(self) -> int:
        """N, visual tokens of a frame."""
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
    paper: ClassVar[Paper] = Paper("one position a remembered frame", "", "baseline")

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
    paper: ClassVar[Paper] = Paper(
        title=f"{VIDEOSCAN} (positions)",
        link="https://arxiv.org/abs/2503.09387",
        fidelity="style",
        differs="as it was trained; an eviction moves later ones up, where the authors' code gives all one place",
    )

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
    paper: ClassVar[Paper] = Paper("positions by age", "", "baseline")

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


@dataclass(frozen=True, slots=True)
class Equal:
    """One position for all that is remembered: the order in which it came makes no difference to what is read."""

    system: int
    visual: int
    paper: ClassVar[Paper] = Paper(
        title="Vista-LLaMA: Reliable Video Narrator via Equal Distance to Visual Tokens",
        link="https://arxiv.org/abs/2312.08870",
        fidelity="style",
        differs="constant distance, not no rotation: a frozen model has seen positions on all keys; the words of a "
        "question still stand one after another; no recurrent projector, which is trained",
    )

    def carriers(self, spans: Sequence[Span], now_s: float) -> Tensor:  # noqa: ARG002
        """All at S."""
        return torch.full((len(spans),), float(self.system))

    def frame(self, rank: int, span: Span, now_s: float) -> Tensor:  # noqa: ARG002
        """All at S."""
        return torch.full((self.visual + 1,), float(self.system))

    def text(self, count: int, length: int) -> Tensor:  # noqa: ARG002
        """From S+1 on, whatever is remembered."""
        return self.system + 1 + torch.arange(length, dtype=torch.float32)

    def bound(self, carriers: int, text: int) -> int:  # noqa: ARG002
        """S + 1 + text."""
        return self.system + 1 + text


TABLE: dict[str, type[Compact] | type[Spaced] | type[Time] | type[Equal]] = {
    "compact": Compact,
    "spaced": Spaced,
    "time": Time,
    "equal": Equal,
}
