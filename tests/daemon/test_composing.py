"""What cannot be combined is refused when the file is read, with both names, the reason and a way out."""

# ruff: noqa: E501  one case per line reads best

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
import yaml

from daemon import composing
from daemon.methods import check_methods
from daemon.settings import Settings, parse
from memory import focus
from memory.focus import Reading, Tokens
from stream import reduce
from stream.errors import ConfigError
from stream.policy import Paper, build
from stream.reduce import ATTENTION, GRID, Seen
from stream.reduce.dull import Dull
from stream.types import VisualTokens
from tests.conformance.test_recall import asked
from tests.conformance.test_reduce import seen

PAGE = Path(__file__).resolve().parents[2] / "docs" / "composing.md"
CAMERA = "cameras: {door: {url: x}}\n"


@dataclass(frozen=True)
class Loose(Dull):
    """Needs nothing, leaves nothing: most that select."""

    paper: ClassVar[Paper] = Paper("loose", "", "baseline")

    def shrink(self, seen: Sequence[Seen], budget: int) -> VisualTokens:
        """Never called here."""
        raise AssertionError("a stack is checked without a frame")


@dataclass(frozen=True)
class Attends(Loose):
    """Needs all there is, leaves nothing."""

    needs: ClassVar[frozenset[str]] = frozenset({GRID, ATTENTION})


@dataclass(frozen=True)
class Gentle(Loose):
    """Needs attention, leaves all there is."""

    needs: ClassVar[frozenset[str]] = frozenset({ATTENTION})
    leaves: ClassVar[frozenset[str]] = frozenset({GRID, ATTENTION})


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    for cls in (Loose, Attends, Gentle):
        monkeypatch.setitem(reduce.TABLE, cls.__name__.lower(), f"{__name__}:{cls.__name__}")


def settings_of(text: str) -> Settings:
    return parse(yaml.safe_load(text if text.startswith("cameras") else CAMERA + text), "x.yaml")


GRID_GONE = "needs the token grid, which model.reduce.0.loose takes apart; put m3 first"
REFUSED = {
    "grid taken apart": ("model: {reduce: [loose, m3]}", f"model.reduce.1.m3: {GRID_GONE}"),
    "further up": ("model: {reduce: [gentle, loose, m3]}", "model.reduce.2.m3: needs the token grid, which model.reduce.1.loose takes apart; put m3 first"),
    "both things": ("model: {reduce: [loose, attends]}", "model.reduce.1.attends: needs the token grid and the tower's attention, one score a patch, which model.reduce.0.loose does not leave; put attends first"),
    "no order helps": ("model: {reduce: [attends, gentle]}", "model.reduce.1.gentle: needs the tower's attention, one score a patch, which model.reduce.0.attends does not leave; put gentle first"),
    "pooling first": ("model: {reduce: [m3, attends]}", "model.reduce.1.attends: needs the tower's attention, one score a patch, which model.reduce.0.m3 does not leave; choose one of them"),
    "none in a list": ("model: {reduce: [none, m3]}", "model.reduce.0.none: does nothing in a list; leave it out"),
    "more after less": ("model: {reduce: [{m3: {keen: 4}}, {uniform: {dull: 4, keen: 9}}]}", "model.reduce.1.uniform: keeps more tokens (dull: 4, keen: 9; 0 is all) than model.reduce.0.m3 leaves it; give it less, or put it first"),
    "all after less": ("model: {reduce: [{m3: {keen: 4}}, {uniform: {dull: 4}}]}", "model.reduce.1.uniform: keeps more tokens (dull: 4, keen: 0; 0 is all)"),
    "nothing is dull": ("gate: [stride]\nmodel: {reduce: m3}", "model.reduce.0.m3: reduces dull frames only (keen: 0), and gate.0.stride calls no frame dull; end the gate with `still`, or set keen"),
    "nothing is dull after all": ("gate: [still, all]\nmodel: {reduce: m3}", "and gate.1.all calls no frame dull"),
    "no gate at all": ("gate: []\nmodel: {reduce: m3}", "(keen: 0), and gate calls no frame dull"),
    "own gate": ("cameras: {door: {url: x, gate: [all]}}\nmodel: {reduce: m3}", "and cameras.door.gate.0.all calls no frame dull"),
    "focus on all": ("memory: {focus: uniform}", "memory.focus.uniform: reads all tokens as long as memory.focus_tokens is null; give it a number, or set memory.focus: all"),
    "focus on nothing": ("memory: {focus: uniform, focus_tokens: 8, detail_frames: 0}", "memory.focus.uniform: chooses among the newest frames' visual tokens, and memory.detail_frames: 0 keeps none; set memory.focus: all, or keep some frames"),
    "a limit for all": ("memory: {focus_tokens: 8}", "memory.focus_tokens: 8, but memory.focus.all reads all; choose memory.focus: uniform"),
    "places are lost": ("model: {reduce: {m3: {keen: 4}}}\nmemory: {focus: quota, focus_tokens: 8}", "memory.focus.quota: goes by where tokens stood in the frame, which model.reduce.0.m3 leaves of no frame (keen: 4); set keen: 0, choose a reducer that picks tokens, or memory.focus: uniform"),
    "companions without a place": ("model: {carrier: codes}\nmemory: {focus: freevideo, focus_tokens: 8}", "memory.focus.freevideo: goes by where tokens stood in the frame, and companions of model.carrier.codes stood nowhere; choose model.carrier: mean or plus, or memory.focus: uniform"),
    "recovered beside an archive": ("memory: {recover: true}", "memory.recover: true brings back roughly what archive.enabled: true has as it was; choose one of them"),
    "nothing is recovered": ("archive: {enabled: false}\nmemory: {recover: true, recalled: 0}", "memory.recover: gives back memory.recalled carriers, which is 0; give it a number, or set recover: false"),
    "stretched to nowhere": ("model: {rope_scale: 4}\nmemory: {positions: equal}", "model.rope_scale: 4 makes positions reach further, and memory.positions: equal has one for all that is remembered; leave one of them out"),
    "two at once": ("model: {reduce: [loose, m3]}\nmemory: {focus: uniform}", f"{GRID_GONE}; memory.focus.uniform: reads all"),
}  # fmt: skip

