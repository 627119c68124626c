"""What a frame that left was like: a tiny key of it, and the carriers that stayed, weighted by their keys (HoT)."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from stream.policy import Paper
from stream.types import Span

WIDTH = 64  # numbers of a tiny key: 128 bytes in float16, against 12 KB of a carrier of the 0.5B model


def directions(width: int, seed: int = 0) -> Tensor:
    """float32 [D, 64]: fixed random directions, the same for one `width` D and `seed`; lengths stay in the mean."""
    drawn = torch.randn(width, WIDTH, generator=torch.Generator().manual_seed(seed))
    return drawn / math.sqrt(WIDTH)


def tiny_keys(digests: Tensor, seed: int = 0) -> Tensor:
    """float16 [n, 64] of `digests` [n, D], on the CPU. Not brought to length 1: they are compared around their mean.

    Each digest is scaled to length 1 before, so that float16 holds it.
    """
    rows = F.normalize(digests.detach().float().cpu(), dim=-1)
    return (rows @ directions(digests.shape[-1], seed)).half()


def weights(key: Tensor, kept: Tensor, temperature: float) -> Tensor:
    """float32 [n], sum 1: what each kept carrier has to say of the frame with tiny `key` [64]; `kept` [n, 64], n >= 1.

    softmax(cosine / temperature), of keys around the mean of `kept`: frames of one camera have most in common, and what
    they have in common tells nothing. As the temperature falls, all weight goes to the most alike.
    """
    if len(kept) == 1:
        return torch.ones(1)
    middle = kept.float().mean(0)
    alike = F.normalize(kept.float() - middle, dim=-1) @ F.normalize(key.float() - middle, dim=-1)
    return (alike / temperature).softmax(0)


def recover(key: Tensor, kept: Tensor, rows: Tensor, temperature: float) -> Tensor:
    """`rows` [n, ...] of the kept carriers (keys, values, digests: anything), averaged by `weights`: [...]."""
    share = weights(key, kept, temperature).to(rows.device)
    mean: Tensor = torch.tensordot(share, rows.float(), 1)
    return mean.to(rows.dtype)


@dataclass(frozen=True, slots=True)
class Left:
    """A frame whose carrier left."""

    frame: int
    span: Span
    key: Tensor  # float16 [64]


@dataclass
class Recovery:
    """Tiny keys of the frames that left one camera's bank, the newest `most`. Not thread-safe: it belongs to a bank.

    `most`: frames; 152 bytes each.
    `temperature`: of the softmax over cosines; 0.1 rests on a few carriers that look alike.
    `seed`: of the random directions.
    """

    most: int = 4096
    temperature: float = 0.1
    seed: int = 0
    _left: deque[Left] = field(default_factory=deque, init=False, repr=False)

    paper: ClassVar[Paper] = Paper(
        title="Hourglass Tokenizer for Efficient Transformer-Based 3D Human Pose Estimation",
        link="https://arxiv.org/abs/2311.12028",
        fidelity="idea",
        differs="the paper's recovery is a trained cross-attention with learned queries of full length, inside one "
        "forward over 243 poses; here nothing is trained: the query is 64 random projections of the frame's digest, "
        "stored when its carrier leaves, the keys are the same of the carriers that stayed, and the bank is a stream's",
    )

    def __post_init__(self) -> None:
        if self.most < 1 or not self.temperature > 0:
            raise ValueError(f"most must be at least 1 and temperature above 0, got {self.most} and {self.temperature}")

    def __len__(self) -> int:
        return len(self._left)

    def note(self, frame: int, span: Span, digest: Tensor) -> None:
        """The carrier of `frame` with this `digest` [D] leaves. Beyond `most`, the first one noted is given up."""
        if len(self._left) == self.most:
            self._left.popleft()
        self._left.append(Left(frame, span, tiny_keys(digest[None], self.seed)[0]))

    def forget(self, since_s: float | None, until_s: float | None) -> int:
        """Keys of frames that touch [since_s, until_s], wall seconds, None is open, are erased; how many."""
        stay = [left for left in self._left if not left.span.overlaps(since_s, until_s)]
        gone = len(self._left) - len(stay)
        self._left = deque(stay)
        return gone

    def within(self, since_s: float | None, until_s: float | None) -> tuple[Left, ...]:
        """Those that touch the range, in the order of their frames."""
        found = (left for left in self._left if left.span.overlaps(since_s, until_s))
        return tuple(sorted(found, key=lambda left: left.frame))
