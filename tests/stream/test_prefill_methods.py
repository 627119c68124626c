"""Prefill, method by method: hand-made cases of the published arithmetic, and what each row's description asks for."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from stream.policy import build
from stream.prefill import TABLE, Passing, Prefill, Way, make
from stream.prefill.aim import importance, rate
from stream.prefill.catp import growing
from stream.prefill.csp import representatives
from stream.prefill.holitom import fold
from stream.prefill.mod import received
from stream.prefill.quickvideo import key_norms
from stream.prefill.ranked import last_row, logits, nearest_layer
from stream.prefill.transprune import transition
from tests.conformance.test_prefill import Walk
from tests.models import random_model


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def begin(method: Prefill, visual: int, layers: int) -> Passing:
    passing = method.start(visual, 1, layers)
    assert passing is not None
    return passing


def enter(passing: Passing, layer: int, hidden: Tensor) -> Way:
    way = passing.enter(layer, hidden)
    assert way is not None
    return way


def looking(row: list[float]) -> tuple[Tensor, Tensor]:
    """Queries and keys of one head, with which the last row looks at the others as `row` says, and not at itself."""
    weights = torch.tensor([*row, 1e-9]).log() * 2**0.5
    key = torch.stack((weights, torch.zeros(len(weights))), dim=1)[None]
    query = torch.tensor([1.0, 0.0]).expand(1, len(weights), 2)
    return query, key


# What they share


def test_attention_of_own_rows_is_what_a_layer_computes() -> None:
    query, key = torch.randn(6, 5, 8, generator=rng()), torch.randn(2, 5, 8, generator=rng(1))
    spread = key.repeat_interleave(3, 0)  # head h reads key head h // 3
    mask = torch.zeros(5, 5).masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
    expected = query @ spread.transpose(1, 2) / 8**0.5 + mask
    assert torch.allclose(logits(query, key), expected)
    assert torch.allclose(last_row(query, key), expected.softmax(-1)[:, -1].mean(0))
    assert torch.allclose(last_row(*looking([0.5, 0.2, 0.3])), torch.tensor([0.5, 0.2, 0.3, 0.0]), atol=1e-6)


@pytest.mark.parametrize(("depth", "layers", "least", "layer"), [(9 / 32, 32, 1, 9), (7 / 32, 4, 1, 1), (0, 4, 1, 1)])
def test_the_nearest_layer(depth: float, layers: int, least: int, layer: int) -> None:
    assert nearest_layer(depth, layers, least) == layer
    assert nearest_layer(0.99, layers, least) == layers - 2
    assert nearest_layer(0.5, 2, least) == 1, "there is no other"


# TransPrune


def test_tokens_that_nothing_turns_are_equal() -> None:
    x = torch.randn(7, 16, generator=rng())
    assert torch.allclose(transition(x, x), torch.full((7,), 1 / 7))


def test_twice_the_output_is_twice_the_transition() -> None:
    x, y = torch.randn(2, 7, 16, generator=rng())
    longer = y.clone()
    longer[3] *= 2
    assert torch.allclose(transition(x, longer) / transition(x, y), torch.tensor([1.0, 1, 1, 2, 1, 1, 1]))


def test_transition_by_hand() -> None:
    x = torch.tensor([[1.0, 0.0], [2.0, 0.0], [1.0, 0.0]])
    y = torch.tensor([[3.0, 0.0], [0.0, 2.0], [-1.0, 0.0]])  # the same way, across, and back: 1 - cos is 0, 1 and 2
    turn = torch.tensor([0.0, 1.0, 2.0]).softmax(0)
    assert torch.allclose(transition(x, y), turn * torch.tensor([3.0, 1.0, 1.0]))


def test_transprune_counts_and_accumulates_as_published() -> None:
    passing, there = begin(make({"transprune": {}}), 576, 32), 576
    turned = torch.zeros(577)
    left = []
    for layer in range(32):
        way = passing.enter(layer, torch.zeros(there + 1, 8))
        if way is not None:
            expected = turned[:there].topk(len(way.rows)).indices.sort().values
            assert torch.equal(way.rows, expected)
            turned = torch.cat((turned[:there][way.rows], turned[there:]))
            there = len(way.rows)
        left.append(there)
        for part in ("attention", "mlp"):
            x, y = torch.randn(2, there + 1, 8, generator=rng(layer))
            passing.module(layer, part, x, y)
            turned = turned + transition(x, y) * (6 <= layer < 12)
    assert left == [576] * 7 + [504] * 2 + [360] * 3 + [72] * 20


def test_the_carriers_look_can_count_as_much_as_the_transitions() -> None:
    chosen = []
    for carrier in (False, True):
        passing = begin(make({"transprune": {"keep": [0.5], "depths": [0.5], "carrier": carrier}}), 4, 4)
        x = torch.ones(5, 8)
        passing.attention(1, *looking([0.05, 0.05, 0.85, 0.05]))
        passing.module(1, "attention", x, x * torch.tensor([4.0, 3, 1, 2, 1])[:, None])
        passing.module(1, "mlp", x, x)
        chosen.append(enter(passing, 2, x).rows.tolist())
    assert chosen == [[0, 1], [0, 2]]


# QuickVideo


def test_key_norms_do_not_know_where_a_key_stands() -> None:
    model = random_model()
    geo = model.geometry
    key = torch.randn(geo.kv_heads, 9, geo.head_width, generator=rng())
    turned = model.rope.at(torch.arange(9.0)[None] * 7, key[None])(key[None])[0]
    assert torch.allclose(key_norms(key), key_norms(turned), rtol=1e-5)
    assert not torch.allclose(key, turned)


def test_the_smallest_keys_of_all_heads_together_stay() -> None:
    passing = begin(make({"quickvideo": {"keep": [0.5], "depths": [0.5]}}), 6, 4)
    key = torch.randn(2, 7, 4, generator=rng())
    key[:, 6] = 0  # the carrier, which nobody asks
    passing.attention(1, torch.randn(4, 7, 4), key)
    norms = torch.cat((key[0], key[1]), dim=1).norm(dim=1)[:6]
    assert enter(passing, 2, torch.zeros(7, 8)).rows.tolist() == sorted(norms.argsort()[:3].tolist())


def test_a_share_of_less_than_one_token_keeps_all() -> None:
    assert make({"quickvideo": {"keep": [0.1]}}).start(9, 1, 4) is None
    assert make({"quickvideo": {"keep": [0.12]}}).start(9, 1, 4) is not None


# AIM


def test_importance_hands_on_all_that_there_is() -> None:
    scores = logits(torch.randn(1, 6, 8, generator=rng()), torch.randn(1, 6, 8, generator=rng(1)))
    assert float(importance(scores).sum()) == pytest.approx(1)


def test_importance_is_five_sharp_rounds_and_the_root_mean_square_of_heads() -> None:
    scores = logits(torch.randn(3, 6, 4, generator=rng()) / 4, torch.randn(3, 6, 4, generator=rng(1)) / 4)
    rounds = (scores * 10).softmax(-1).matrix_power(5).mean(1)  # all rows begin with a sixth
    assert torch.allclose(importance(scores), (rounds.square().sum(0) / 3).sqrt(), atol=1e-6)


def test_importance_flows_along_the_attention() -> None:
    scores = torch.full((1, 3, 3), -torch.inf)
    scores[0, 0, 0] = scores[0, 1, 0] = scores[0, 2, 1] = 0.0  # 2 looks at 1, 1 at 0, 0 at itself
    assert torch.allclose(importance(scores), torch.tensor([1.0, 0, 0]))
    one, other = torch.eye(3).log(), torch.eye(3)[[1, 2, 0]].log()  # to itself, and in a ring: all stay equal
    assert torch.allclose(importance(torch.stack((one, other))), torch.full((3,), 1 / 3))


def test_aims_schedule() -> None:
    authors = [1.0 if layer < 14 else max(0.0, 1 - (layer - 13) * 0.125) for layer in range(28)]
    assert [rate(layer + 1, 28) for layer in range(28)] == pytest.approx(authors), "a layer's rate holds in the next"
    assert rate(21, 28) == pytest.approx(0.125)
    assert rate(22, 28) == 0
    left = [len(rows) for rows in Walk(196, 1, 28).steps(make({"aim": {}}))]
    assert left == [max(1, int(share * 196)) for share in [1.0, *authors[:-1]]]


# HoliTom


def one_by_one(hidden: Tensor, kept: list[int]) -> Tensor:
    """The authors' loop."""
    states = hidden.clone()
    for row in range(len(hidden)):
        if row not in kept:
            alike = torch.cosine_similarity(hidden[row][None], hidden[kept])
            target = kept[int(alike.argmax())]
            states[target] = (states[target] + states[row]) / 2
    return states[kept]


