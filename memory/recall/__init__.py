"""What a question reads: carriers of the bank and of the archive, in time order.

    question --read once over the bank--> Asked --+
    bank (all of the asked range) ----------------+--> select --> view, positions assigned anew
    archive --narrow (pools, coarse to fine)------+

The order of choice: the asked time range, now or past, relevance, neighbours, diversity, budget, time order.
Carriers that are held in the bank and rows of the archive are chosen by the same methods.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from torch import Tensor

from stream.policy import Paper, one
from stream.types import Pointer, Span


@dataclass(frozen=True, slots=True)
class Look:
    """What a question looked for and where, when it was read over the bank."""

    newest: Tensor  # [L, heads, Dh] un-rotated queries of its last token
    mean: Tensor  # [L, heads, Dh] mean over all its tokens
    words: Tensor  # [D] mean of its tokens' embeddings
    recent: float | None  # share of its attention to memory that went to the recent detail; None: nothing is known
    pointer: Pointer | None  # heads that were trained to point at evidence


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, as recall knows it. `look` is None for methods that do not need it."""

    text: str
    look: Look | None = None


@dataclass(frozen=True, slots=True)
class Rows:
    """Carriers that may be read, in time order. Read only."""

    frames: Sequence[int]
    spans: Sequence[Span]
    held: Sequence[bool]  # in the bank now; else a row of the archive
    digests: Tensor  # [n, D]
    keys: Tensor  # [L, Hkv, n, Dh] un-rotated

    def __len__(self) -> int:
        return len(self.frames)


class Recall(Protocol):
    """Chooses what a question reads. Holds no state and changes nothing; a draw by chance has its seed as an option."""

    paper: ClassVar[Paper]
    looks: ClassVar[bool]  # needs `Asked.look`, which costs one more forward of the question
    reaches: ClassVar[bool]  # chooses from the archive too, not from the bank alone

    def wants(self, asked: Asked) -> bool:
        """Whether this question is worth a search; False reads the bank as it is."""
        ...

    def select(self, asked: Asked, rows: Rows, room: int) -> Sequence[int]:
        """At most `room` sorted unique indices into `rows`."""
        ...

    def groups(self, asked: Asked, rows: Rows, room: int) -> Sequence[Sequence[int]]:
        """At most `room` groups of `rows`, disjoint, in time order; a group is read as one, the mean of its keys and
        values. Where nothing is pooled, groups of one: `select`."""
        ...


class Method(ABC):
    """What most methods answer."""

    looks: ClassVar[bool] = True
    reaches: ClassVar[bool] = True

    def wants(self, asked: Asked) -> bool:  # noqa: ARG002 - most search for everything
        """See Recall."""
        return True

    @abstractmethod
    def select(self, asked: Asked, rows: Rows, room: int) -> Sequence[int]:
        """See Recall."""

    def groups(self, asked: Asked, rows: Rows, room: int) -> Sequence[Sequence[int]]:
        """See Recall: most pool nothing."""
        return [(index,) for index in self.select(asked, rows, room)]


TABLE: dict[str, str] = {
    "all": "memory.recall.all:All",
    "recent": "memory.recall.recent:Recent",
    "uniform": "memory.recall.uniform:Uniform",
    "random": "memory.recall.random:Random",
    "relevance": "memory.recall.relevance:Relevance",
    "rekv": "memory.recall.rekv:ReKV",
    "clips": "memory.recall.clips:Clips",
    "diverse": "memory.recall.diverse:Diverse",
    "pages": "memory.recall.pages:Pages",
    "route": "memory.recall.route:Route",
    "savemem": "memory.recall.savemem:SaveMem",
    "videoxl2": "memory.recall.videoxl2:VideoXL2",
    "videostreaming": "memory.recall.videostreaming:VideoStreaming",
    "bvllm": "memory.recall.bvllm:BVLLM",
    "f2c": "memory.recall.f2c:F2C",
    "qtsplus": "memory.recall.qtsplus:QTSplus",
    "recoverable": "memory.recall.recoverable:Recoverable",
}


def make(spec: Mapping[str, Mapping[str, Any]]) -> Recall:
    """From a one-key map, e.g. `{"recent": {"carriers": 8}}`."""
    method: Recall = one("memory.recall", TABLE, spec)
    return method
