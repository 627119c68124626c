"""Files that are no cameras beside one that is; and how much memory the daemon takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.fakes import make_audio, make_video
from tests.system.rig import Clips, Rig

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
PEAK_MB = 900.0
PEAK_8K_MB = 1100.0  # a decoder of 8K holds up to twenty pictures of 50 MB; 670 MB were seen

BAD = {  # camera -> the reason that must be told
    "truncated": "unreadable",
    "zero_bytes": "no_video",
    "audio_only": "no_video",
    "not_a_video": "unreadable",
    "folder": "unreadable",
    "missing": "not_found",
}


def grey(_index: int, size: tuple[int, int]) -> np.ndarray:
    return np.full((*size, 3), 120, np.uint8)


def make_bad(folder: Path) -> dict[str, Path]:
    """One file for each way to be wrong."""
    whole = make_video(folder / "whole.mp4", 30)
    paths = {name: folder / f"{name}.mp4" for name in BAD}
    paths["truncated"].write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])  # its index stood at the end
    paths["zero_bytes"].write_bytes(b"")
    make_audio(paths["audio_only"])
    paths["not_a_video"].write_text("a shopping list\n" * 100)
    paths["folder"].mkdir()
    return paths


def test_files_that_are_no_cameras(rig: Rig, clips: Clips, tmp_path: Path) -> None:
    caller = rig.caller
    rig.camera("good", clips.street)
    rig.urls |= {name: str(path) for name, path in make_bad(tmp_path).items()}
    rig.urls["one_px"] = str(make_video(tmp_path / "one.avi", 10, size=(1, 1), codec="ffv1"))
    rig.urls["eight_k"] = str(make_video(tmp_path / "eight_k.mp4", 4, size=(4320, 7680), draw=grey))
    daemon = rig.start("good")
    for name, reason in BAD.items():
        state = caller.state(name, lambda state: state["state"] == "offline" and state["reason"] != "start")
        assert state["reason"] == reason, name
        assert state["frames_in"] == 0
        line = daemon.wait_log(rf"(?m)^.*camera={name} state=offline.*$")[0]
        assert 'detail="' in line
        assert len(line) < 400
    for name in ("one_px", "eight_k"):  # strange, but pictures
        caller.state(name, lambda state: state["carriers"] > 0)
    good = caller.state("good", since=caller.mark())
    assert good["state"] == "online"
    caller.state("good", lambda state: state["frames_in"] > good["frames_in"], since=caller.mark())
    caller.ask("all")
    assert caller.answer("all")["status"] == "ok"
    caller.ask("bad", cameras=["audio_only"])
    assert caller.answer("bad")["memory"]["gaps"][-1]["reason"] == "no_video"
    assert daemon.alive
    assert "Traceback" not in daemon.log()
    print(f"peak memory beside an 8K file: {daemon.high_water_mb():.0f} MB")  # noqa: T201
    assert daemon.high_water_mb() <= PEAK_8K_MB


def test_peak_memory_with_one_full_hd_camera(rig: Rig, full_hd: Path) -> None:
    caller = rig.caller
    rig.camera("door", full_hd)
    daemon = rig.start("door")
    first = caller.state("door", since=caller.mark())
    for n in range(5):
        caller.ask(f"q{n}")
        assert caller.answer(f"q{n}")["status"] == "ok"
    last = caller.state("door", lambda state: state["frames_in"] > first["frames_in"] + 300, since=caller.mark())
    print(f"peak memory: {daemon.high_water_mb():.0f} MB at {last['fps']:.1f} frames/s")  # noqa: T201
    assert daemon.high_water_mb() <= PEAK_MB
