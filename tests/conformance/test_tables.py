"""One loop over every method of every stage: the promises that all of them make, and one golden value each.

A new method is one file, one line in its stage's table and one line in golden.json
(`python -m tests.conformance.test_tables` prints the values; look at them before you commit them).
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from memory import recall, retain
from memory.recall import Asked, Look
from memory.recall import Rows as Readable
from memory.retain import Rows
from stream import carrier, gate, reduce
from stream.errors import ConfigError, UnknownMethod
from stream.policy import Paper, build, load
from stream.types import Frame, Pointer, Span, VisualTokens

STAGES = {
    "gate": gate.TABLE,
    "reduce": reduce.TABLE,
    "carrier": carrier.TABLE,
    "memory.retain": retain.TABLE,
    "memory.recall": recall.TABLE,
}
EVERY = [(stage, name) for stage, table in STAGES.items() for name in table]
GOLDEN = Path(__file__).parents[1] / "golden" / "methods.json"


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


def rows(count: int = 9) -> Rows:
    generator = torch.Generator().manual_seed(5)
    digests = torch.randn(count, 6, generator=generator)
    times = [0, 1, 2, 3, 8, 9, 20, 21, 40][:count]
    return Rows(digests, [Span(t, t) for t in map(float, times)], times)


def readable(count: int = 40) -> Readable:
    """Carriers of a bank (every third) and of an archive."""
    generator = torch.Generator().manual_seed(11)
    return Readable(
        frames=range(count),
        spans=[Span(float(t), float(t)) for t in range(count)],
        held=[place % 3 == 0 for place in range(count)],
        digests=torch.randn(count, 6, generator=generator),
        keys=torch.randn(2, 2, count, 4, generator=generator),
    )


def tokens(rows: int = 4, columns: int = 6, dtype: torch.dtype = torch.float32) -> VisualTokens:
    """A frame's visual tokens."""
    feats = torch.randn(rows * columns, 8, generator=torch.Generator().manual_seed(1)).to(dtype)
    return VisualTokens(feats, (rows, columns))


def asked(pointer: Pointer | None = None) -> Asked:
    """A question about the past, as it looked for it in a model of two layers, four heads and two key heads."""
    generator = torch.Generator().manual_seed(13)
    newest, mean = torch.randn(2, 2, 4, 4, generator=generator)
    words = torch.randn(6, generator=generator)
    return Asked("what came first?", Look(newest, mean, words, 0.1, pointer))


ROOM = 20  # carriers that a question may read here


def run(stage: str, name: str) -> Any:
    """What a method does with the fixed input of its stage, as plain data."""
    method = build(stage, STAGES[stage], name)
    if stage == "gate":
        return [index for index, frame in enumerate(frames()) if method.judge(frame).keep]
    if stage == "reduce":
        numbered = VisualTokens(torch.arange(24.0).view(24, 1), (4, 6))
        some = method if name == "none" else dataclasses.replace(method, dull=6)
        return [reducer.reduce(numbered, 0.0).feats.flatten().tolist() for reducer in (method, some)]
    if stage == "carrier":
        feats = torch.arange(12.0).view(4, 3)
        return method.embed(VisualTokens(feats, (2, 2))).tolist()
    if stage == "memory.retain":
        choice = method.choose(rows(), torch.Generator().manual_seed(7))
        return [choice.leaves, choice.into, choice.how]
    return [list(method.select(asked(pointer), readable(), ROOM)) for pointer in (None, Pointer(1, (0, 3)))]


@pytest.mark.parametrize(("stage", "name"), EVERY)
def test_golden_and_deterministic(stage: str, name: str) -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert run(stage, name) == golden[stage][name]
    assert run(stage, name) == run(stage, name)


def test_every_golden_value_has_a_method() -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert [(stage, name) for stage, values in golden.items() for name in values] == EVERY


@pytest.mark.parametrize(("stage", "name"), EVERY)
def test_options_are_checked_by_name(stage: str, name: str) -> None:
    method = load(stage, STAGES[stage], name)
    assert dataclasses.is_dataclass(method)
    assert isinstance(method.paper, Paper)
    assert method.__doc__
    with pytest.raises(UnknownMethod, match=f"{stage} method '{name}' has no option 'colour'"):
        build(stage, STAGES[stage], name, {"colour": 1})


@pytest.mark.parametrize(("stage", "name"), EVERY)
def test_a_misspelt_name_is_met_with_the_right_one(stage: str, name: str) -> None:
    with pytest.raises(UnknownMethod, match=f"did you mean '{name}'"):
        build(stage, STAGES[stage], name + "x")


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


