"""An overview to look at: two cameras, one of them in trouble, and names that need escaping."""

from __future__ import annotations

import time
from typing import Any

from daemon.overview import Archiving, Broker, GapsSeen, Overview, Process
from daemon.wire import CameraState, DaemonStatus


def make_overview(**changes: Any) -> Overview:
    now_s = time.time()
    door = CameraState(
        camera="door",
        state="online",
        at=now_s,
        newest_age_s=1.0,
        fps=24.96,
        frames_in=100,
        frames_kept=40,
        frames_skipped=58,
        frames_dropped=2,
        frames_corrupt=3,
        reconnects=4,
        carriers=32,
        memory_from=now_s - 7500,
        memory_to=now_s,
    )
    yard = CameraState(camera="yard", state="offline", reason="refused", at=now_s, fps=0.0)
    status = DaemonStatus(
        version="1.2.3",
        model='tiny "quoted" \\ and\nbroken',
        at=now_s,
        uptime_s=3700.0,
        cameras_online=1,
        cameras_total=2,
        queue_depth=3,
        answered=12,
        absorb_ms_p50=20.4,
        first_token_ms_p50=99.6,
        archive_bytes=5 * 2**20,
        archived=1234,
        mqtt_waiting=6,
    )
    made: dict[str, Any] = {
        "status": status,
        "cameras": (door, yard),
        "gaps": {"door": GapsSeen(), "yard": GapsSeen(count=2, seconds=600.0)},
        "broker": Broker(connected=True),
        "archive": Archiving(enabled=True, queued=1, commit_s_p50=0.002, commit_s_p99=0.01),
        "process": Process(memory_bytes=300 * 2**20, cpu_s=12.5, threads=9),
        "parts": {"engine": 0.1, "camera door": 0.2},
    }
    return Overview(**{**made, **changes})
