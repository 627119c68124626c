"""What every gate promises."""

from __future__ import annotations

import copy
import dataclasses
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


@pytest.mark.parametrize("name", gate.TABLE)
def test_a_gate_is_deterministic_and_no_gate_knows_of_another(name: str) -> None:
    """Two cameras' gates, asked in turns, say what one alone says; a copy goes on as the original does."""
    alone, first, second = (build("gate", gate.TABLE, name) for _ in range(3))
    expected = [alone.judge(frame) for frame in frames()]
    copied: list[Any] = []
    for at, (frame, other) in enumerate(zip(frames(), reversed(frames()), strict=True)):
        if at == 12:
            copied = [copy.deepcopy(first)]
        assert first.judge(frame) == expected[at]
        second.judge(other)
    rest = [copied[0].judge(frame) for frame in frames()[12:]]
    assert rest == expected[12:]


@pytest.mark.parametrize("name", [name for name in gate.TABLE if build("gate", gate.TABLE, name).looks])
def test_gates_that_look_keep_the_first_frame_and_then_one_a_gap_of_a_still_scene(name: str) -> None:
    method = build("gate", gate.TABLE, name, {"max_gap_s": 4.0})
    image = frames(1)[0].image
    verdicts = [method.judge(Frame("door", at, 0, at / 2, 1000.0 + at / 2, image)) for at in range(20)]
    assert [at for at, verdict in enumerate(verdicts) if verdict.keep] == [0, 8, 16]
    assert [verdicts[at].reason for at in (0, 8, 16)] == ["kept", gate.MAX_GAP, gate.MAX_GAP]


@pytest.mark.parametrize("name", gate.TABLE)
@pytest.mark.parametrize("size", [(1, 1), (13, 40), (384, 384)])
def test_gates_take_any_picture_and_a_change_of_size(name: str, size: tuple[int, int]) -> None:
    method = build("gate", gate.TABLE, name)
    for at, shape in enumerate([(48, 48), size, size, (48, 48)]):
        verdict = method.judge(Frame("door", at, 0, float(at), float(at), np.full((*shape, 3), 40, np.uint8)))
        assert np.isfinite(verdict.score)


@pytest.mark.parametrize("name", [name for name in gate.TABLE if not build("gate", gate.TABLE, name).looks])
def test_gates_that_do_not_look_need_no_picture(name: str) -> None:
    bare = np.empty((0, 0, 3), np.uint8)
    first, second = build("gate", gate.TABLE, name), build("gate", gate.TABLE, name)
    for frame in frames():
        assert first.judge(frame) == second.judge(dataclasses.replace(frame, image=bare))


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [("stride", {"fps": 0}, "fps"), ("still", {"threshold": -1}, "threshold"), ("grt", {"metric": "l3"}, "metric")],
)
def test_values_that_make_no_sense_are_refused(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build("gate", gate.TABLE, name, options)
