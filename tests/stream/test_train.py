"""Training: the batches it sees, that it learns, and that it can be killed at any step."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stream.errors import ConfigError
from stream.model.loading import open_model
from stream.train import loop
from stream.train.data import ALL_FRAMES, FAMILIES, IGNORE, Batch, Clips, Recipe, admitted, draw
from stream.train.loop import Plan, Stage, export, learning_rate, load_plan, start, train
from stream.train.loss import Eyes, Recap, losses, pointing
from stream.train.plot import plot
from stream.train.questions import KINDS, STANDING
from stream.train.rehearsal import Shape
from stream.train.script import Style
from stream.train.world import Street

RECIPE = Recipe(clips=2, frames=(6,), questions=5, moments=2, carriers=(4,), detail=(0, 1), slot=40, seed=9)
CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "train").glob("*.yaml"))


def clips(recipe: Recipe, model: loop.LlavaOnevision) -> Clips:
    shape = Shape(model.geometry.grid, len(model.system_ids()), model.geometry.width, (6, 6))
    return Clips(recipe, shape, 96, model, lambda images: model.features(model.pixels(images)))


@pytest.fixture(scope="module")
def model() -> loop.LlavaOnevision:
    return start(Plan(stages={}))


def plan(steps: int, every: int) -> Plan:
    look = Recipe(clips=2, frames=(2,), seed=8)
    stages = {
        "look": Stage(steps=4, lr=1e-3, see=1.0, warmup=2, data=look),
        "say": Stage(steps=steps, lr=1e-3, warmup=2, see=0.1, point=0.1, data=RECIPE),
    }
    return Plan(stages=stages, checkpoint_every=every)


def same(one: Any, two: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    slots = getattr(type(one), "__slots__", ())
    return one is two or all(same(getattr(one, name), getattr(two, name)) for name in slots)


def test_a_batch_is_what_its_number_says(model: loop.LlavaOnevision) -> None:
    one, two, other = clips(RECIPE, model)[3], clips(RECIPE, model)[3], clips(RECIPE, model)[4]
    assert same(one, two)
    assert not same(one, other)


@pytest.mark.parametrize("detail", [0, 2, ALL_FRAMES])
@pytest.mark.parametrize("retain", [{"adjacent": {}}, {"adjacent": {"when_full": "merge"}}, {"fifo": {}}])
def test_a_question_reads_only_what_the_bank_held(model: loop.LlavaOnevision, detail: int, retain: dict) -> None:
    recipe = Recipe(clips=3, frames=(9,), questions=6, carriers=(4,), detail=(detail,), retain=(retain,), slot=40)
    batch = clips(recipe, model)[1]
    script, asked = batch.script, batch.asked
    assert script is not None
    assert asked is not None
    for row in range(3):
        for step in range(9):  # a frame reads at most M slots, all of earlier frames
            assert float(script.frames.mix[row, step, :, step:].abs().sum()) == 0.0
            assert int(script.frames.valid[row, step].sum()) == min(step, 4)
        mixes = script.questions.mix[row]
        assert torch.allclose(mixes.sum(-1)[script.questions.valid[row]], torch.tensor(1.0))
        held = (asked.point_to[row] > 0) & ~script.questions.valid[row]
        assert not held.any(), "evidence lies in a slot that is empty"
    assert script.detail.frame.shape[2] == (9 if detail == ALL_FRAMES else detail)
    real = asked.family >= 0
    assert real.float().mean() > 0.5
    assert bool(((asked.target != IGNORE).any(-1) == real).all())


def test_answers_stand_where_they_are_learned(model: loop.LlavaOnevision) -> None:
    batch = clips(RECIPE, model)[0]
    asked = batch.asked
    assert asked is not None
    for row, number in torch.nonzero(asked.family >= 0).tolist():
        learned = asked.target[row, number]
        before = int(asked.point_from[row, number, 0])
        said = learned[learned != IGNORE].tolist()
        assert said[-1] == model.tokenizer.eos_token_id
        assert asked.text[row, number, before + 1 : before + len(said) + 1].tolist() == said
        mark = int(asked.point_from[row, number, 1])
        assert mark == -1 or int(asked.text[row, number, mark]) in model.marks


def test_words_that_are_read_once_are_those_of_standing_questions(model: loop.LlavaOnevision) -> None:
    """All but the last token before the answer; of other questions, and without `modules`, none."""
    mixed = replace(RECIPE, kinds={"stand_is": 1.0, "now_what": 1.0}, slot=40, questions=8, moments=2)
    plain, batch = clips(mixed, model)[0], clips(replace(mixed, modules=1.0), model)[0]
    assert plain.script is not None
    assert plain.script.module is None
    script, asked = batch.script, batch.asked
    assert script is not None
    assert script.module is not None
    assert asked is not None
    counts = {"standing": 0, "now": 0}
    for row, number in torch.nonzero(asked.family >= 0).tolist():
        family = FAMILIES[int(asked.family[row, number])]
        before = int(asked.point_from[row, number, 0])
        alone = torch.nonzero(script.module[row, number]).flatten().tolist()
        assert alone == (list(range(before)) if family == "standing" else [])
        counts[family] += 1
    assert min(counts.values()) > 0


def test_a_gate_leaves_what_moves() -> None:
    """Most empty seconds are gone, the count is exact, nothing is taken from a gap."""
    rng = np.random.default_rng(1)
    for seed in range(6):
        street = Street(seed, 90.0, Style(pause_s=8.0, faults=True))
        times = admitted(street, 20, rng)
        assert len(times) == 20
        assert times == sorted(set(times))
        assert not any(street.fault(t_s) in ("gap", "frozen") for t_s in times)
    clip = draw(rng, 5, ({},), 96)
    assert clip.images.shape == (5, 96, 96, 3)
    assert len(clip.truth.times_s) == 5


def test_a_noisy_camera_leaves_everything() -> None:
    street = Street(0, 90.0, Style(pause_s=30.0))
    times = admitted(street, 40, np.random.default_rng(1), ungated=True)
    still = [t_s for t_s in times if not any(event.direction for event, _ in street.at(t_s))]
    assert len(still) > 10
    assert max(later - earlier for earlier, later in pairwise(times)) < 2.5


def test_clips_take_turns(model: loop.LlavaOnevision) -> None:
    """Two batches show the same and ask differently; each is the same in whichever order they are drawn."""
    recipe = replace(RECIPE, turns=2, ungated=0.5)
    data = clips(recipe, model)
    first, second, third = data[2], data[3], data[4]
    assert torch.equal(first.images, second.images)
    assert not torch.equal(first.images, third.images)
    assert not same(first.asked, second.asked)
    assert same(clips(recipe, model)[3], second)
    assert same(data[2], first), "drawn anew"
    assert same(data[2], first), "from the clips that are still there"


def test_the_rate_warms_up_and_falls_to_its_floor() -> None:
    stage = Stage(steps=100, lr=1.0, warmup=10, data=RECIPE)
    rates = [learning_rate(stage, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == pytest.approx(1.0)
    assert rates[99] == pytest.approx(0.05, abs=0.001)
    cut = stage.model_copy(update={"steps": 55, "horizon_steps": 100})
    assert [learning_rate(cut, step) for step in range(55)] == rates[:55]


def test_an_unknown_kind_is_named(model: loop.LlavaOnevision) -> None:
    with pytest.raises(ValueError, match="no such question kind: nows"):
        clips(Recipe(clips=1, frames=(2,), questions=1, kinds={"nows": 1.0}), model)


def test_pointing_is_best_at_the_evidence(model: loop.LlavaOnevision) -> None:
    batch = clips(RECIPE, model)[2]
    asked = batch.asked
    assert asked is not None
    length, slots = asked.text.shape[2], asked.point_to.shape[2]
    wide = asked.point_to[:, :, None].expand(-1, -1, length, -1)
    right = float(pointing(wide, asked))
    assert right < float(pointing(torch.full_like(wide, 1 / slots), asked))
    assert right < float(pointing(wide.flip(-1) * 0.9, asked))


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_loss_falls_a_kill_costs_nothing_and_the_result_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(plan(8, 4), tmp_path / "whole")
    rows = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert [(row["stage"], row["step"]) for row in rows] == [("look", 4), ("say", 8)]
    plot(tmp_path / "whole" / "metrics.jsonl", tmp_path / "metrics.png")
    assert (tmp_path / "metrics.png").read_bytes().startswith(b"\x89PNG")

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
    assert loaded.geometry.pointer == whole.geometry.pointer
    assert loaded.marks == whole.marks
    assert loaded.question_ids("what is visible now?") == whole.question_ids("what is visible now?")


def small_step(model: loop.LlavaOnevision, batch: Batch) -> dict[str, float]:
    eyes = Eyes(model.geometry.width)
    return {key: value.item() for key, value in losses(model, eyes, batch).losses.items()}


def test_patches_are_what_is_pooled(model: loop.LlavaOnevision) -> None:
    pixels = model.pixels(clips(RECIPE, model)[0].images[0])
    with torch.no_grad():
        patches, feats = model.patches(pixels)
        assert torch.equal(feats, model.features(pixels))
    pooled = patches.view(len(pixels), 3, 2, 3, 2, -1).mean((2, 4)).flatten(1, 2)
    assert torch.allclose(pooled, feats, atol=1e-5)


def test_every_loss_is_there(model: loop.LlavaOnevision) -> None:
    found = small_step(model, clips(RECIPE, model)[0])
    assert sorted(found) == ["answer", "point", "see"]
    assert all(np.isfinite(value) for value in found.values())
    assert sorted(small_step(model, clips(Recipe(clips=1, frames=(3,)), model)[0])) == ["see"]


def test_carriers_are_asked_what_came_before(model: loop.LlavaOnevision) -> None:
    """The second probe reads carriers and nothing else, and its gradient ends below the layer that it reads."""
    batch = clips(RECIPE, model)[0]
    recap = Recap(model)
    given: list[tuple[int, ...]] = []
    recap.register_forward_pre_hook(lambda _, states: given.extend(tuple(part.shape) for part in states))
    found = losses(model, Eyes(model.geometry.width), batch, frozen=True, recap=recap)
    assert given == [(2, 6, model.geometry.width)] * 2
    assert "recap" not in losses(model, Eyes(model.geometry.width), batch, frozen=True).losses
    model.net.zero_grad(set_to_none=True)
    found.losses["recap"].backward()  # type: ignore[no-untyped-call]
    reached = [layer.mlp.up_proj.weight.grad is not None for layer in model.language.layers]
    assert reached == [depth < recap.depths[1] for depth in range(len(reached))]
    model.net.zero_grad(set_to_none=True)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_it_learns(tmp_path: Path) -> None:
    """Forty steps of small batches: answers become clearly likelier than they were."""
    data = Recipe(clips=4, frames=(2,), questions=4, kinds={"now_what": 1}, slot=40, seed=3)
    train(Plan(stages={"say": Stage(steps=40, lr=1e-3, warmup=5, data=data)}), tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["answer"] < 0.7 * rows[0]["answer"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_recipes_of_the_street_are_valid(path: Path) -> None:
    if path.name.startswith("lora"):
        pytest.skip("a recipe for real checkpoints; see test_lora.py")
    read = load_plan(path)
    known = {*KINDS, *STANDING, "*"}
    assert all(set(stage.data.kinds) <= known for stage in read.stages.values())
    assert set(FAMILIES) == {*KINDS.values(), *STANDING.values()}


def test_a_bad_recipe_names_its_key(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("stages: {look: {steps: many, lr: 1.0e-3, data: {clips: 1, frames: [1]}}}")
    with pytest.raises(ConfigError, match=r"bad\.yaml: stages\.look\.steps"):
        load_plan(path)
    path.write_text("stages: {look: {steps: 1, lr: 1.0e-3, data: {clips: 1, frames: [1], turns: 0}}}")
    with pytest.raises(ConfigError, match=r"bad\.yaml: stages\.look\.data: .*turns is at least 1; got 0"):
        load_plan(path)


def test_a_training_goes_on_from_another_state_or_checkpoint(tmp_path: Path) -> None:
    model = start(Plan(seed=1, stages={}))
    torch.save({"net": model.net.state_dict()}, tmp_path / "other.pt")
    export(model, tmp_path / "checkpoint")
    for begin, near in (("other.pt", 0.0), ("checkpoint", 0.01)):
        found = train(Plan(stages={}), tmp_path / f"from-{begin}", tmp_path / begin)
        for (name, one), (_, two) in zip(model.net.named_parameters(), found.net.named_parameters(), strict=True):
            assert torch.allclose(one, two, rtol=near, atol=0.0), name
            assert two.dtype == torch.float32
