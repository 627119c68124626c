"""What a source says of a camera that sends on and shows nothing."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import av
import numpy as np
import pytest

from stream.capture import Picture
from stream.errors import CameraTimeout
from stream.gate import make
from stream.source import Source, SourceConfig, Surroundings
from tests.fakes import FakeClock, FakeOpener
from tests.stream.test_source import SECRET, SIZE, Watch, until


def still(level: int, count: int) -> list[Picture]:
    """The same flat picture again and again."""
    image = np.full((64, 96, 3), level, np.uint8)
    return [Picture(None, av.VideoFrame.from_ndarray(image, "rgb24")) for _ in range(count)]


def grainy(count: int) -> list[Picture]:
    """A scene with a sensor's noise."""
    rng = np.random.default_rng(count)
    images = (rng.integers(90, 110, (64, 96, 3), dtype=np.uint8) for _ in range(count))
    return [Picture(None, av.VideoFrame.from_ndarray(image, "rgb24")) for image in images]


def played(*parts: list[Picture] | Exception, fps: float = 4.0) -> tuple[Watch, FakeClock, float]:
    """What a source says of pictures that come `fps` times a second on our clock; and when the first came."""
    watch, clock = Watch(), FakeClock()
    begin_s = clock.wall_s()
    scripts: list[list[Picture | Exception | Callable[[], object]]] = [[]]
    for part in parts:
        if isinstance(part, Exception):
            scripts[-1].append(part)
            scripts.append([])
        else:
            scripts[-1] += [step for item in part for step in (item, lambda: clock.move(1 / fps))]
    scripts.append([lambda: time.sleep(0.01)])
    around = Surroundings(clock=clock, rng=random.Random(0), opener=FakeOpener(*scripts), first_backoff_s=0.01)
    source = Source(SourceConfig("cam", SECRET, SIZE), make([]), watch.frames.append, watch.changes.append, around)
    source.start()
    until(watch.seen(("offline", "no_video")))
    assert source.stop()
    return watch, clock, begin_s


def test_black_pictures_are_said_and_the_camera_stays_online() -> None:
    watch, _, begin_s = played(grainy(8), still(2, 40), grainy(9))
    assert watch.states[1:4] == [("online", "frames"), ("online", "black"), ("online", "frames")]
    assert [change.wall_s - begin_s for change in watch.changes[1:4]] == pytest.approx([0.0, 2.0, 12.0])
    assert len(watch.frames) == 57  # black ones as well: the model is to know


def test_one_picture_again_and_again_is_said_to_be_frozen() -> None:
    watch, _, begin_s = played(grainy(100), still(100, 41), grainy(9))
    assert watch.states[1:4] == [("online", "frames"), ("online", "frozen"), ("online", "frames")]
    assert [change.wall_s - begin_s for change in watch.changes[2:4]] == pytest.approx([25.25, 35.25])
    assert watch.changes[2].detail == "pictures come, but they are frozen"


def test_a_camera_that_drops_out_while_it_is_black_is_judged_anew() -> None:
    watch, _, begin_s = played(still(2, 20), CameraTimeout("no packet"), still(3, 20), grainy(5))
    assert watch.states[1:7] == [
        ("online", "frames"),
        ("online", "black"),
        ("offline", "frozen"),
        ("connecting", "reconnect"),
        ("online", "frames"),
        ("online", "black"),
    ]
    assert watch.changes[6].wall_s - begin_s == pytest.approx(5.25)
