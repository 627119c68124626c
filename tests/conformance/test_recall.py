"""What every recall promises."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from memory import recall
from memory.recall import Asked, Look, Rows
from stream.errors import ConfigError
from stream.policy import build
from stream.types import Pointer, Span

ROOM = 20  # carriers that a question may read here


def readable(count: int = 40) -> Rows:
    """Carriers of a bank (every third) and of an archive."""
    generator = torch.Generator().manual_seed(11)
    return Rows(
        frames=range(count),
        spans=[Span(float(t), float(t)) for t in range(count)],
        held=[place % 3 == 0 for place in range(count)],
        digests=torch.randn(count, 6, generator=generator),
        keys=torch.randn(2, 2, count, 4, generator=generator),
    )


def asked(pointer: Pointer | None = None) -> Asked:
    """A question about the past, as it looked for it in a model of two layers, four heads and two key heads."""
    generator = torch.Generator().manual_seed(13)
    newest, mean = torch.randn(2, 2, 4, 4, generator=generator)
    words = torch.randn(6, generator=generator)
    return Asked("what came first?", Look(newest, mean, words, 0.1, pointer))


def run(name: str) -> Any:
    method = build("memory.recall", recall.TABLE, name)
    chosen = [method.groups(asked(pointer), readable(), ROOM) for pointer in (None, Pointer(1, (0, 3)))]
    return [[list(group) for group in groups] for groups in chosen]


@pytest.mark.parametrize("name", recall.TABLE)
@pytest.mark.parametrize("count", [0, 1, 5, 40])
@pytest.mark.parametrize("room", [1, 7, ROOM, 40])
def test_recall_selects_sorted_unique_indices_within_its_room(name: str, count: int, room: int) -> None:
    given = readable(count)
    before = (given.digests.clone(), given.keys.clone())
    for pointer in (None, Pointer(0, (1,))):
        method = build("memory.recall", recall.TABLE, name)
        chosen = list(method.select(asked(pointer), given, room))
        assert chosen == sorted(set(chosen))
        assert all(0 <= index < count for index in chosen)
        assert len(chosen) <= room
        assert chosen or not count, "whoever asks reads something"
        groups = [list(group) for group in method.groups(asked(pointer), given, room)]
        flat = [index for group in groups for index in group]
        assert flat == sorted(set(flat)), "disjoint, in time order"
        assert all(0 <= index < count for index in flat)
        assert len(groups) <= room
        assert all(groups)
        assert [list(group) for group in method.groups(asked(pointer), readable(count), room)] == groups
        assert chosen == [group[-1] for group in groups], "`select` names the newest of every group"
    assert torch.equal(given.digests, before[0])
    assert torch.equal(given.keys, before[1])


KEEP_ALL: dict[str, dict[str, Any]] = {
    "recent": {"carriers": 40},
    "pages": {"share": 1.0},
    "route": {"past": {"uniform": {}}},
    "savemem": {"recent": 40},
    "videostreaming": {"clips": 40},
    "bvllm": {"same": 1.01},
    "qtsplus": {"least": 1.0, "most": 1.0},
    "recoverable": {"least": 40},
}


@pytest.mark.parametrize("name", recall.TABLE)
def test_recall_reads_everything_where_there_is_room(name: str) -> None:
    method = build("memory.recall", recall.TABLE, name, KEEP_ALL.get(name))
    assert list(method.select(asked(), readable(), 40)) == list(range(40))


@pytest.mark.parametrize("name", recall.TABLE)
@pytest.mark.parametrize("constant", [False, True])
def test_recall_reads_half_precision_and_frames_that_never_change(name: str, constant: bool) -> None:
    given = readable()
    keys, digests = given.keys.bfloat16(), given.digests.bfloat16()
    if constant:
        keys, digests = keys[:, :, :1].expand_as(keys), digests[:1].expand_as(digests)
    method = build("memory.recall", recall.TABLE, name)
    found = method.groups(asked(), replace(given, keys=keys, digests=digests), ROOM)
    flat = [index for group in found for index in group]
    assert flat
    assert flat == sorted(set(flat))
    assert len(found) <= ROOM


@pytest.mark.parametrize("name", recall.TABLE)
def test_recall_that_looks_needs_a_look_and_the_others_do_not(name: str) -> None:
    method = build("memory.recall", recall.TABLE, name)
    if not method.looks:
        blind = Asked("what came first?")
        assert list(method.select(blind, readable(), ROOM)) == list(method.select(asked(), readable(), ROOM))


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("recent", {"carriers": 0}, "carriers"),
        ("relevance", {"by": "smell"}, "by"),
        ("clips", {"reach": -1}, "reach"),
        ("diverse", {"weight": 2}, "weight"),
        ("pages", {"share": 0}, "share"),
        ("rekv", {"local": -1}, "local"),
        ("savemem", {"recent": 0}, "recent"),
        ("savemem", {"by": "smell"}, "by"),
        ("videoxl2", {"step": 0}, "step"),
        ("videoxl2", {"by": "smell"}, "by"),
        ("videostreaming", {"clip": 0}, "clip"),
        ("videostreaming", {"by": "smell"}, "by"),
        ("bvllm", {"same": 0}, "same"),
        ("bvllm", {"by": "smell"}, "by"),
        ("f2c", {"anchors": 2}, "anchors"),
        ("f2c", {"by": "smell"}, "by"),
        ("qtsplus", {"least": 0.6}, "least"),
        ("recoverable", {"least": 0}, "least"),
        ("recoverable", {"by": "smell"}, "by"),
        ("route", {"recent": 0}, "recent"),
        ("route", {"past": {"route": {}}}, "route itself"),
        ("route", {"past": {"clips": {"reech": 1}}}, "reech"),
    ],
)
def test_values_that_make_no_sense_are_refused(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build("memory.recall", recall.TABLE, name, options)
