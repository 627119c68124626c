"""The grammar: wide, short, in words that are one token each; and any text survives the tokeniser."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.marks import MARKS
from stream.model import tiny
from stream.train.phrasings import PATTERNS, corpus, names, phrase, slip, templates
from stream.train.questions import BLACK, NO, NOT_SEEN, NOTHING, YES
from stream.train.things import WORDS, Thing


def test_the_grammar_is_wide() -> None:
    owners = defaultdict(set)
    for name in PATTERNS:
        assert len(templates(name)) >= 8, name
        for text in templates(name):
            owners[text].add(name)
            assert len(text.split()) <= 14, text
            assert "(" not in text
            assert "|" not in text
            assert text == " ".join(text.split())
    assert len(owners) >= 300
    assert {text: who for text, who in owners.items() if len(who) > 1} == {}, "one wording, two questions"


@pytest.fixture(scope="module")
def words() -> Any:
    return tiny.tokenizer(corpus(), 1000)


def test_every_word_is_one_token(words: Any) -> None:
    said = [NOT_SEEN, NOTHING, YES, NO, BLACK, "to the left", "in the middle", "open closed day night", *WORDS]
    said += [thing.name for thing in names()]
    for word in {word for text in said for word in text.split()}:
        assert len(words(f" {word}").input_ids) == 1, word
    for mark in MARKS:
        assert len(words(mark).input_ids) == 1


def test_prompts_are_short(words: Any) -> None:
    """As they stand in the grammar; what is shouted or has slips takes more."""
    longest = Thing("person", "yellow")
    slots = {
        "the": longest.the,
        "a": longest.name,
        "other": "the person in black",
        "many": "people in blue",
        "state": "closed",
    }
    for name in PATTERNS:
        for text in templates(name):
            assert len(words(text.format_map(slots)).input_ids) <= 28, text


@settings(deadline=None, max_examples=200)
@given(text=st.text(max_size=60))
def test_any_text_survives_the_tokeniser(words: Any, text: str) -> None:
    plain = "".join(letter for letter in text if not "\ud800" <= letter <= "\udfff")
    assert words.decode(words(plain).input_ids) == plain


def test_a_slip_is_one_letter() -> None:
    rng = np.random.default_rng(6)
    for _ in range(300):
        text = "did the red car stop?"
        wrong = slip(text, rng)
        assert abs(len(wrong) - len(text)) <= 1
        assert sum((Counter(text) - Counter(wrong)).values()) <= 1
    assert slip("?", rng) == "?"


def test_typos_come_as_often_as_asked() -> None:
    rng = np.random.default_rng(8)
    known = {text.rstrip("?") for text in templates("first")}
    drawn = [phrase("first", {}, rng, typos=0.5).lower().rstrip("?") for _ in range(400)]
    bare = [re.sub(r"^(please: |hey, |ok, |so |quick question: )", "", text) for text in drawn]
    assert 0.3 < sum(text not in known for text in bare) / len(bare) < 0.6
