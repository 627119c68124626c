"""How probable a yes is: all questions at once are each alone, and a trained model means what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from daemon.watch import judge as own
from daemon.watch.judge import Judge, openings
from memory.rules import Reader
from memory.view import MemoryView
from stream.errors import ModelError
from stream.model import Model
from stream.model.loading import open_model
from tests.conformance.test_rules import scene
from tests.models import random_model


def judge(method: str = "pepe") -> tuple[Judge, MemoryView, list[tuple[int, ...]]]:
    reader, view, ids = scene()
    return Judge.of(reader.model, reader.positions, method), view, list(ids)


def test_all_at_once_is_one_by_one() -> None:
    together, view, ids = judge()
    alone, _, _ = judge("each")
    found = together.probabilities(view, ids)
    assert found == pytest.approx(alone.probabilities(view, ids), abs=1e-5)
    assert found == pytest.approx([together.probabilities(view, [item])[0] for item in ids], abs=1e-5)
    assert together.probabilities(view, ids[::-1]) == pytest.approx(found[::-1], abs=1e-5)
    assert together.probabilities(view, []) == []


def test_many_questions_take_several_forwards(monkeypatch: pytest.MonkeyPatch) -> None:
    together, view, ids = judge()
    many = [(*item[:count], *item[-1:]) for item in ids for count in range(2, len(item))]
    whole = together.probabilities(view, many)
    monkeypatch.setattr(own, "MOST_TOKENS", 2 * len(ids[0]))
    assert together.probabilities(view, many) == pytest.approx(whole, abs=1e-5)


def test_what_is_asked_twice_is_read_once() -> None:
    asked: list[int] = []
    method, view, ids = judge()

    class Counting:
        paper = method.method.paper

        def scores(self, reader: Reader, view: MemoryView, rules: Sequence[Sequence[int]]) -> Tensor:
            asked.append(len(rules))
            return method.method.scores(reader, view, rules)

    counting = replace(method, method=Counting())
    found = counting.probabilities(view, [ids[2], *ids, list(ids[2])])
    assert asked == [3]
    assert found[0] == found[3] == found[4]
    assert found[1:4] == method.probabilities(view, ids)


def test_log_odds_add_up_all_forms() -> None:
    method, _, _ = judge()
    one = Judge(method.reader, torch.tensor([0, 1]), torch.tensor([2]), method.method)
    scores = torch.tensor([[0.2, 0.1, 0.1, 0.6], [0.0, 0.1, 0.4, 0.5]]).log()
    assert one.log_odds(scores).sigmoid().tolist() == pytest.approx([0.75, 0.2], abs=1e-6)


def test_the_shipped_model_says_yes_and_no_in_tokens_of_their_own() -> None:
    model = open_model("tiny", "cpu")
    yes, no = openings(model)
    assert {model.decode([token]).strip().lower() for token in yes} == {"yes"}
    assert {model.decode([token]).strip().lower() for token in no} == {"no"}


def test_tokens_of_letters_are_told_by_the_first() -> None:
    yes, no = openings(random_model())
    assert yes
    assert no
    assert not yes & no


def test_a_tokenizer_that_tells_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model()
    monkeypatch.setattr(model, "text_ids", lambda _text: [5, 6])
    with pytest.raises(ModelError, match="do not tell yes from no"):
        openings(_as_model(model))


def _as_model(model: Model) -> Model:
    return model
