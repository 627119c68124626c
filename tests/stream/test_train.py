"""Training: the truth it learns from, the batches it sees, and that it can be killed at any step."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from stream.model.loading import open_model
from stream.rule import CARRIER, SYSTEM, TEXT, VISUAL, allow
from stream.train import loop
from stream.train.data import IGNORE, Clips, Recipe, Shape
from stream.train.loop import Plan, Stage, export, start, train
from stream.train.questions import CLASSES, KINDS, NOTHING, PHRASINGS, Clip, answer, ask
from stream.train.world import COLOURS, Event, Street, Thing

RECIPE = Recipe(clips=2, frames=3, questions=2, kinds={"now": 1, "first": 1, "seen": 1}, detail=(0, 1), seed=9)


def shape(model: loop.LlavaOnevision, slot: int = 18) -> Shape:
    return Shape(96, 16, len(model.system_ids()), model.tokenizer.pad_token_id, slot)


def plan(steps: int, every: int) -> Plan:
    look = Recipe(clips=2, frames=2, questions=0, kinds={}, seed=8)
    stages = {
        "look": Stage(steps=4, lr=1e-3, see=1.0, warmup=2, data=look),
        "say": Stage(steps=steps, lr=1e-3, warmup=2, freeze_eyes=True, data=RECIPE),
    }
    return Plan(stages=stages, checkpoint_every=every)


def things(*names: tuple[str, float, float]) -> Clip:
    """A clip of 10 frames in which each (colour, first, last) is fully in view from first to last."""
    share = np.zeros((10, len(names)))
    for column, (_, first, last) in enumerate(names):
        share[int(first) : int(last) + 1, column] = 1.0
    return Clip(tuple(Thing("car", colour) for colour, _, _ in names), share)


@pytest.mark.parametrize(
    ("kind", "step", "said", "age"),
    [
        ("now", 0, NOTHING, 0),
        ("now", 3, "a red car", 0),
        ("first", 9, "a red car", 5),
        ("last", 6, "a blue car", 0),
        ("last", 9, "a blue car", 2),
        ("count", 0, "0", 0),
        ("count", 5, "1", 1),
        ("count", 9, "2", 5),
        ("first", 0, NOTHING, 0),
    ],
)
def test_the_truth(kind: str, step: int, said: str, age: int) -> None:
    assert answer(things(("red", 2, 4), ("blue", 6, 7)), kind, step) == (said, age)


def test_nothing_is_asked_that_nobody_can_say() -> None:
    clip = things(("red", 2, 4))
    clip.share[2:5] = 0.3  # a sliver: neither there nor not
    assert answer(clip, "now", 3) is None
    assert answer(clip, "count", 9) is None
    assert answer(clip, "now", 9) == (NOTHING, 0)


def test_seen_or_not_is_asked_of_both() -> None:
    clip, rng = things(("red", 2, 4)), np.random.default_rng(0)
    found = [ask(clip, "seen", 9, rng) for _ in range(200)]
    answers = [item.answer for item in found if item is not None]
    assert 60 < answers.count("yes") < 140
    assert all("a red car" in item.text for item in found if item and item.answer == "yes")


def test_a_street_is_what_its_seed_says() -> None:
    one, two = Street(5, 20.0), Street(5, 20.0)
    assert one.events == two.events
    assert (one.render(3.0, 96, 96) == two.render(3.0, 96, 96)).all()
    assert Street(6, 20.0).events != one.events
    for event in one.events:
        assert event.visible((event.first_s + event.last_s) / 2) == pytest.approx(1.0)
        assert event.visible(event.first_s - 0.01) == 0.0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("direction", [1, -1])
def test_everything_can_be_drawn_and_is_seen_where_it_is(kind: str, direction: int) -> None:
    """The pixels that change are those around the thing's centre."""
    street = Street(1, 0.0)
    empty = street.render(0.0, 192, 108).astype(int)
    for colour in COLOURS:
        event = Event(Thing(kind, colour), 10.0, 14.0, direction, 1.0, 0.8)
        street.events = (event,)
        drawn = street.render(11.5, 192, 108).astype(int)
        columns = np.flatnonzero(np.abs(drawn - empty).sum(2).max(0) > 60)
        assert len(columns) > 3
        assert abs((columns[0] + columns[-1]) / 2 / 192 - event.centre(11.5)) < 0.06


def test_batches_follow_the_rule() -> None:
    model = start(Plan(stages={}))
    batch = Clips(RECIPE, shape(model), model, 5)[3]
    again = Clips(RECIPE, shape(model), model, 5)[3]
    assert torch.equal(batch.images, again.images)
    assert torch.equal(batch.text, again.text)
    layout = batch.layout
    seen = allow(layout, batch.detail)
    for row in range(2):
        kind, step = layout.kind[row], layout.step[row]
        text = torch.nonzero(kind == TEXT).flatten()
        for query in text[::7].tolist():
            visual = torch.nonzero(seen[row, query] & (kind == VISUAL)).flatten()
            near = int(batch.detail[row, 0, 0])
            assert set(step[visual].tolist()) == set(range(max(0, int(step[query]) - near + 1), int(step[query]) + 1))
            carriers = seen[row, query] & (kind == CARRIER)
            assert set(step[carriers].tolist()) == set(range(int(step[query]) + 1))
            assert bool(seen[row, query][kind == SYSTEM].all())
        learned = batch.target[row][batch.target[row] != IGNORE]
        said = model.tokenizer.decode(learned.tolist()).split("<|im_end|>")
        assert all(item in (*CLASSES, "yes", "no") for item in said if item)


def test_every_phrasing_fits_its_slot() -> None:
    model = start(Plan(stages={}))
    longest = max(
        len(model.question_ids(text.format(name))) + len(model.answer_ids(name))
        for texts in PHRASINGS.values()
        for text in texts
        for name in CLASSES
    )
    assert longest <= Plan(stages={}).slot
    with pytest.raises(ValueError, match="more than 4 tokens"):
        _ = Clips(RECIPE, shape(model, 4), model, 5)[0]


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_loss_falls_a_kill_costs_nothing_and_the_result_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(plan(8, 4), tmp_path / "whole")
    rows = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert [(row["stage"], row["step"]) for row in rows] == [("look", 4), ("say", 8)]

    saves = []
    save = loop.Run.save

    def killed(run: loop.Run) -> None:
        save(run)
        saves.append(run.step)
        if len(saves) == 2:  # in the middle of the second stage
            raise KeyboardInterrupt

    monkeypatch.setattr(loop.Run, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        train(plan(8, 4), tmp_path / "cut")
    monkeypatch.setattr(loop.Run, "save", save)
    resumed = train(plan(8, 4), tmp_path / "cut")
    for (name, one), (_, two) in zip(whole.net.named_parameters(), resumed.net.named_parameters(), strict=True):
        assert torch.equal(one, two), name

    export(resumed, tmp_path / "model")
    loaded = open_model(str(tmp_path / "model"), "cpu")
    assert loaded.geometry.trained
    assert loaded.question_ids("what is visible now?") == whole.question_ids("what is visible now?")


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_it_learns(tmp_path: Path) -> None:
    """Forty steps of small batches: the loss at the end is below 2 and below what it was half way."""
    stage = Stage(steps=40, lr=1e-3, warmup=5, data=Recipe(clips=4, frames=2, questions=2, kinds={"now": 1}, seed=3))
    train(Plan(stages={"say": stage}), tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["answer"] < 2.0 < rows[0]["answer"] + 1.5
    assert rows[-1]["answer"] < rows[0]["answer"]
