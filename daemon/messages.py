"""What a question and an answer are, inside the process. `daemon/payloads.py` is their form on the wire."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from stream.types import Span

Status = Literal["ok", "no_evidence", "busy", "expired", "error"]


@dataclass(frozen=True, slots=True)
class Query:
    """One question, checked. `cameras` empty means all; times are seconds since the epoch."""

    id: str
    question: str
    cameras: tuple[str, ...] = ()
    since_s: float | None = None
    until_s: float | None = None
    stream: bool = True  # publish chunks while the answer is written
    evidence: int | None = None  # spans wanted; None takes the setting
    received_s: float = 0.0
    deadline_s: float | None = None  # wall time after which nobody waits any more


@dataclass(frozen=True, slots=True)
class Evidence:
    """A moment the answer rests on."""

    camera: str
    span: Span
    weight: float  # share of the answer's attention that went to this moment, 0..1
    jpeg: bytes = b""
    confidence: float | None = None  # chance that this moment shows it; None where the checkpoint was never measured


@dataclass(frozen=True, slots=True)
class Gap:
    """A time of which a camera's memory has nothing: not seen, or erased. `until_s` None: still so."""

    camera: str
    since_s: float
    until_s: float | None
    reason: str  # unreachable, ended, frozen, black, stopped, erased, ...


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds since the question arrived."""

    queue_ms: float
    first_token_ms: float | None
    total_ms: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back. `text` of an `error`, `busy` or `expired` answer says what to do about it."""

    id: str
    status: Status
    text: str
    confidence: float | None = None
    evidence: tuple[Evidence, ...] = ()
    memory_from_s: float | None = None
    memory_to_s: float | None = None
    asked_from_s: float | None = None  # the time that was asked for, as it was understood; None is open
    asked_to_s: float | None = None
    carriers: int = 0  # read for this answer
    recalled: int = 0  # of these, from the archive
    evicted: int = 0  # that have left the bounded memory so far; the archive has them
    newest_age_s: float | None = None
    gaps: tuple[Gap, ...] = ()
    asked_s: float = 0.0
    answered_s: float = 0.0
    timing: Timing = Timing(0.0, None, 0.0)
    model: str = ""

    def rests_on(self, asked: Sequence[str], camera: str | None, since_s: float, until_s: float) -> bool:
        """Whether it may say what `camera` (None: any) showed in [since_s, until_s]; `asked` are its question's."""
        if any(camera in (None, item.camera) and item.span.overlaps(since_s, until_s) for item in self.evidence):
            return True
        if self.memory_from_s is None or self.memory_to_s is None or (asked and camera not in (None, *asked)):
            return False
        first_s = max(self.memory_from_s, -math.inf if self.asked_from_s is None else self.asked_from_s)
        last_s = min(self.memory_to_s, math.inf if self.asked_to_s is None else self.asked_to_s)
        return first_s <= until_s and last_s >= since_s
