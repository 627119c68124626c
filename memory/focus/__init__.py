"""What a question reads of the newest frames' visual tokens, after `memory.recall` has chosen the carriers.

    recent detail [n tokens] --read once by the question--> Asked --focus--> at most `room` keys

Carriers are read anyhow. Tokens that are not read cost the question nothing; a group of tokens may be read as one, the
weighted mean of their keys (un-rotated) and values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from torch import Tensor

from memory.recall import Asked
from stream.policy import Paper, one


@dataclass(frozen=True, slots=True)
class Tokens:
    """Visual tokens of the newest frames, in time order and within a frame in reading order. Read only."""

    keys: Tensor  # [L, Hkv, n, Dh] un-rotated
    values: Tensor  # [L, Hkv, n, Dh]
    frames: Tensor  # int64 [n], rising: which of the frames each belongs to, 0 is the oldest
    places: Tensor  # int64 [n]: where on the frame's grid, row by row
    grid: tuple[int, int]

    def __len__(self) -> int:
        return len(self.frames)


@dataclass(frozen=True, slots=True)
class Reading:
    """What is read: m keys. `weights` None: tokens `rows` as they are."""

    rows: Tensor  # int64 [m], rising: the tokens; of a mean, the one in whose place it stands
    weights: Tensor | None = None  # float32 [m, n], every row sums to 1


class Focus(Protocol):
    """Chooses among recent visual tokens. Holds no state and changes nothing."""

    paper: ClassVar[Paper]
    looks: ClassVar[bool]  # needs `Asked.look`, which costs one more forward of the question

    def select(self, asked: Asked, tokens: Tokens, room: int) -> Reading:
        """At most `room` >= 1 keys; all tokens as they are where n <= room. n may be 0."""
        ...


TABLE: dict[str, str] = {
    "all": "memory.focus.all:All",
    "uniform": "memory.focus.uniform:Uniform",
    "random": "memory.focus.random:Random",
    "quota": "memory.focus.quota:Quota",
    "ppllava": "memory.focus.ppllava:PPLLaVA",
    "freevideo": "memory.focus.freevideo:FreeVideo",
    "bvllm": "memory.focus.bvllm:BVLLM",
    "qtsplus": "memory.focus.qtsplus:QTSplus",
    "recoverable": "memory.focus.recoverable:Recoverable",
}


def make(spec: Mapping[str, Mapping[str, Any]]) -> Focus:
    """From a one-key map, e.g. `{"quota": {}}`."""
    method: Focus = one("memory.focus", TABLE, spec)
    return method
