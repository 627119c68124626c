"""Adjacent similarity: the older of the two most alike neighbours leaves (VideoScan's eviction)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, get_args

import torch
from torch import Tensor

from memory.retain import Absorb, Choice, Retain, Rows
from stream.policy import Paper


@dataclass(frozen=True)
class Adjacent(Retain):
    """t* = argmax cos(C_t, C_t+1); ties go to the oldest pair. `when_full` says what becomes of the older one."""

    when_full: Absorb = "extend"

    paper: ClassVar[Paper] = Paper(
        title="VideoScan",
        link="https://arxiv.org/abs/2503.09387",
        fidelity="style",
        differs="by default the survivor's span grows over the time of the one that leaves; `drop` is the paper's rule",
    )

    def __post_init__(self) -> None:
        if self.when_full not in get_args(Absorb):
            raise ValueError(f"when_full is one of {', '.join(get_args(Absorb))}; got {self.when_full!r}")

    def choose(self, rows: Rows, rng: torch.Generator) -> Choice:  # noqa: ARG002 - deterministic
        """See Retain."""
        older = int(similarities(rows.digests).argmax())
        if self.when_full == "drop":
            return Choice(older)
        return Choice(older, into=older + 1, how=self.when_full)


def similarities(digests: Tensor) -> Tensor:
    """float32 [n - 1]: cosine of every row of `digests` [n, D] with the next; 0 where one of them is zero."""
    rows = digests.float()
    lengths = rows.norm(dim=-1).clamp_min_(1e-8)
    alike: Tensor = torch.linalg.vecdot(rows[:-1], rows[1:]).div_(lengths[:-1] * lengths[1:])
    return alike
