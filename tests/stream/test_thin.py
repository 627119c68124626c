"""Frames that lose tokens on their way through the layers: the same as layers run by hand on what is there."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from stream.attention import Block, Plan, Step, Thin
from stream.kv import Extent, Lane
from stream.prefill import Part, Passing, Way
from stream.rule import causal
from tests.models import random_model

VISUAL, TAIL = 7, 2
DROP = {1: Way(torch.tensor([0, 2, 3, 6])), 3: Way(torch.tensor([1, 3]))}
WAIT = {1: Way(torch.tensor([2, 5]), wait=True), 2: Way(torch.tensor([0, 1, 4]), wait=True)}
BOTH = {0: Way(torch.tensor([1, 2]), wait=True), 2: Way(torch.tensor([0, 4, 5]))}
FOLD = {2: Way(torch.tensor([1, 4]), hidden=torch.ones(2, 256))}


@dataclass
class Told(Passing):
    """Goes the given ways, and writes down what it is told."""

    ways: dict[int, Way]
    heard: list[tuple[str, int, int]]

    def enter(self, layer: int, hidden: Tensor) -> Way | None:
        self.heard.append(("enter", layer, len(hidden)))
        return self.ways.get(layer)

    def attention(self, layer: int, query: Tensor, key: Tensor) -> None:
        assert query.shape[1] == key.shape[1]
        self.heard.append(("qk", layer, key.shape[1]))

    def module(self, layer: int, part: Part, x: Tensor, y: Tensor) -> None:
        assert x.shape == y.shape
        self.heard.append((part, layer, len(x)))


def by_hand(ways: dict[int, Way], embeds: Tensor, where: Tensor) -> tuple[list[Tensor], list[list[int]], Tensor]:
    """Every layer's keys of what went through it, the numbers of those rows, and the hidden states in the end."""
    model = random_model()
    rope, keys, ran = model.rope, list[Tensor](), list[list[int]]()
    hidden, there = embeds.clone(), list(range(VISUAL + TAIL))
    for number, layer in enumerate(model.language.layers):
        through = there
        if (way := ways.get(number)) is not None:
            through = [there[row] for row in way.rows.tolist()] + there[-TAIL:]
            if way.hidden is not None:
                hidden[[there[row] for row in way.rows.tolist()]] = way.hidden
            if not way.wait:
                there = through
        rows, turn = hidden[through], rope.at(where[through][None], hidden)
        normed = layer.input_layernorm(rows[None])
        keys.append(layer.self_attn.k_proj(normed)[0])
        block = Block(0, len(through), turn, turn, causal(len(through))[None, None])
        hidden[through] = layer(
            rows[None], plan=Plan((block,)), position_embeddings=model.language.rotary_emb(rows[None], None)
        )[0]
        ran.append(through)
    return keys, ran, model.language.norm(hidden[there])


@pytest.mark.parametrize("ways", [{}, DROP, WAIT, BOTH, FOLD], ids=["all", "drop", "wait", "both", "fold"])
@torch.inference_mode()
def test_a_thinned_forward_is_the_layers_run_by_hand(ways: dict[int, Way]) -> None:
    model = random_model()
    geo = model.geometry
    rng = torch.Generator().manual_seed(2)
    embeds = torch.randn(VISUAL + TAIL, geo.width, generator=rng)
    where = torch.arange(VISUAL + TAIL, dtype=torch.float32)
    keys, ran, last = by_hand(ways, embeds, where)
    none = torch.zeros(geo.layers, geo.kv_heads, 0, geo.head_width)
    lane = Lane(none, Extent(0, 0, VISUAL + TAIL))
    told = Told(ways, [])
    thin = Thin(told, TAIL, modules=True)
    hidden = model.forward_all([Step(embeds[None], where[None], lane, thin=thin)])[0]
    torch.testing.assert_close(hidden[0], last, rtol=1e-4, atol=1e-5)
    survivors = sorted(set.intersection(*map(set, ran)))
    assert thin.survivors is not None
    assert thin.survivors.tolist() == survivors[:-TAIL]
    found = lane.fresh()[0]  # [L, Hkv, T, Dh]
    for layer in range(geo.layers):
        rows = [ran[layer].index(row) for row in survivors]
        torch.testing.assert_close(found[layer].transpose(0, 1).flatten(1), keys[layer][rows], rtol=1e-4, atol=1e-5)
    per_layer = [[kind for kind, number, _ in told.heard if number == layer] for layer in range(geo.layers)]
    assert per_layer == [["enter", "qk", "attention", "mlp"]] * geo.layers
    assert [count for kind, _, count in told.heard if kind == "mlp"] == [len(rows) for rows in ran]


@torch.inference_mode()
def test_a_batch_is_its_frames_and_leaves_others_alone() -> None:
    model = random_model()
    geo = model.geometry
    rng = torch.Generator().manual_seed(4)
    none = torch.zeros(geo.layers, geo.kv_heads, 0, geo.head_width)
    where = torch.arange(VISUAL + TAIL, dtype=torch.float32)

    def steps() -> tuple[list[Step], list[Lane]]:
        lanes = [Lane(none, Extent(0, 0, VISUAL + TAIL)) for _ in range(3)]
        thins = [Thin(Told(DROP, []), TAIL), None, Thin(Told(WAIT, []), TAIL)]
        made = [
            Step(embeds[number][None], where[None], lane, thin=thin)
            for number, (lane, thin) in enumerate(zip(lanes, thins, strict=True))
        ]
        return made, lanes

    embeds = torch.randn(3, VISUAL + TAIL, geo.width, generator=rng)
    together, lanes = steps()
    whole = model.forward_all(together)
    apart, single = steps()
    for number, step in enumerate(apart):
        alone = model.forward_all([step])[0]
        torch.testing.assert_close(alone, whole[number], rtol=1e-4, atol=1e-5)
        for a, b in zip(single[number].fresh(), lanes[number].fresh(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
