"""What an adapter is trained on: films in a fixed walk, the street among them, and recipes that do not fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from stream.errors import ConfigError
from stream.model import tiny
from stream.train.adapt import answers, train
from stream.train.data import IGNORE
from stream.train.lora import Source, load_plan
from stream.train.mixture import Eye, Film, Films, Library, Mixture, Unmarked
from stream.train.videos import BrokenData, Item, Ledger, read
from tests.stream.kit import RECIPE, film, opened, plan, save_base, save_videos, write_video

pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::DeprecationWarning", "ignore:.is_gradient_checkpointing:FutureWarning"
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return save_videos(tmp_path_factory.mktemp("videos"))


class Letters:
    """A codec that takes one token a letter."""

    marks: ClassVar = {7: tiny.MARKS[0]}

    def question_ids(self, question: str) -> list[int]:
        return [1] * len(question)

    def answer_ids(self, answer: str) -> list[int]:
        return [2] * len(answer)


def library(tmp_path: Path, items: list[Item], max_share: float = 1.0) -> Library:
    return Library(items, Ledger(list(items), max_share, tmp_path / "broken.jsonl"))


def test_long_questions_are_left_out_and_many_are_drawn_from(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 8)
    turns = tuple((f"{number}" * (5 if number else 100), "yes") for number in range(6))
    films = Films([Item("a", path, turns), Item("b", path, turns[:1])], replace(RECIPE, slot=20), Letters(), 32)
    shelf = library(tmp_path, films.items)
    walk = shelf.films(films)
    shown = [next(walk) for _ in range(4)]
    assert {len(item.texts) for item in shown} == {3}
    assert all(ids == [1] * 5 + [2] * 3 and learn == [IGNORE] * 4 + [2] * 3 for ids, learn in shown[0].texts)
    assert shelf.ledger.counts == {"too_long": 1}
    assert shelf.ledger.left_out == 1
    assert "103 tokens, more than slot 20" in (tmp_path / "broken.jsonl").read_text()


def test_the_walk_is_the_same_from_any_place(source: Source, tmp_path: Path) -> None:
    found = [item for item in read(source.items, source.folder) if isinstance(item, Item)]
    films = Films(found, RECIPE, Letters(), 32)
    one, two = library(tmp_path, found), library(tmp_path, found)

    def first(walk: Iterator[Film], count: int) -> list[float]:
        return [float(next(walk).images.mean()) for _ in range(count)]

    whole = first(one.films(films), 9)
    begun = first(two.films(films), 4)
    assert whole == begun + first(two.films(films), 5)
    assert one.ledger.counts == two.ledger.counts == {"unreadable": 1}
    assert one.cursor == two.cursor


def test_workers_give_the_same(source: Source, tmp_path: Path) -> None:
    found = [item for item in read(source.items, source.folder) if isinstance(item, Item)]
    films = Films(found, RECIPE, Letters(), 32)
    sums = []
    for workers in (0, 1):
        shelf = library(tmp_path, found)
        shelf.workers = workers
        state = torch.get_rng_state()
        walk = shelf.films(films)
        sums.append([float(next(walk).images.mean()) for _ in range(5)])
        assert torch.equal(state, torch.get_rng_state()), "loading draws nothing from the training's random state"
        walk.close()
    assert sums[0] == sums[1]


def test_it_stops_when_too_much_or_everything_is_broken(base: Path, source: Source, tmp_path: Path) -> None:
    with pytest.raises(BrokenData, match=r"16\.7% of 6 items cannot be used \(missing 1\).*10\.0%"):
        train(plan(base, source, max_broken_share=0.1), tmp_path, "cpu")
    with pytest.raises(BrokenData, match=r"33\.3% of 6 items cannot be used"):
        train(plan(base, source, max_broken_share=0.2), tmp_path, "cpu")
    noise = Item("noise", source.folder / "5.mp4", (("what", "that"),))
    shelf = library(tmp_path, [noise, replace(noise, name="more")])
    with pytest.raises(BrokenData, match="none of the 2 videos"):
        next(shelf.films(Films(shelf.items, RECIPE, Letters(), 32)))


def test_an_answer_that_needs_a_mark_is_not_asked_of_a_checkpoint_without_it() -> None:
    codec = Unmarked(Letters(), 20)
    assert codec.marks == Letters.marks
    assert codec.question_ids("abc") == [1] * 3
    assert codec.answer_ids(f"{tiny.MARKS[0]} ago") == [2] * (len(tiny.MARKS[0]) + 4)
    assert len(codec.answer_ids(f"at {tiny.MARKS[1]}")) > 20


def test_the_street_is_mixed_in(base: Path) -> None:
    model = opened(base)
    eye = Eye(model, False)
    films = iter([film(model, seed=seed) for seed in range(30)])
    mixed = Mixture(replace(RECIPE, slot=80, questions=2), 0.5, eye, films)
    kinds = [mixed(index)[1] for index in range(8)]
    assert {True, False} == set(kinds)
    batch, street = mixed(kinds.index(True))
    assert street
    told = answers(model, batch, eye.seen)
    assert told.asked > 0
    assert told.tokens > told.asked
    mute = Mixture(replace(RECIPE, slot=1), 1.0, eye, iter(()))
    none = answers(model, mute(0)[0], eye.seen)
    assert (none.tokens, none.asked, none.answer) == (0, 0, 0.0), "a clip of which nothing can be asked"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model: x", "stages"),
        ("model: x\nstages: {}", "stages"),
        (
            "model: x\nstages: {a: {train: [tower], steps: 1, lr: 1, data: {clips: 1, frames: [2]}}}",
            r"stages\.a\.train\.0",
        ),
        ("model: [", "cannot be read"),
    ],
)
def test_a_recipe_names_what_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "lora.yaml").write_text(text)
    with pytest.raises(ConfigError, match=words):
        load_plan(tmp_path / "lora.yaml")


def test_a_recipe_that_does_not_fit(base: Path, source: Source, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"stages\.look\.street: is 0, but no videos"):
        train(plan(base, source, videos=()), tmp_path, "cpu")
    many = (
        plan(base, source).stages["look"].model_copy(update={"data": replace(RECIPE, frames=(900,), carriers=(900,))})
    )
    with pytest.raises(ConfigError, match=r"stages\.look\.data\.carriers: 900 carriers.*2048; use fewer"):
        train(plan(base, source, stages={"look": many}), tmp_path, "cpu")
    blind = many.model_copy(update={"data": replace(RECIPE, questions=0)})
    with pytest.raises(ConfigError, match=r"stages\.look\.data\.questions"):
        train(plan(base, source, stages={"look": blind}), tmp_path, "cpu")


def test_the_recipe_in_the_repository() -> None:
    recipe = load_plan(Path(__file__).parents[2] / "configs" / "train" / "lora.yaml")
    assert [stage.train for stage in recipe.stages.values()] == [("vision", "language"), ("language",)]
    early, late = (stage.data for stage in recipe.stages.values())
    assert min(early.carriers) >= max(early.frames), "nothing is forgotten in stage one"
    assert min(late.carriers) < max(late.frames)