ALLOWED = {
    "the defaults": "",
    "none": "model: {reduce: none}",
    "an empty list": "model: {reduce: []}",
    "pooled, then chosen": "model: {reduce: [{m3: {keen: 4}}, {loose: {keen: 2}}]}",
    "attention first": "model: {reduce: [gentle, attends]}",
    "pooled twice": "model: {reduce: [{m3: {keen: 9}}, {m3: {keen: 4}}]}",
    "as many again": "model: {reduce: [{m3: {keen: 4}}, {uniform: {keen: 4}}]}",
    "less where it is keen": "model: {reduce: [{m3: {keen: 9}}, {uniform: {dull: 4, keen: 4}}]}",
    "another idea of dull": "model: {reduce: [{m3: {dull: 4, keen: 4}}, {uniform: {dull: 9, below: 3}}]}",
    "a thinned tower and a pooling reducer": "model: {tower: random, reduce: [m3, loose]}",
    "a thinned tower and one that attends": "model: {tower: random, reduce: [gentle, attends]}",
    "one camera has a gate that scores": "cameras: {a: {url: x, gate: [all]}, b: {url: y}}\nmodel: {reduce: m3}",
    "all frames are reduced": "gate: [all]\nmodel: {reduce: {m3: {keen: 4}}}",
    "below more than the plain score": "gate: [all]\nmodel: {reduce: {m3: {below: 2}}}",
    "a prefill without detail": "model: {prefill: uniform}\nmemory: {detail_frames: 0}",
    "companions of more tokens than there are": "model: {carrier: {plus: {companions: 500}}}",
    "a focus": "memory: {focus: uniform, focus_tokens: 8}",
    "places of all but dull frames": "model: {reduce: m3}\nmemory: {focus: quota, focus_tokens: 8}",
    "places of what was picked": "model: {reduce: {uniform: {keen: 4}}}\nmemory: {focus: quota, focus_tokens: 8}",
    "places of companions that were tokens": "model: {carrier: plus}\nmemory: {focus: quota, focus_tokens: 8}",
    "companions, and a focus that asks for no place": "model: {carrier: codes}\nmemory: {focus: qtsplus, focus_tokens: 8}",
    "recovered without an archive": "archive: {enabled: false}\nmemory: {recover: true}",
    "equal positions": "memory: {positions: equal}",
    "every stage": "model: {tower: random, reduce: [{m3: {keen: 4}}], carrier: plus, prefill: random}\nmemory: {focus: random, focus_tokens: 4}",
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_both_names(case: str) -> None:
    text, expected = REFUSED[case]
    with pytest.raises(ConfigError) as caught:
        check_methods(settings_of(text), "x.yaml")
    line = str(caught.value)
    assert line.startswith("x.yaml: ")
    assert expected in line
    assert "\n" not in line


@pytest.mark.parametrize("case", ALLOWED)
def test_allowed(case: str) -> None:
    check_methods(settings_of(ALLOWED[case]), "x.yaml")


def test_the_way_out_leads_out() -> None:
    for text in ("model: {reduce: [m3, loose]}", "model: {reduce: [gentle, attends]}", "model: {reduce: [gentle]}"):
        check_methods(settings_of(text))


def test_wrong_options_are_said_before_clashes() -> None:
    with pytest.raises(ConfigError) as caught:
        check_methods(settings_of("model: {reduce: [loose, {m3: {dul: 1}}]}"))
    assert str(caught.value) == "model.reduce.1.m3.dul: unknown option; did you mean 'dull'?"


def test_who_pools_and_who_goes_by_place_is_as_they_do() -> None:
    """The names that are written down are those of the methods that behave so."""
    shipped = [name for name, what in reduce.TABLE.items() if not what.startswith(__name__)]
    pooling = [name for name in shipped if name != "none" and reduction(name, dull=6).places is None]
    assert sorted(pooling) == sorted(composing._POOLING)
    keys, values = torch.randn(2, 2, 2, 48, 4, generator=torch.Generator().manual_seed(3))
    places = torch.arange(24)
    given = Tokens(keys, values, torch.tensor([0, 1]).repeat_interleave(24), places.repeat(2), (4, 6))
    moved = replace(given, places=((places + 9) % 24).repeat(2))
    by_place = [name for name in focus.TABLE if not same(chosen(name, given), chosen(name, moved))]
    assert sorted(by_place) == sorted(composing._BY_PLACE)


def reduction(name: str, **options: int) -> VisualTokens:
    method: reduce.Reduce = build("model.reduce", reduce.TABLE, name, options)
    return method.reduce(seen(method.window))


def chosen(name: str, given: Tokens) -> Reading:
    method: focus.Focus = build("memory.focus", focus.TABLE, name)
    return method.select(asked(), given, 20)


def same(one: Reading, other: Reading) -> bool:
    """Token for token, weight for weight."""
    if one.weights is None or other.weights is None:
        return one.weights is other.weights and torch.equal(one.rows, other.rows)
    return one.weights.shape == other.weights.shape and torch.allclose(one.weights, other.weights)


def test_the_page_shows_a_refusal_as_it_is() -> None:
    """Its other examples are checked with those of all pages, in tests/test_readme.py."""
    blocks = re.findall(r"^```text\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    stack, answer = blocks[1:]
    with pytest.raises(ConfigError) as caught:
        check_methods(settings_of(stack))
    assert str(caught.value) == answer.strip()


NESTED = {
    "name": ("{clip: {}}", "memory.recall.route.past.clip: unknown method; did you mean 'clips'?"),
    "option": ("{clips: {reech: 2}}", "memory.recall.route.past.clips.reech: unknown option; did you mean 'reach'?"),
    "value": ("{clips: {reach: -1}}", "memory.recall.route.past.clips: "),
    "a text": ("clips", "memory.recall.route.past: a method with its options is needed here, e.g. `{random: {}}`"),
    "no options": ("{clips: }", "memory.recall.route.past: a method with its options is needed here"),
    "two": ("{clips: {}, pages: {}}", "memory.recall.route: past needs one method"),
    "itself": ("{route: {}}", "memory.recall.route: past needs one method that is not route itself"),
}


@pytest.mark.parametrize("case", NESTED)
def test_methods_inside_methods_are_checked(case: str) -> None:
    text, expected = NESTED[case]
    with pytest.raises(ConfigError) as caught:
        check_methods(settings_of(f"memory: {{recall: {{route: {{past: {text}}}}}}}"))
    assert expected in str(caught.value)
    check_methods(settings_of("memory: {recall: {route: {past: {clips: {reach: 2}}}}}"))
