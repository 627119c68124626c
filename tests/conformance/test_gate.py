"""What every gate promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stream import gate
from stream.errors import ConfigError
from stream.policy import build
from stream.types import Frame


def frames(count: int = 24) -> list[Frame]:
    """A still scene with a little noise in which a square moves for a while."""
    rng = np.random.default_rng(3)
    made = []
    for index in range(count):
        image = np.full((48, 48, 3), 90, np.uint8) + rng.integers(0, 3, (48, 48, 3), dtype=np.uint8)
        if 8 <= index < 16:
            image[20:32, 2 + 4 * (index - 8) : 12 + 4 * (index - 8)] = 230
        made.append(Frame("door", index, 0, index * 0.5, 1000.0 + index * 0.5, image))
    return made


def run(name: str) -> Any:
    method = build("gate", gate.TABLE, name)
    return [index for index, frame in enumerate(frames()) if method.judge(frame).keep]


@pytest.mark.parametrize("name", gate.TABLE)
def test_gates_are_causal_and_leave_frames_alone(name: str) -> None:
    """Verdicts on the first frames are the same whatever comes later; the picture is not written to."""
    first, whole = build("gate", gate.TABLE, name), build("gate", gate.TABLE, name)
    short = [first.judge(frame) for frame in frames(10)]
    made = frames(24)
    copies = [frame.image.copy() for frame in made]
    for frame in made:
        frame.image.flags.writeable = False
    long = [whole.judge(frame) for frame in made]
    assert short == long[:10]
    assert all((frame.image == copy).all() for frame, copy in zip(made, copies, strict=True))
    assert all(verdict.reason and np.isfinite(verdict.score) for verdict in long)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [("stride", {"fps": 0}, "fps"), ("still", {"threshold": -1}, "threshold")],
)
def test_values_that_make_no_sense_are_refused(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build("gate", gate.TABLE, name, options)
