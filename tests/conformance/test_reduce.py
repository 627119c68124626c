"""What every reducer promises."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from stream import reduce
from stream.errors import ConfigError
from stream.policy import build
from stream.reduce import ATTENTION, GRID, Seen
from stream.reduce.chain import Chain
from stream.reduce.dull import Selecting
from stream.tap import Tap
from stream.types import Frame, VisualTokens

BLOCKS = 4  # of the vision tower
ROWS, COLUMNS = 4, 6
N = ROWS * COLUMNS
BUDGETS = (1, 2, 5, 6, 7, 23, 24, 25)
WAYS: list[tuple[str, dict[str, Any]]] = [  # of methods whose options change what they do
    ("fastervlm", {"mode": "vispruner"}),
    ("fopru", {"strategy": "row"}),
    ("hiprune", {"alpha": 1.0, "depth": 0.0}),
    ("vflowopt", {"alpha": -1.0, "recycle": 2, "hub": 0.05}),
    ("divprune", {"against": 2}),
    ("todre", {"mode": "centre"}),
    ("recoverable", {"least": 1.0, "sums": True}),
]
EVERY = [*((name, {}) for name in reduce.TABLE), *WAYS]


def seen(count: int = 1, dtype: torch.dtype = torch.float32, score: float = 0.0, seed: int = 1) -> list[Seen]:
    """A camera's last `count` frames; taps of all blocks as if patches were tokens."""
    rng = torch.Generator().manual_seed(seed)
    made = []
    for index in range(count):
        feats = torch.randn(24, 8, generator=rng).to(dtype)
        taps = {block: Tap.of(*torch.randn(3, 2, 24, 4, generator=rng)) for block in range(BLOCKS)}
        image = np.random.default_rng(index).integers(0, 256, (48, 48, 3), dtype=np.uint8)
        frame = Frame("door", index, 0, float(index), float(index), image, score=score)
        made.append(Seen(VisualTokens(feats, (ROWS, COLUMNS), None, taps), frame))
    return made


def made(name: str, **options: Any) -> reduce.Reduce:
    method: reduce.Reduce = build("model.reduce", reduce.TABLE, name, {} if name == "none" else options)
    return method


def run(name: str) -> Any:
    method = made(name, dull=6)
    found = method.reduce(seen(method.window))
    return [
        found.places.tolist() if found.places is not None else None,
        [round(x, 4) for x in found.feats[:, 0].tolist()],
    ]


def feats(given: Seen, values: Tensor, grid: tuple[int, int] = (ROWS, COLUMNS)) -> Seen:
    """The same frame with other tokens."""
    return dataclasses.replace(given, tokens=dataclasses.replace(given.tokens, feats=values, grid=grid))


def tapped(given: Seen, taps: dict[int, Tap]) -> Seen:
    """The same frame with other taps."""
    return dataclasses.replace(given, tokens=dataclasses.replace(given.tokens, taps=taps))


def from_camera(given: list[Seen], camera: str) -> list[Seen]:
    return [dataclasses.replace(own, frame=dataclasses.replace(own.frame, camera=camera)) for own in given]


def same(one: VisualTokens, other: VisualTokens) -> bool:
    """Bit for bit."""
    places = (one.places is None) == (other.places is None)
    if one.places is not None and other.places is not None:
        places = torch.equal(one.places, other.places)
    return places and one.grid == other.grid and torch.equal(one.feats, other.feats)


def everything(given: list[Seen]) -> list[Tensor]:
    """A copy of all that a reducer is shown."""
    states = [
        states for own in given for tap in own.tokens.taps.values() for states in (tap.queries, tap.keys, tap.values)
    ]
    shown = [own.tokens.feats for own in given] + [torch.from_numpy(own.frame.image) for own in given] + states
    return [one.clone() for one in shown]