def test_folding_is_one_after_another() -> None:
    hidden = torch.randn(40, 16, generator=rng())
    hidden[30:] = hidden[3] + 0.1 * torch.randn(10, 16, generator=rng(1))  # ten that go the same way
    kept = [1, 3, 8, 20]
    assert torch.allclose(fold(hidden, torch.tensor(kept)), one_by_one(hidden, kept), atol=1e-6)
    backwards = torch.cat((hidden[:30], hidden[30:].flip(0)))
    assert not torch.allclose(fold(backwards, torch.tensor(kept)), one_by_one(hidden, kept), atol=1e-3)


def test_who_takes_in_nobody_stays_bit_for_bit() -> None:
    hidden = torch.eye(4)
    hidden[3] = torch.tensor([0.1, 0.9, 0.0, 0.0])
    assert torch.equal(fold(hidden, torch.tensor([0, 1, 2]))[[0, 2]], hidden[[0, 2]])
    assert torch.equal(fold(hidden, torch.arange(4)), hidden)


def test_those_that_the_carrier_looks_at_take_in_the_others() -> None:
    passing = begin(make({"holitom": {}}), 4, 28)
    passing.attention(16, *looking([0.5, 0.4, 0.05, 0.05]))  # an earlier layer has no say
    passing.attention(17, *looking([0.1, 0.4, 0.2, 0.3]))
    hidden = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0], [5.0, 5.0]])
    way = enter(passing, 18, hidden)
    assert way.rows.tolist() == [1, 3]
    assert way.hidden is not None
    assert torch.allclose(way.hidden, torch.tensor([[1.0, 0.05], [0.05, 1.0]]))


