"""What the engine knows of the rest of the daemon: the cameras' side, where carriers are kept, the time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from daemon.messages import Gap
from stream.clock import Clock, SystemClock
from stream.types import Carrier


class Keep(Protocol):
    """Where carriers go besides the bank. Called in the engine's thread: must hand over and return, never raise."""

    def absorbed(self, carrier: Carrier, score: float) -> None:
        """`carrier` is in its camera's bank now; `score` is the gate's."""
        ...

    def grew(self, camera: str, frame: int, last_s: float) -> None:
        """The span of `camera`'s newest frame reached until `last_s`."""
        ...


class Nowhere:
    """Carriers are kept in the bank alone."""

    def absorbed(self, carrier: Carrier, score: float) -> None:
        """See Keep."""

    def grew(self, camera: str, frame: int, last_s: float) -> None:
        """See Keep."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the engine asks the cameras' side. Callable from the engine's thread."""

    newest_s: Callable[[str], float | None] = lambda _camera: None  # stamp of the newest intact frame
    gaps: Callable[[str, float | None, float | None], tuple[Gap, ...]] = lambda *_: ()
    beat: Callable[[], None] = lambda: None
    keep: Keep = field(default_factory=Nowhere)
    clock: Clock = field(default_factory=SystemClock)
    pictures: Callable[[str], bool] = lambda _camera: True  # whether what was kept of them may be shown
