"""Looking into a daemon's folder from outside: what is committed, what a snapshot holds, which bytes lie where."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from memory import snapshot
from memory.archive import Reader, Row
from memory.archive.inspect import Verified, verify
from tests.fakes import make_video
from tests.system.rig import Rig

SNOW_PX = (96, 160)


def snow(index: int, size: tuple[int, int]) -> np.ndarray:
    """A picture whose bytes no other picture has; uint8 [H, W, 3]."""
    coarse = np.random.default_rng(index).integers(0, 256, (size[0] // 8, size[1] // 8, 3), np.uint8)
    return coarse.repeat(8, axis=0).repeat(8, axis=1)


def make_snow(path: Path, seconds: float) -> Path:
    """Pictures of which no two are alike, 10 a second."""
    return make_video(path, round(10 * seconds), 10, SNOW_PX, draw=snow)


def folder(rig: Rig) -> Path:
    """Where the daemon keeps everything."""
    return rig.folder / "memory"


def archive_path(rig: Rig) -> Path:
    """The archive."""
    return folder(rig) / "archive.sqlite"


@contextmanager
def reading(rig: Rig) -> Iterator[Reader]:
    """The archive, read only."""
    reader = Reader(archive_path(rig))
    try:
        yield reader
    finally:
        reader.close()


def rows(rig: Rig, camera: str = "door") -> list[Row]:
    """Every carrier that is committed now, in the order of absorbing."""
    if not archive_path(rig).exists():
        return []
    with reading(rig) as reader:
        return sorted(reader.rows(camera, None, None), key=lambda row: row.id)


def have_rows(rig: Rig, count: int, camera: str = "door") -> list[Row]:
    """Wait until so many are committed."""
    found: list[Row] = rig.until(
        lambda: found if len(found := rows(rig, camera)) >= count else None, f"{count} carriers of {camera} on disk"
    )
    return found


def check(rig: Rig) -> Verified:
    """Every record and page of the archive."""
    with reading(rig) as reader:
        return verify(reader, lambda *_: None)


def bank(rig: Rig, camera: str = "door") -> snapshot.State:
    """The bank that was saved last, whichever model it belongs to."""
    path = folder(rig) / "banks" / f"{camera}.bank"
    head = json.loads(path.read_bytes().split(b"\n", 2)[1])
    return snapshot.load(path, head["identity"])


def files(rig: Rig) -> dict[str, bytes]:
    """Everything in the folder, by name."""
    return {str(path.relative_to(folder(rig))): path.read_bytes() for path in folder(rig).rglob("*") if path.is_file()}


def ask(rig: Rig, query_id: str, since_s: float | None = None, until_s: float | None = None) -> Any:
    """The answer to a question about a time."""
    when = {name: value for name, value in (("since", since_s), ("until", until_s)) if value is not None}
    rig.caller.ask(query_id, "what was there?", cameras=["door"], **when)
    return rig.caller.answer(query_id)


def evidence_within(answer: Any, since_s: float, until_s: float) -> bool:
    """Whether the answer is one, and all it stands on is from then."""
    spans = [item["span"] for item in answer["evidence"]]
    inside = all(first_s <= until_s and last_s >= since_s for first_s, last_s in spans)
    return bool(answer["status"] == "ok" and spans and inside)


def archive_status(rig: Rig, fits: Callable[[Any], bool], since: int) -> Any:
    """The daemon's status from message number `since` on that fits; it comes every ten seconds."""
    return rig.caller.wait("longwatch/status", lambda got: fits(got.json()), since).json()


def lines(rig: Rig, pattern: str) -> list[str]:
    """Lines of the daemon's log that match."""
    assert rig.daemon is not None
    return re.findall(f"(?m)^.*{pattern}.*$", rig.daemon.log())