# LVLM_CSP


def test_representatives_stand_as_published() -> None:
    assert representatives(196, 49).tolist() == [4 * place for place in range(49)]
    assert representatives(9, 2).tolist() == [0, 4]


def test_csp_has_three_phases() -> None:
    left = [len(rows) for rows in Walk(196, 1, 28).steps(make({"csp": {}}))]
    assert left == [49] * 8 + [196] * 6 + [19] * 14
    passing = begin(make({"csp": {}}), 20, 28)
    assert enter(passing, 7, torch.zeros(21, 8)).wait
    assert passing.enter(8, torch.zeros(21, 8)) is None
    row = [0.01] * 20
    row[3] = row[17] = 0.4
    passing.attention(13, *looking(row))
    way = enter(passing, 14, torch.zeros(21, 8))
    assert (way.rows.tolist(), way.wait) == ([3, 17], False)


# CATP


def test_a_look_that_fades_counts_nothing() -> None:
    before, now = torch.tensor([0.1, 0.6, 0.3]), torch.tensor([0.4, 0.5, 0.1])
    hidden, query = torch.tensor([[0.0, 1.0], [1.0, 0.0], [-2.0, 0.0]]), torch.tensor([3.0, 0.0])
    assert torch.allclose(growing(before, now, hidden, query, 0.6), torch.tensor([0.3, 0.6, -0.6]))


def test_catp_compares_the_two_layers_before_the_cut() -> None:
    passing = begin(make({"catp": {"keep": [0.5], "depths": [0.5], "alike": 0.0}}), 4, 8)
    passing.attention(1, *looking([0.97, 0.01, 0.01, 0.01]))  # too early to count
    passing.attention(2, *looking([0.1, 0.5, 0.3, 0.1]))
    passing.attention(3, *looking([0.3, 0.4, 0.2, 0.1]))
    assert enter(passing, 4, torch.ones(5, 8)).rows.tolist() == [0, 1], "one grows; of those that do not, the first"


def test_catp_wants_what_is_like_the_carrier() -> None:
    passing = begin(make({"catp": {"keep": [0.5], "depths": [0.5]}}), 4, 8)
    passing.attention(2, *looking([0.25] * 4))
    passing.attention(3, *looking([0.25] * 4))
    hidden = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.1, 1.0], [0.0, 1.0], [0.0, 3.0]])  # the last is the carrier
    assert enter(passing, 4, hidden).rows.tolist() == [2, 3]


# VideoLLM-MoD


def test_an_even_look_is_worth_the_same_everywhere() -> None:
    assert torch.allclose(received(logits(torch.zeros(2, 6, 4), torch.zeros(1, 6, 4))), torch.ones(5))


@pytest.mark.parametrize("router", ["attention", "keys", "uniform", "random"])
@pytest.mark.parametrize(("visual", "layers", "first"), [(9, 4, 1), (196, 28, 4)])
def test_every_other_layer_is_for_some(router: str, visual: int, layers: int, first: int) -> None:
    left = [len(rows) for rows in Walk(visual, 1, layers).steps(make({"mod": {"router": router}}))]
    some = {layer for layer in range(layers) if layer >= first and (layer - first) % 2 == 0}
    assert left == [round(0.2 * visual) if layer in some else visual for layer in range(layers)]
    assert all((a in some) != (b in some) for a, b in pairwise(range(first, layers)))


def test_routers_choose_as_they_are_called() -> None:
    def chosen(**options: Any) -> Iterator[list[int]]:
        method = build("model.prefill", TABLE, "mod", {"keep": 0.25, "begin": 0.5, **options})
        return (rows for rows in Walk(16, 1, 4).steps(method) if len(rows) == 4)

    found = {router: next(chosen(router=router)) for router in ("attention", "keys", "uniform", "random")}
    assert found["uniform"] == [2, 6, 10, 14]
    assert next(chosen(router="random", seed=1)) != found["random"]
    assert len({tuple(rows) for rows in found.values()}) == 4

    passing = begin(make({"mod": {"keep": 0.5, "begin": 0.5}}), 4, 4)
    passing.attention(1, *looking([0.1, 0.5, 0.1, 0.3]))
    assert enter(passing, 2, torch.zeros(5, 8)).rows.tolist() == [1, 3]
