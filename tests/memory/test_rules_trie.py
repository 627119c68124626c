"""Rules as a tree: every rule is the way to its end, whatever the order, and what it reads is what it reads alone."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from memory import rules
from memory.rules.trie import LIMB, SETS, Trie, Twig, grown, read
from memory.view import MemoryView
from stream.policy import build
from stream.positions import TABLE
from tests.conformance.test_rules import scene
from tests.models import make_bank, make_encoder, random_frames, random_model

RULE = st.lists(st.integers(1, 3), min_size=1, max_size=5).map(tuple)
SOME = st.lists(RULE, min_size=1, max_size=12)  # few tokens: much is shared, some come twice, some begin another


def reads(tree: Trie) -> list[list[int]]:
    """Of each node, the nodes that it reads."""
    found = []
    for limb in tree.limbs:
        found += [limb.reads[row == 0].tolist() for row in limb.mask]
    return found


def ends(tree: Trie) -> list[int]:
    """The node at which each rule ends."""
    nodes = [limb.first + int(own) for limb in tree.limbs for own in limb.ends]
    return [nodes[int(number)] for number in tree.rule]


@given(SOME, st.integers(1, 9))
def test_a_rule_is_the_way_to_its_end(some: list[tuple[int, ...]], limb: int) -> None:
    tree = grown(tuple(some), limb)
    ways = reads(tree)
    for rule, end in zip(some, ends(tree), strict=True):
        assert tuple(tree.tokens[ways[end]].tolist()) == rule
        assert tree.depth[ways[end]].tolist() == list(range(len(rule)))
    assert len(tree) == len({rule[: count + 1] for rule in some for count in range(len(rule))}), (
        "nothing is there twice"
    )
    assert sum(len(item.ends) for item in tree.limbs) == len(set(some))
    assert [(item.first, item.last) for item in tree.limbs] == [
        (first, min(first + limb, len(tree))) for first in range(0, len(tree), limb)
    ]


@given(SOME, st.randoms(use_true_random=False))
def test_the_tree_is_the_same_whatever_the_order(some: list[tuple[int, ...]], chance: object) -> None:
    other = list(some)
    chance.shuffle(other)  # type: ignore[attr-defined]
    one, two = grown(tuple(some), 4), grown(tuple(other), 4)
    assert torch.equal(one.tokens, two.tokens)
    assert reads(one) == reads(two)
    assert dict(zip(some, ends(one), strict=True)) == dict(zip(other, ends(two), strict=True))


def test_an_empty_rule_is_named() -> None:
    with pytest.raises(ValueError, match="rule 1 of 2 has no tokens"):
        grown(((5,), ()))


def test_trees_of_a_set_are_kept_and_bounded() -> None:
    assert grown(((7, 8), (7, 9))) is grown(((7, 8), (7, 9)))
    assert grown.cache_info().maxsize == SETS


@lru_cache(256)
def alone(rule: tuple[int, ...]) -> Tensor:
    reader, view, _ = scene()
    return build("rules", rules.TABLE, "each").scores(reader, view, [rule])[0]


@settings(max_examples=12, deadline=None)
@given(SOME, st.sampled_from((2, 5, LIMB)))
def test_a_tree_of_rules_gives_what_each_gives_alone(some: list[tuple[int, ...]], limb: int) -> None:
    reader, view, _ = scene()
    with torch.inference_mode():
        found = read(reader, view.past, view.count, some, limb)
    assert torch.allclose(found, torch.stack([alone(rule) for rule in some]), atol=1e-4)


def test_neither_order_nor_doubles_change_a_bit() -> None:
    reader, view, ids = scene()
    pepe = build("rules", rules.TABLE, "pepe")
    found = pepe.scores(reader, view, ids)
    assert torch.equal(pepe.scores(reader, view, ids[::-1]), found.flip(0))
    assert torch.equal(pepe.scores(reader, view, ids * 2), found.repeat(2, 1))
    beginning = ids[0][:2]
    both = pepe.scores(reader, view, (ids[0], beginning))
    assert torch.allclose(both, torch.stack([alone(ids[0]), alone(beginning)]), atol=1e-4)


@pytest.mark.parametrize("positions", TABLE)
def test_a_word_stands_in_the_same_place_however_long_its_question_is(positions: str) -> None:
    """What two rules begin with in the same words is the same only because of that."""
    scheme = TABLE[positions](3, 9)
    assert torch.equal(scheme.text(7, 4), scheme.text(7, 11)[:4])
    reader, ids = scene()[0], scene()[2]
    model = random_model()
    bank, encoder = make_bank(model, carriers=4, detail=1, positions=positions), make_encoder(model)
    for frame in random_frames(5):
        bank.add(encoder.absorb([bank.work(frame)])[0])
    view: MemoryView = bank.fork(now_s=1005.0)
    own = type(reader)(model, bank.policy.positions)
    each, pepe = (build("rules", rules.TABLE, name).scores(own, view, ids) for name in ("each", "pepe"))
    assert torch.allclose(each, pepe, atol=1e-4)


def test_a_limb_takes_its_nodes_at_once() -> None:
    model = random_model()
    tree = grown(((1, 2), (1, 3)))
    twig = Twig(model.slab([model.system()], len(tree)), tree.limbs[0])
    with pytest.raises(ValueError, match="a limb of 3 nodes, 2 were announced"):
        twig.begin(2)
    assert twig.fixed is None
    assert twig.still() is twig
