"""What every prefill method promises."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from stream import prefill
from stream.errors import ConfigError
from stream.policy import build

LAYERS, VISUAL, TAIL, WIDTH = 8, 12, 2, 8
WHOLE: dict[str, dict[str, Any]] = {  # options with which nothing of a frame is left out
    "none": {},
    "uniform": {"keep": [1.0]},
    "random": {"keep": [1.0]},
    "transprune": {"keep": [1.0], "depths": [0.5]},
    "quickvideo": {"keep": [1.0]},
    "aim": {"least": 1.0},
    "holitom": {"keep": [1.0]},
    "csp": {"cluster": 1.0, "keep": 1.0},
    "catp": {"keep": [1.0]},
    "mod": {"keep": 1.0},
    "chunks": {},
}


@dataclass(frozen=True)
class Walk:
    """A frame of random tokens and layers with random projections."""

    visual: int = VISUAL
    tail: int = TAIL
    layers: int = LAYERS
    dtype: torch.dtype = torch.float32
    flat: bool = False  # all tokens are equal
    seed: int = 3

    def steps(self, method: prefill.Prefill) -> Iterator[list[int]]:
        """Layer by layer, which rows go through it, by their number in the frame."""
        rng = torch.Generator().manual_seed(self.seed)
        shape = self.visual + self.tail, WIDTH
        hidden = (torch.ones(shape) if self.flat else torch.randn(shape, generator=rng)).to(self.dtype)
        by = torch.randn(self.layers, 8, WIDTH, 4, generator=rng).to(self.dtype)  # 4 heads of queries, 2 of keys
        mix = (torch.randn(self.layers, 2, WIDTH, WIDTH, generator=rng) * 0.3).to(self.dtype)
        passing = method.start(self.visual, self.tail, self.layers)
        there = list(range(self.visual))
        for layer in range(self.layers):
            run = list(there)
            if passing is not None:
                before = hidden.clone()
                way = passing.enter(layer, hidden)
                assert torch.equal(hidden, before), "what comes in is not changed"
                if way is not None:
                    run = [there[row] for row in check(way, hidden, len(there))]
                    if way.hidden is not None:
                        hidden = hidden.index_copy(0, way.rows, way.hidden)
                    if not way.wait:
                        keep = [there.index(row) for row in run] + list(range(len(there), len(hidden)))
                        hidden, there = hidden[keep], run
            yield run
            rows = [there.index(row) for row in run] + list(range(len(there), len(hidden)))
            hidden = hidden.index_copy(
                0, torch.tensor(rows), layer_of(passing, layer, hidden[rows], by[layer], mix[layer])
            )
            assert hidden.isfinite().all()


def check(way: prefill.Way, hidden: Tensor, there: int) -> list[int]:
    """The rows that a way names, which have to be rows of visual tokens."""
    assert way.rows.dtype == torch.int64
    assert way.rows.device == hidden.device
    rows: list[int] = way.rows.tolist()
    assert rows == sorted(set(rows)), "rising, each once"
    assert all(0 <= row < there for row in rows), "the tail goes through everything, and nobody chooses it"
    if way.hidden is not None:
        assert (way.hidden.dtype, way.hidden.shape) == (hidden.dtype, (len(rows), WIDTH))
    return rows


def layer_of(passing: prefill.Passing | None, layer: int, x: Tensor, by: Tensor, mix: Tensor) -> Tensor:
    """What a layer makes of rows; a method is shown what it may see, and leaves it as it is."""
    gave = torch.tanh(x @ mix[0]), torch.tanh(x @ mix[1])
    if passing is not None:
        shown = torch.einsum("td,hdw->htw", x, by[:4]), torch.einsum("td,hdw->htw", x, by[4:6]), x, *gave
        copies = [item.clone() for item in shown]
        passing.attention(layer, shown[0], shown[1])
        passing.module(layer, "attention", x, gave[0])
        passing.module(layer, "mlp", x, gave[1])
        assert all(torch.equal(item, copy) for item, copy in zip(shown, copies, strict=True)), "input not mutated"
    return x + gave[0] + gave[1]


def make(name: str, options: dict[str, Any] | None = None) -> prefill.Prefill:
    method: prefill.Prefill = build("model.prefill", prefill.TABLE, name, options)
    return method


def run(name: str) -> Any:
    return list(Walk().steps(make(name)))


@pytest.mark.parametrize("name", prefill.TABLE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("flat", [False, True])
def test_every_layer_has_something_of_the_frame(name: str, dtype: torch.dtype, flat: bool) -> None:
    method = make(name)
    walk = Walk(dtype=dtype, flat=flat)
    ran = list(walk.steps(method))
    assert all(rows for rows in ran)
    assert list(walk.steps(method)) == ran, "deterministic"
    assert name == "none" or method.before is not None or any(len(rows) < VISUAL for rows in ran), "it does something"


@pytest.mark.parametrize("name", prefill.TABLE)
@pytest.mark.parametrize("sizes", [(9, 4), (9, 5), (196, 28), (49, 24), (5, 3), (2, 2)])
def test_how_many_go_through_a_layer_does_not_depend_on_what_is_seen(name: str, sizes: tuple[int, int]) -> None:
    visual, layers = sizes
    method = make(name)
    kinds = [Walk(visual, 1, layers), Walk(visual, 1, layers, seed=4), Walk(visual, 3, layers, flat=True)]
    counts = [[len(rows) for rows in walk.steps(method)] for walk in kinds]
    assert counts[0] == counts[1] == counts[2]


@pytest.mark.parametrize("name", prefill.TABLE)
@pytest.mark.parametrize("layers", [1, 2, 4, 8])
def test_the_only_token_stays(name: str, layers: int) -> None:
    assert list(Walk(1, 1, layers).steps(make(name))) == [[0]] * layers


@pytest.mark.parametrize("name", [name for name in prefill.TABLE if name in WHOLE])
@pytest.mark.parametrize("sizes", [(9, 4), (196, 28)])
def test_keep_all_is_the_identity(name: str, sizes: tuple[int, int]) -> None:
    visual, layers = sizes
    assert make(name, WHOLE[name]).start(visual, 1, layers) is None


@pytest.mark.parametrize("name", prefill.TABLE)
def test_frames_of_two_cameras_do_not_meet(name: str) -> None:
    method = make(name)
    door, yard = Walk(seed=5), Walk(seed=6)
    both = list(zip(door.steps(method), yard.steps(method), strict=True))  # a layer of the one, a layer of the other
    assert both == list(zip(door.steps(make(name)), yard.steps(make(name)), strict=True))


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("uniform", {"keep": [0.0]}, "keep"),
        ("random", {"depths": [1.5]}, "depths"),
        ("transprune", {"keep": [0.5, 0.8, 0.1]}, "falling"),
        ("quickvideo", {"keep": [0.5, 0.2]}, "one for each keep"),
        ("aim", {"begin": 0.8}, "rising"),
        ("aim", {"least": 2.0}, "least"),
        ("csp", {"cluster": 0.0}, "cluster"),
        ("csp", {"prune": 0.1}, "rising"),
        ("mod", {"router": "trained"}, "attention, keys, uniform, random"),
        ("mod", {"keep": 0}, "keep"),
        ("mod", {"begin": 1.0}, "begin"),
        ("chunks", {"before": 0}, "at least 1"),
    ],
)
def test_values_that_make_no_sense_are_refused(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make(name, options)
