"""How everything is, at one moment: what `/metrics`, `longwatch status` and `longwatch top` are made of."""

from __future__ import annotations

import math
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from daemon import pipeline
from daemon.wire import CameraState, DaemonStatus
from memory.archive import ArchiveState

if TYPE_CHECKING:
    from daemon.app import App

DAY_S = 86_400.0
_LOOP = "loop"  # whoever reads this is told by it
_RESIDENT = "VmRSS:"


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class GapsSeen(_Shape):
    """What was missed of a camera in the last 24 hours."""

    count: int = 0
    seconds: float = 0.0


class Archiving(_Shape):
    """The archive beyond what the status says of it. Counts since the start."""

    enabled: bool = False
    queued: int = Field(0, description="moments that wait to be written")
    broken: int = 0
    pruned: int = Field(0, description="moments that left by quota or age")
    commit_s_p50: float = 0.0
    commit_s_p99: float = 0.0


class Broker(_Shape):
    """The connection to the MQTT broker."""

    connected: bool = False
    reason: str = ""


class Process(_Shape):
    """What the process takes."""

    memory_bytes: int | None = Field(None, description="resident; null where /proc does not say")
    cpu_s: float = 0.0
    threads: int = 0


class Overview(_Shape):
    """The answer of GET /overview. Times are seconds since the Unix epoch."""

    status: DaemonStatus
    cameras: tuple[CameraState, ...] = ()
    gaps: dict[str, GapsSeen] = {}
    switched_off: tuple[str, ...] = Field((), description="cameras that are not watched because somebody said so")
    broker: Broker | None = Field(None, description="null: it was not asked, since the broker itself told us this")
    archive: Archiving | None = None
    process: Process = Process()
    parts: dict[str, float] = Field({}, description="part of the daemon -> seconds since it moved")
    stuck: tuple[str, ...] = Field((), description="parts that should have moved, and did not")


def overview(app: App) -> Overview:
    """On the loop; takes a millisecond."""
    now_s = time.time()
    archive = app.keeper.state()
    link = app.link.state
    return Overview(
        status=pipeline.daemon_status(app),
        cameras=tuple(pipeline.camera_state(app, name) for name in app.posts),
        gaps={name: _gaps(app, name, now_s) for name in app.posts},
        switched_off=tuple(name for name in app.posts if name in app.switches.off),
        broker=Broker(connected=link.connected, reason="" if link.connected else link.reason),
        archive=_archiving(archive),
        process=Process(memory_bytes=_resident_bytes(), cpu_s=time.process_time(), threads=threading.active_count()),
        parts={name: age_s for name, age_s in app.beats.ages().items() if name != _LOOP},
        stuck=stuck(app),
    )


def stuck(app: App) -> tuple[str, ...]:
    """What does not move, in words. The loop is left out: it is what runs this."""
    return tuple(str(part) for part in app.beats.stuck(math.inf) if part.name != _LOOP)


def _gaps(app: App, camera: str, now_s: float) -> GapsSeen:
    since_s = now_s - DAY_S
    found = app.gaps.between(camera, since_s, now_s)
    missed_s = sum((now_s if gap.until_s is None else gap.until_s) - max(gap.since_s, since_s) for gap in found)
    return GapsSeen(count=len(found), seconds=round(max(0.0, missed_s), 1))


def _archiving(state: ArchiveState | None) -> Archiving:
    if state is None:
        return Archiving()
    return Archiving(
        enabled=True,
        queued=state.queued,
        broken=state.broken,
        pruned=state.pruned,
        commit_s_p50=state.commit_ms_p50 / 1000,
        commit_s_p99=state.commit_ms_p99 / 1000,
    )


def _resident_bytes() -> int | None:
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    found = next((line.split()[1] for line in lines if line.startswith(_RESIDENT)), None)
    return None if found is None else int(found) * 1024
