"""One camera breaks, in every way that cameras break; the others go on, and answers say what was missed."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes import make_video
from tests.system.rig import Clips, Rig

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
NOTICED_S = 12.0
PASSWORD = "geheim-Pa55%40wort"  # as it stands in the url
SECRETS = ("geheim-Pa55%40wort", "geheim-Pa55@wort")


@pytest.fixture(scope="module")
def watched(rigs: Callable[[], Rig], clips: Clips) -> Rig:
    """`door` is what breaks; `garage` goes on; `gate` has the wrong password all the time."""
    rig = rigs()
    rig.camera("door", clips.street)
    rig.camera("garage", clips.road)
    locked = rig.camera("gate", clips.hall, login=("admin", "right"))
    rig.urls["gate"] = locked.url(login=f"admin:{PASSWORD}")
    rig.start("door", "garage")
    return rig


def goes_on(rig: Rig, camera: str = "garage") -> None:
    """The camera is online and its frames still come."""
    first = rig.caller.state(camera, since=rig.caller.mark())
    rig.caller.state(camera, lambda state: state["frames_in"] > first["frames_in"], since=rig.caller.mark())
    assert first["state"] == "online"


def gaps(rig: Rig, query_id: str, camera: str = "door") -> list[dict[str, Any]]:
    """What an answer about a camera says it missed."""
    rig.caller.ask(query_id, "what was there?", cameras=[camera])
    answer = rig.caller.answer(query_id)
    assert answer["status"] == "ok", answer
    return [gap for gap in answer["memory"]["gaps"] if gap["camera"] == camera]


def test_a_killed_camera_is_noticed_named_and_found_again(watched: Rig) -> None:
    caller, door = watched.caller, watched.cameras["door"]
    since, down_s = caller.mark(), time.time()
    door.kill()
    caller.says("longwatch/door/available", "offline", since, NOTICED_S)
    goes_on(watched)
    gap = gaps(watched, "while-dead")[-1]
    assert gap["until"] is None
    assert gap["reason"] in ("ended", "refused")
    assert abs(gap["since"] - down_s) < NOTICED_S

    since = caller.mark()
    door.restart()
    caller.says("longwatch/door/available", "online", since)
    closed = gaps(watched, "when-back")[-1]
    assert closed["since"] == gap["since"]
    assert gap["since"] < closed["until"] <= time.time()
    assert gaps(watched, "other", "garage") == [] or gaps(watched, "other2", "garage")[-1]["until"] is not None


def test_a_frozen_camera_is_noticed_and_found_again(watched: Rig) -> None:
    caller, door = watched.caller, watched.cameras["door"]
    since = caller.mark()
    door.process.send(signal.SIGSTOP)
    try:
        caller.says("longwatch/door/available", "offline", since, NOTICED_S)
        assert caller.state("door", lambda state: state["state"] == "offline", since=since)["reason"] == "frozen"
        assert gaps(watched, "while-frozen")[-1]["until"] is None
        goes_on(watched)
    finally:
        since = caller.mark()
        door.process.send(signal.SIGCONT)
    caller.says("longwatch/door/available", "online", since)
    assert gaps(watched, "thawed")[-1]["until"] is not None


def test_damaged_packets_are_counted_and_survived(watched: Rig) -> None:
    caller, door = watched.caller, watched.cameras["door"]
    before = caller.state("door", lambda state: state["state"] == "online", since=caller.mark())
    door.command("garble 12")
    after = caller.state(
        "door", lambda state: state["frames_corrupt"] > before["frames_corrupt"] + 3, since=caller.mark()
    )
    caller.ask("garbled", cameras=["door"])
    assert caller.answer("garbled")["status"] == "ok"
    assert after["frames_in"] == after["frames_kept"] + after["frames_skipped"] + after["frames_dropped"]
    goes_on(watched)
    since = caller.mark()
    door.command("garble 0")
    caller.state("door", lambda state: state["state"] == "online", since=since)


def test_the_resolution_changes_in_mid_stream(watched: Rig, clips: Clips) -> None:
    caller, door = watched.caller, watched.cameras["door"]
    before = caller.state("door", lambda state: state["state"] == "online", since=caller.mark())
    door.command(f"switch door {clips.large}")
    caller.state("door", lambda state: state["frames_kept"] > before["frames_kept"] + 8, since=caller.mark())
    caller.ask("larger", cameras=["door"])
    assert caller.answer("larger")["status"] == "ok"
    assert caller.state("door", since=caller.mark())["state"] == "online"
    door.command(f"switch door {clips.street}")


def night(index: int, size: tuple[int, int]) -> np.ndarray:
    """What a camera with a covered lens sends."""
    return np.random.default_rng(index).normal(4, 2, (*size, 3)).clip(0, 255).astype(np.uint8)


def test_a_covered_lens_is_degraded_and_a_gap_and_another_when_it_is_killed(
    watched: Rig, clips: Clips, tmp_path: Path
) -> None:
    caller, door = watched.caller, watched.cameras["door"]
    covered = make_video(tmp_path / "covered.mp4", frames=40, draw=night)
    since, covered_s = caller.mark(), time.time()
    door.command(f"switch door {covered}")
    state = caller.state("door", lambda state: state["state"] == "degraded", since=since, timeout_s=NOTICED_S)
    assert state["reason"] == "black"
    gap = gaps(watched, "while-covered")[-1]
    assert (gap["reason"], gap["until"]) == ("black", None)
    assert -1.0 < gap["since"] - covered_s < 3.0

    uncovered_s = time.time()
    door.command(f"switch door {clips.street}")
    caller.state("door", lambda state: state["state"] == "online", since=caller.mark(), timeout_s=NOTICED_S)
    closed = gaps(watched, "uncovered")[-1]
    assert (closed["since"], closed["reason"]) == (gap["since"], "black")
    assert -1.0 < closed["until"] - uncovered_s < 3.0
    assert not [got for got in caller.on("longwatch/door/available") if got.payload == b"degraded"]
    assert caller.on("longwatch/door/available")[-1].payload == b"online"

    since = caller.mark()
    door.command(f"switch door {covered}")
    caller.state("door", lambda state: state["state"] == "degraded", since=since, timeout_s=NOTICED_S)
    door.kill()
    caller.says("longwatch/door/available", "offline", since, NOTICED_S)
    dark, gone = gaps(watched, "covered-and-killed")[-2:]
    assert (dark["reason"], dark["until"]) == ("black", gone["since"])
    assert gone["reason"] in ("ended", "refused")
    door.restart()
    caller.state("door", lambda state: state["state"] == "online", since=caller.mark())
    goes_on(watched)


def test_a_wrong_password_is_told_and_never_shown(watched: Rig) -> None:
    caller = watched.caller
    state = caller.state("gate", since=caller.mark())
    assert (state["state"], state["reason"]) == ("offline", "unauthorized")
    assert watched.daemon is not None
    watched.daemon.wait_log("unauthorized")
    caller.ask("locked", cameras=["gate"])
    answer = caller.answer("locked")
    assert answer["status"] == "no_evidence"
    assert answer["memory"]["gaps"][-1]["reason"] == "unauthorized"
    goes_on(watched)
    everything = "\n".join([watched.daemon.log(), *(text.decode("latin-1") for text in caller.payloads())])
    for secret in SECRETS:
        assert secret not in everything
    assert watched.daemon.alive
    assert "Traceback" not in watched.daemon.log()