@pytest.mark.parametrize(("name", "options"), EVERY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_budget_is_never_exceeded_and_nothing_given_is_changed(
    name: str, options: dict[str, Any], dtype: torch.dtype
) -> None:
    for budget in BUDGETS:
        method, again = (made(name, dull=budget, **options) for _ in range(2))
        given = seen(method.window, dtype)
        before = everything(given)
        found = method.reduce(given)
        count = len(found.feats)
        assert (found.feats.shape, found.feats.dtype, found.feats.device) == ((count, 8), dtype, torch.device("cpu"))
        assert found.feats.isfinite().all()
        assert found.grid[0] * found.grid[1] == count
        assert name == "none" or 1 <= count <= budget
        assert all(torch.equal(a, b) for a, b in zip(before, everything(given), strict=True))
        assert same(again.reduce(seen(method.window, dtype)), found), "it depends on its arguments only"


@pytest.mark.parametrize("name", reduce.TABLE)
def test_reducers_keep_all_when_told_to(name: str) -> None:
    for options in ({}, {"dull": 0}, {"dull": 24}, {"dull": 100, "keen": 100}):
        method = made(name, **options)
        given = seen(method.window, score=1.0)
        assert method.reduce(given) is given[-1].tokens
        dull = seen(method.window)
        assert name == "none" or not options or method.reduce(dull) is dull[-1].tokens


@pytest.mark.parametrize("name", reduce.TABLE)
def test_a_dull_frame_and_a_keen_one_have_their_own_budget(name: str) -> None:
    if name == "none":
        return
    method = made(name, dull=2, keen=5, below=3.0)
    for score, most in ((0.0, 2), (2.9, 2), (3.0, 5), (1e9, 5)):
        assert 1 <= len(method.reduce(seen(method.window, score=score)).feats) <= most
    assert same(method.reduce(seen(method.window, score=9.0)), made(name, dull=5).reduce(seen(method.window)))


@pytest.mark.parametrize("name", reduce.TABLE)
@pytest.mark.parametrize("budget", [1, 5, 23])
def test_selecting_reducers_give_rows_in_order_each_once(name: str, budget: int) -> None:
    method = made(name, dull=budget)
    given = seen(method.window)
    found = method.reduce(given)
    if found.places is not None:
        assert found.places.dtype == torch.int64
        assert found.places.tolist() == sorted(set(found.places.tolist()))
        assert len(found.places) == len(found.feats)
        assert 0 <= int(found.places[0]) <= int(found.places[-1]) < N
    if isinstance(method, Selecting):
        assert found.places is not None
        assert len(found.places) == budget
        assert torch.equal(found.feats, given[-1].tokens.feats[found.places])


@pytest.mark.parametrize("name", reduce.TABLE)
def test_the_same_whatever_else_draws_numbers(name: str) -> None:
    """What chance there is comes from an own seed; the process's generator is neither read nor moved."""
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        found.append(made(name, dull=6).reduce(seen(made(name).window)))
        assert torch.equal(torch.get_rng_state(), before)
    assert same(*found)


@pytest.mark.parametrize(("name", "options"), EVERY)
def test_a_stream_depends_on_the_window_only(name: str, options: dict[str, Any]) -> None:
    """The first T do not change with later frames, and no frame older than the window has a say."""
    method = made(name, dull=6, **options)
    window = method.window
    film, other = seen(window + 4, seed=1), seen(window + 4, seed=2)
    chain, again, cut = Chain((method,)), Chain((method,)), window + 1
    whole = [chain.reduce(own) for own in film]
    changed = [again.reduce(own) for own in film[:cut] + other[cut:]]
    assert all(same(a, b) for a, b in zip(whole[:cut], changed[:cut], strict=True))
    assert not same(whole[-1], changed[-1])
    for at in (0, window - 1, window + 3):
        assert same(method.reduce(film[max(0, at + 1 - window) : at + 1]), whole[at])


@pytest.mark.parametrize("name", reduce.TABLE)
def test_cameras_in_turn_equal_the_cameras_alone(name: str) -> None:
    window = made(name).window
    films = [from_camera(seen(window + 2, seed=seed), camera) for seed, camera in enumerate(("door", "yard"))]
    together = Chain((made(name, dull=6),))
    turns = [[together.reduce(own) for own in turn] for turn in zip(*films, strict=True)]
    for place, film in enumerate(films):
        alone = Chain((made(name, dull=6),))
        assert all(same(alone.reduce(own), turn[place]) for own, turn in zip(film, turns, strict=True))


@pytest.mark.parametrize("name", reduce.TABLE)
def test_it_reads_the_taps_that_it_asked_for_and_no_other(name: str) -> None:
    method = made(name, dull=6)
    given = seen(method.window)
    asked = {block: given[-1].tokens.taps[block] for block in method.blocks(BLOCKS)}
    bare = [tapped(own, {}) for own in given[:-1]] + [tapped(given[-1], asked)]
    assert same(method.reduce(bare), method.reduce(given))
    for depth in (1, 2, 4, 26, 27):
        blocks = method.blocks(depth)
        assert list(blocks) == sorted(set(blocks))
        assert all(0 <= block < depth for block in blocks)
        assert bool(blocks) == (ATTENTION in method.needs)


@pytest.mark.parametrize("name", reduce.TABLE)
def test_patches_finer_than_the_tokens(name: str) -> None:
    """As in a model: attention lives on patches and comes to the tokens as the features did."""

    def pool(scores: Tensor) -> Tensor:
        return scores.view(ROWS, 2, COLUMNS, 2).mean((1, 3)).flatten()

    rng = torch.Generator().manual_seed(5)
    method = made(name, dull=6)
    given = seen(method.window)
    states = torch.randn(BLOCKS, 3, 2, 4 * N, 4, generator=rng)
    fine = {block: Tap.of(own[0], own[1], own[2], pool) for block, own in enumerate(states)}
    found = method.reduce([*given[:-1], tapped(given[-1], fine)])
    assert name == "none" or 1 <= len(found.feats) <= 6
    assert found.feats.isfinite().all()
    if ATTENTION not in method.needs:
        assert same(found, method.reduce(given))


def flat(given: Seen) -> Seen:
    """A constant frame, attention too."""
    even = {block: Tap.of(*torch.ones(3, 2, N, 4)) for block in range(BLOCKS)}
    blank = dataclasses.replace(given.frame, image=np.full((48, 48, 3), 128, np.uint8))
    return dataclasses.replace(tapped(feats(given, torch.ones_like(given.tokens.feats)), even), frame=blank)


def zero(given: Seen) -> Seen:
    return feats(given, torch.zeros_like(given.tokens.feats))


def far(given: Seen) -> Seen:
    return feats(given, given.tokens.feats * 1e4)


@pytest.mark.parametrize(("name", "options"), EVERY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("change", [flat, zero, far])
def test_frames_that_are_out_of_the_ordinary(
    name: str, options: dict[str, Any], dtype: torch.dtype, change: Callable[[Seen], Seen]
) -> None:
    method = made(name, dull=6, **options)
    one = change(seen(1, dtype)[0])
    for given in ([one], [one] * method.window, [change(own) for own in seen(method.window, dtype)]):
        found = method.reduce(given)
        assert found.feats.isfinite().all()
        assert name == "none" or 1 <= len(found.feats) <= 6
        if change is flat and not options.get("sums"):
            assert torch.allclose(found.feats.float(), torch.ones(1), atol=1e-5 if dtype == torch.float32 else 1e-2)


@pytest.mark.parametrize("name", reduce.TABLE)
@pytest.mark.parametrize("grid", [(1, 1), (1, 2), (3, 3)])
def test_grids_of_few_tokens(name: str, grid: tuple[int, int]) -> None:
    count = grid[0] * grid[1]
    rng = torch.Generator().manual_seed(6)
    taps = {0: Tap.of(*torch.randn(3, 2, count, 4, generator=rng))}  # a tower of one block
    for budget in range(1, count + 1):
        method = made(name, dull=budget)
        given = [tapped(feats(own, torch.randn(count, 8, generator=rng), grid), taps) for own in seen(method.window)]
        found = method.reduce(given)
        assert name == "none" or 1 <= len(found.feats) <= budget
        assert found.feats.isfinite().all()


@pytest.mark.parametrize("name", reduce.TABLE)
def test_what_it_leaves_is_there_for_the_next(name: str) -> None:
    method, before = made(name, dull=12), made("uniform", dull=12)
    (given,) = seen()
    if GRID in method.leaves:
        assert method.reduce([given]).grid[0] > 1
        assert 1 <= len(Chain((method, made("m3", dull=3))).reduce(given).feats) <= 3
    assert ATTENTION not in method.leaves or method.reduce([given]).taps == given.tokens.taps
    if not method.needs:  # it may stand anywhere: places stay those of the whole frame
        found = Chain((before, made(name, dull=5))).reduce(given)
        known = set(before.reduce([given]).places.tolist())  # type: ignore[union-attr]
        assert found.places is None or set(found.places.tolist()) <= known


@pytest.mark.parametrize("name", [name for name in reduce.TABLE if name != "none"])
def test_budgets_that_make_no_sense_are_refused(name: str) -> None:
    for options in ({"dull": -1}, {"keen": -4}):
        with pytest.raises(ConfigError, match="dull and keen are numbers of tokens"):
            made(name, **options)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("fastervlm", {"mode": "cls"}, "mode is plain or vispruner, got 'cls'"),
        ("fastervlm", {"important": 1.5}, "important is a share"),
        ("fopru", {"strategy": "column"}, "strategy is rank or row, got 'column'"),
        ("hiprune", {"alpha": -0.1}, "alpha is a share"),
        ("hiprune", {"depth": 9}, "depth is a share"),
        ("vflowopt", {"alpha": 2}, "alpha is in"),
        ("vflowopt", {"recycle": -1}, "recycle"),
        ("divprune", {"against": -1}, "against is a number of frames"),
        ("todre", {"mode": "max"}, "mode is sum or centre"),
        ("recoverable", {"least": 2}, "least is a share"),
    ],
)
def test_values_that_make_no_sense_are_refused(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        made(name, **options)
