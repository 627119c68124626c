"""What every focus promises."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from memory import focus
from memory.focus import Tokens
from memory.recall import Asked
from stream.errors import ConfigError
from stream.policy import build
from stream.types import Pointer
from tests.conformance.test_recall import asked

GRID = (2, 3)
ROOM = 7


def tokens(frames: int = 4, dtype: torch.dtype = torch.float32) -> Tokens:
    """Recent detail of `frames` frames; the second has lost two of its tokens."""
    rng = torch.Generator().manual_seed(17)
    places = [list(range(6)) if index != 1 else [0, 2, 3, 5] for index in range(frames)]
    flat = [place for own in places for place in own]
    keys, values = torch.randn(2, 2, 2, len(flat), 4, generator=rng).to(dtype)
    owner = [index for index, own in enumerate(places) for _ in own]
    return Tokens(keys, values, torch.tensor(owner, dtype=torch.long), torch.tensor(flat, dtype=torch.long), GRID)


def run(name: str) -> Any:
    found = build("memory.focus", focus.TABLE, name).select(asked(), tokens(), ROOM)
    weights = None if found.weights is None else [round(x, 4) for x in found.weights.max(1).values.tolist()]
    return [found.rows.tolist(), weights]


@pytest.mark.parametrize("name", focus.TABLE)
def test_focus_reads_frames_that_never_change(name: str) -> None:
    given = tokens()
    same = replace(given, keys=given.keys[:, :, :1].expand_as(given.keys))
    found = build("memory.focus", focus.TABLE, name).select(asked(), same, ROOM)
    assert len(found.rows)
    assert found.weights is None or found.weights.isfinite().all()


@pytest.mark.parametrize("name", focus.TABLE)
def test_focus_that_does_not_look_needs_no_look(name: str) -> None:
    method = build("memory.focus", focus.TABLE, name)
    if not method.looks:
        assert torch.equal(
            method.select(Asked("what?"), tokens(), ROOM).rows, method.select(asked(), tokens(), ROOM).rows
        )


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("ppllava", {"side": 0}, "side"),
        ("ppllava", {"temperature": 0}, "temperature"),
        ("freevideo", {"roi": 0}, "roi"),
        ("freevideo", {"fast": 0}, "fast"),
        ("bvllm", {"frames": 0}, "frames"),
        ("qtsplus", {"least": 0.6}, "least"),
        ("recoverable", {"neighbours": 0}, "neighbours"),
    ],
)
def test_values_that_make_no_sense_are_refused(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build("memory.focus", focus.TABLE, name, options)


@pytest.mark.parametrize("name", focus.TABLE)
@pytest.mark.parametrize("frames", [0, 1, 4])
@pytest.mark.parametrize("room", [1, 7, 15, 22, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_focus_keeps_its_room_and_leaves_tokens_alone(name: str, frames: int, room: int, dtype: torch.dtype) -> None:
    given, same = tokens(frames, dtype), tokens(frames, dtype)
    for pointer in (None, Pointer(0, (1,))):
        method = build("memory.focus", focus.TABLE, name)
        found = method.select(asked(pointer), given, room)
        rows = found.rows.tolist()
        assert rows == sorted(set(rows))
        assert all(0 <= row < len(given) for row in rows)
        assert name == "all" or len(rows) <= room
        assert rows or not len(given), "whoever asks reads something"
        if found.weights is not None:
            assert found.weights.shape == (len(rows), len(given))
            assert found.weights.isfinite().all()
            assert torch.allclose(found.weights.sum(1), torch.ones(len(rows)), atol=1e-5)
        if room >= len(given):
            assert rows == list(range(len(given)))
            assert found.weights is None
        again = method.select(asked(pointer), same, room)
        assert torch.equal(again.rows, found.rows)
    assert torch.equal(given.keys, same.keys)
    assert torch.equal(given.values, same.values)
