"""What goes into the archive and comes out of it. Times are wall seconds; shape letters as in `stream/types.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from stream.clock import Clock, SystemClock
from stream.errors import LongwatchError
from stream.types import Span

Floats = NDArray[np.float32]
Dtype = Literal["int8", "float16", "float32"]

ERASED = "erased"  # reasons of outages that the archive itself writes
NOT_ARCHIVED = "not_archived"


class ArchiveError(LongwatchError):
    """An archive cannot be opened, read or written. `reason` is the word that states and counters use."""

    def __init__(self, message: str, reason: str = "io") -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Shape:
    """The numbers of a checkpoint that fix a record: L, Hkv, Dh, D."""

    layers: int
    kv_heads: int
    head_width: int
    width: int

    @property
    def heads(self) -> tuple[int, int, int]:
        """[L, Hkv, Dh]: the shape of one carrier's keys, and of its values."""
        return self.layers, self.kv_heads, self.head_width


@dataclass(frozen=True, slots=True)
class Entry:
    """One carrier on its way in, or out again. The arrays must not be changed after `put`."""

    camera: str
    frame: int
    span: Span
    score: float  # of the gate
    digest: Floats  # [D]
    keys: Floats  # [L, Hkv, Dh] un-rotated
    values: Floats  # [L, Hkv, Dh]
    jpeg: bytes = b""


@dataclass(frozen=True, slots=True)
class Row:
    """What is known of one archived carrier without reading its arrays. `id` grows in the order of absorbing."""

    id: int
    camera: str
    frame: int
    span: Span
    score: float


@dataclass(frozen=True, slots=True)
class Outage:
    """A time of which there is nothing, and why (`erased`, `not_archived`, or a camera's fault). None: still so."""

    camera: str
    since_s: float
    until_s: float | None
    reason: str


LineKind = Literal["event", "missed", "day"]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the diary. `event`: what happened; `missed`: of what nothing could be said; `day`: counts of a day.

    `carrier` is the id of the last carrier it tells of, 0 for a day's. `epoch` is the number of the last erasure that
    was done when those carriers were read: what is erased meanwhile must not come back as text.
    """

    camera: str
    first_s: float
    last_s: float
    text: str
    kind: LineKind = "event"
    confidence: float | None = None
    model: str = ""
    carrier: int = 0
    epoch: int = 0
    id: int = 0


@dataclass(frozen=True, slots=True)
class Quota:
    """Limits of one camera; None is no limit. The oldest carriers leave first."""

    bytes: int | None = None
    age_s: float | None = None


@dataclass(frozen=True, slots=True)
class Erased:
    """What `forget` did. `kept_aside` names files set aside earlier, which it does not touch."""

    rows: int
    trimmed: int  # spans that only reached into the range
    kept_aside: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fault:
    """A change of the archive's state; `ok` with an empty reason when it works again.

    Reasons: full, read_only, corrupt, locked, cannot_open, io. Events that do not stop it come with `ok`:
    `set_aside`, `salvaged`, `erase_failed`.
    """

    ok: bool
    reason: str
    detail: str  # one line for a log


class OnForget(Protocol):
    """Drops what memory and snapshots hold of a range; returns when that is done."""

    def __call__(self, camera: str | None, since_s: float, until_s: float) -> None:
        """`camera` None is all of them."""
        ...


def _nothing(camera: str | None, since_s: float, until_s: float) -> None:
    """Nobody else holds anything."""


def _silent(fault: Fault) -> None:
    """Nobody listens."""


@dataclass(frozen=True, slots=True)
class Setup:
    """How a writer behaves. `shape`, `identity`, `dtype` and `base` are fixed for the life of a file."""

    shape: Shape
    identity: str  # of checkpoint, geometry and system prompt: carriers of another cannot be read
    dtype: Dtype = "int8"
    base: Floats | None = None  # [L, Hkv, Dh] what all keys have in common (a projection's bias); int8 stores the rest
    quotas: Mapping[str, Quota] = field(default_factory=dict)
    quota: Quota = Quota()  # of cameras that `quotas` does not name
    thumbnail_px: int = 320  # width at most; 0 stores no picture
    commit_every_s: float = 1.0
    batch: int = 64  # carriers per commit at most
    queue: int = 256  # carriers waiting at most; when full the oldest waiting one is dropped
    retry_s: float = 2.0  # after a fault
    clock: Clock = field(default_factory=SystemClock)
    on_fault: Callable[[Fault], None] = _silent  # from the writer's thread, once per change
    on_forget: OnForget = _nothing  # from the writer's thread: must not wait for the archive


@dataclass(frozen=True, slots=True)
class ArchiveState:
    """How the writer is doing. Counts are since the start; `bytes` is what all cameras' carriers take on disk."""

    ok: bool = True
    reason: str = ""
    written: int = 0
    dropped: int = 0  # the queue was full
    broken: int = 0  # wrong shape, or not finite
    unreadable_jpegs: int = 0
    pruned: int = 0  # by quotas
    salvaged: int = 0
    queued: int = 0
    bytes: int = 0
    commit_ms_last: float = 0.0
    commit_ms_p50: float = 0.0  # of the last thousand commits
    commit_ms_p99: float = 0.0
    checkpoint_ms_max: float = 0.0
