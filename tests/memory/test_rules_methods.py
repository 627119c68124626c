"""Standing questions in one forward: who reads whom, and which keys stay."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memory import rules
from memory.rules.pap import Chunks, attention, chosen, owners
from stream.errors import ConfigError
from stream.policy import build
from tests.conformance.test_rules import scene
from tests.models import random_model


def test_a_rule_reads_what_is_remembered_and_itself() -> None:
    model = random_model()
    none = model.system()
    slab = model.slab([none], 5)
    before = 2 * len(none)
    with torch.inference_mode():
        mask = Chunks(slab, owners([[7, 7], [8, 8, 8]])).begin(5)
    assert mask is not None
    reads = mask[0, 0] == 0
    assert reads[:, :before].all()
    wanted = [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 1, 1, 1]]
    assert reads[:, before:].int().tolist() == wanted


def test_a_store_of_rules_takes_all_of_them_at_once() -> None:
    model = random_model()
    with pytest.raises(ValueError, match="3 tokens together, 2 were announced"):
        Chunks(model.slab([model.system()], 3), owners([[1], [2, 3]])).begin(2)


def test_one_rule_is_an_ordinary_question() -> None:
    reader, view, ids = scene()
    alone = build("rules", rules.TABLE, "pepe").scores(reader, view, ids[:1])
    assert torch.allclose(alone, build("rules", rules.TABLE, "each").scores(reader, view, ids[:1]), atol=1e-5)


def test_attention_of_a_rule_is_that_of_every_head_and_token() -> None:
    rng = torch.Generator().manual_seed(3)
    query, memory = torch.randn(4, 3, 8, generator=rng), torch.randn(2, 5, 8, generator=rng)
    prompt, own = torch.randn(2, 2, 8, generator=rng), torch.randn(2, 3, 8, generator=rng)
    total = torch.zeros(5)
    for head in range(4):
        for token in range(3):
            keys = torch.cat((memory[head // 2], prompt[head // 2], own[head // 2, : token + 1]))
            total += (keys @ query[head, token] / 8**0.5).softmax(0)[:5]
    assert torch.allclose(attention(query, memory, prompt, own), total / 12, atol=1e-6)


def test_budgets_are_in_proportion_and_their_union_stays() -> None:
    much = [0.0, 0.0, 0.5, 0.4, 0.3, 0.0, 0.0, 0.0]  # three times as much as the other: three of four keys
    little = [0.0, 0.3, 0.0, 0.0, 0.0, 0.0, 0.1, 0.0]
    assert chosen(torch.tensor([much, little]), 4).tolist() == [1, 2, 3, 4]
    assert chosen(torch.tensor([much, much]), 4).tolist() == [0, 2, 3, 4], (
        "both want the same two; then the best of all"
    )


@given(st.lists(st.lists(st.integers(0, 9), min_size=12, max_size=12), min_size=1, max_size=5), st.integers(1, 11))
def test_the_budget_is_exact(relevance: list[list[int]], count: int) -> None:
    rows = torch.tensor(relevance).float()
    found = chosen(rows, count)
    assert found.tolist() == sorted(set(found.tolist()))
    assert len(found) == count
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(count))
    assert torch.equal(chosen(rows[order], count), found), "whatever the order of the rules"


def test_pap_reads_what_its_rules_attend_to() -> None:
    """Keys that no rule can tell from nothing, among those of a real memory, are the ones that go."""
    reader, view, ids = scene()
    half = build("rules", rules.TABLE, "pap", {"share": 0.5})
    kept = half.kept(reader, view, ids, len(view.past) // 2)
    assert len(kept) == len(view.past) // 2
    assert torch.equal(kept, half.kept(reader, view, ids[::-1], len(view.past) // 2))
    whole = build("rules", rules.TABLE, "each").scores(reader, view, ids)
    assert not torch.allclose(half.scores(reader, view, ids), whole, atol=1e-4), "half of them are not read"


@pytest.mark.parametrize("share", [0, 1.1])
def test_a_share_that_makes_no_sense_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="share"):
        build("rules", rules.TABLE, "pap", {"share": share})