@pytest.mark.parametrize("name", reduce.TABLE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_reducers_keep_their_budget_and_leave_tokens_alone(name: str, dtype: torch.dtype) -> None:
    given = tokens(dtype=dtype)
    before = given.feats.clone()
    for budget in (1, 2, 5, 6, 7, 23, 24, 25):
        method = build("reduce", reduce.TABLE, name, {} if name == "none" else {"dull": budget})
        made = method.reduce(given, 0.0)
        count = len(made.feats)
        assert (made.feats.shape, made.feats.dtype) == ((count, 8), dtype)
        assert made.grid[0] * made.grid[1] == count
        assert name == "none" or 1 <= count <= budget
        assert torch.equal(method.reduce(tokens(dtype=dtype), 0.0).feats, made.feats), (
            "it depends on its arguments only"
        )
    assert torch.equal(given.feats, before)


@pytest.mark.parametrize("name", reduce.TABLE)
def test_reducers_keep_all_when_told_to(name: str) -> None:
    given = tokens()
    for options in ({}, {"dull": 0}, {"dull": 24}, {"dull": 100, "keen": 100}):
        method = build("reduce", reduce.TABLE, name, {} if name == "none" else options)
        assert method.reduce(given, 1.0) is given
        assert name == "none" or not options or method.reduce(given, 0.0) is given


@pytest.mark.parametrize("name", [name for name in reduce.TABLE if name not in ("none", "m3")])
@pytest.mark.parametrize("budget", [1, 5, 23])
def test_selecting_reducers_give_rows_in_order_each_once(name: str, budget: int) -> None:
    numbered = VisualTokens(torch.arange(24.0).view(24, 1), (4, 6))
    rows = build("reduce", reduce.TABLE, name, {"dull": budget}).reduce(numbered, 0.0).feats.flatten().tolist()
    assert rows == sorted(set(rows))
    assert len(rows) == budget


@pytest.mark.parametrize("name", carrier.TABLE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_carrier_inputs_keep_dtype_and_leave_tokens_alone(name: str, dtype: torch.dtype) -> None:
    method = build("carrier", carrier.TABLE, name)
    feats = torch.randn(16, 8, generator=torch.Generator().manual_seed(1)).to(dtype)
    before = feats.clone()
    made = method.embed(VisualTokens(feats, (4, 4)))
    assert (made.shape, made.dtype) == ((8,), dtype)
    assert made.isfinite().all()
    assert torch.equal(feats, before)


@pytest.mark.parametrize("name", retain.TABLE)
@pytest.mark.parametrize("count", [2, 3, 9])
def test_retention_never_names_the_newest(name: str, count: int) -> None:
    method = build("memory.retain", retain.TABLE, name)
    given = rows(count)
    before = given.digests.clone()
    for seed in range(20):
        choice = method.choose(given, torch.Generator().manual_seed(seed))
        assert 0 <= choice.leaves < count - 1
        assert choice.into is None or (0 <= choice.into < count and choice.into != choice.leaves)
    assert torch.equal(given.digests, before)
    equal = Rows(torch.ones(count, 6), given.spans, given.frames)
    assert 0 <= method.choose(equal, torch.Generator().manual_seed(0)).leaves < count - 1


@pytest.mark.parametrize("name", recall.TABLE)
@pytest.mark.parametrize("count", [0, 1, 5, 40])
@pytest.mark.parametrize("room", [1, 7, ROOM, 40])
def test_recall_selects_sorted_unique_indices_within_its_room(name: str, count: int, room: int) -> None:
    given = readable(count)
    before = (given.digests.clone(), given.keys.clone())
    for pointer in (None, Pointer(0, (1,))):
        chosen = list(build("memory.recall", recall.TABLE, name).select(asked(pointer), given, room))
        assert chosen == sorted(set(chosen))
        assert all(0 <= index < count for index in chosen)
        assert len(chosen) <= room
        assert chosen or not count, "whoever asks reads something"
    assert torch.equal(given.digests, before[0])
    assert torch.equal(given.keys, before[1])


KEEP_ALL = {"recent": {"carriers": 40}, "pages": {"share": 1.0}, "route": {"past": {"uniform": {}}}}


@pytest.mark.parametrize("name", recall.TABLE)
def test_recall_reads_everything_where_there_is_room(name: str) -> None:
    method = build("memory.recall", recall.TABLE, name, KEEP_ALL.get(name))
    assert list(method.select(asked(), readable(), 40)) == list(range(40))


@pytest.mark.parametrize("name", recall.TABLE)
def test_recall_that_looks_needs_a_look_and_the_others_do_not(name: str) -> None:
    method = build("memory.recall", recall.TABLE, name)
    if not method.looks:
        blind = Asked("what came first?")
        assert list(method.select(blind, readable(), ROOM)) == list(method.select(asked(), readable(), ROOM))


@pytest.mark.parametrize(
    ("stage", "name", "options", "words"),
    [
        ("gate", "stride", {"fps": 0}, "fps"),
        ("gate", "still", {"threshold": -1}, "threshold"),
        ("reduce", "m3", {"dull": -1}, "dull"),
        ("reduce", "random", {"keen": -4}, "keen"),
        ("memory.retain", "adjacent", {"when_full": "burn"}, "when_full"),
        ("memory.recall", "recent", {"carriers": 0}, "carriers"),
        ("memory.recall", "relevance", {"by": "smell"}, "by"),
        ("memory.recall", "clips", {"reach": -1}, "reach"),
        ("memory.recall", "diverse", {"weight": 2}, "weight"),
        ("memory.recall", "pages", {"share": 0}, "share"),
        ("memory.recall", "route", {"recent": 0}, "recent"),
        ("memory.recall", "route", {"past": {"route": {}}}, "route itself"),
        ("memory.recall", "route", {"past": {"clips": {"reech": 1}}}, "reech"),
    ],
)
def test_values_that_make_no_sense_are_refused(stage: str, name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build(stage, STAGES[stage], name, options)


if __name__ == "__main__":
    found = {stage: {name: run(stage, name) for name in table} for stage, table in STAGES.items()}
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
