"""What a camera's privacy settings leave in the world: at the broker, in answers, on the disk."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from tests.system.rig import Clips, Rig

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def test_masked_unpictured_and_scheduled_cameras(rig: Rig, clips: Clips) -> None:
    later = datetime.now(UTC) + timedelta(hours=3)  # never within this test
    window = {"from": f"{later:%H}:00", "until": f"{later + timedelta(hours=1):%H}:00"}
    url = {"url": str(clips.street)}
    rig.more = {
        "answer": {"max_tokens": 8, "deadline_s": 120, "time_zone": "UTC"},
        "cameras": {
            "masked": {**url, "masks": [[[0, 0], [1, 0], [1, 0.5], [0, 0.5]]]},
            "plain": {**url, "pictures": False},
            "closed": {**url, "schedule": {"watch": [window]}},
        },
    }
    since = rig.caller.mark()
    rig.start("masked", "plain")
    closed = rig.caller.state("closed", lambda state: state["state"] == "paused", since=since)
    assert closed["reason"] == "schedule"
    assert closed["frames_in"] == closed["reconnects"] == 0
    jpeg = rig.caller.wait("longwatch/masked/snapshot", lambda got: bool(got.payload), since).payload
    picture = np.asarray(Image.open(BytesIO(jpeg)).convert("RGB")).astype(int)
    assert np.abs(picture[: len(picture) // 2 - 16] - 128).max() <= 2  # it is a JPEG, of blocks of 16 pixels
    assert np.ptp(picture[len(picture) * 2 // 3 :]) > 30
    for camera, pictured in (("masked", True), ("plain", False)):
        rig.caller.ask(camera, "what is there?", cameras=[camera], evidence=2)
        answer = rig.caller.wait(f"longwatch/answer/{camera}").json()
        assert answer["memory"]["carriers"] > 0
        if not pictured:
            assert not any(item.get("frame") for item in answer["evidence"])
    rig.caller.ask("closed", "what is there?", cameras=["closed"])
    gaps = rig.caller.wait("longwatch/answer/closed").json()["memory"]["gaps"]
    assert [(gap["reason"], gap["until"]) for gap in gaps] == [("schedule", None)]
    time.sleep(3)  # longer than snapshot_every_s
    assert not any(got.payload for got in rig.caller.on("longwatch/plain/snapshot"))
