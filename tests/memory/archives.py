"""What the archive's tests share: a small shape, entries that tell what they are, a clock that stands still."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from memory.archive import Archive, Entry, Fault, Setup, Shape
from stream.types import Span

SHAPE = Shape(4, 2, 32, 64)
T0 = 1_700_000_000.0 - 1_700_000_000.0 % 86_400  # midnight UTC
WAIT_S = 20.0


@dataclass(slots=True)
class StillClock:
    """Moved by hand."""

    now_s: float = T0

    def wall_s(self) -> float:
        return self.now_s

    def monotonic_s(self) -> float:
        return self.now_s


def entry(frame: int, camera: str = "door", at_s: float | None = None, jpeg: bytes = b"", last_s: float = 0.0) -> Entry:
    """Its arrays depend on camera and frame alone."""
    rng = np.random.default_rng([frame, *camera.encode()])
    first_s = T0 + frame if at_s is None else at_s
    keys, values = rng.standard_normal((2, *SHAPE.heads)).astype(np.float32)
    digest = rng.standard_normal(SHAPE.width).astype(np.float32)
    return Entry(camera, frame, Span(first_s, max(first_s, last_s)), frame / 8, digest, keys, values, jpeg)


def setup(**options: Any) -> Setup:
    """Small and quick."""
    return Setup(**{"shape": SHAPE, "identity": "tiny-1", "commit_every_s": 0.01, "retry_s": 0.05, **options})


@contextmanager
def opened(path: Path, **options: Any) -> Iterator[Archive]:
    """Closed at the end, whatever happens."""
    archive = Archive.open(path, setup(**options))
    try:
        yield archive
    finally:
        assert archive.close(WAIT_S)


def fill(archive: Archive, entries: list[Entry]) -> None:
    """Put and commit, a queue's worth at a time."""
    for start in range(0, len(entries), 64):
        for item in entries[start : start + 64]:
            archive.put(item)
        assert archive.flush(WAIT_S), archive.state()


def reasons(faults: list[Fault]) -> list[str]:
    """Of all announcements, `ok` where it works again."""
    return [fault.reason or "ok" for fault in faults]


def content(folder: Path) -> bytes:
    """Every byte of the archive's files, those set aside included."""
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file())
