"""LoRA on a small random checkpoint of the real classes: it learns, and what it leaves is what the daemon loads."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import peft
import pytest
import torch

from daemon.session import Session
from stream.errors import ConfigError
from stream.model.llava_onevision import LlavaOnevision
from stream.model.loading import open_model
from stream.train import adapt
from stream.train.adapt import answers, descend, pace, train
from stream.train.data import Batch, Recipe
from stream.train.lora import TARGETS, Adapter, Plan, Source, Stage, optimizer, wrap
from stream.train.mixture import Eye, Mixture
from stream.train.unroll import Unrolled, sequence
from stream.types import Frame
from tests.models import absorb, make_bank, make_encoder, random_model
from tests.stream.kit import QUESTIONS, RECIPE, film, opened, plan, save_base, save_videos

pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::DeprecationWarning", "ignore:.is_gradient_checkpointing:FutureWarning"
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return save_videos(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def trained(base: Path, source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert train(plan(base, source), out, "cpu") == out / "merged"
    return out


def batch_of(model: LlavaOnevision, recipe: Recipe = RECIPE, learns: bool = False, seed: int = 0) -> tuple[Batch, Eye]:
    eye = Eye(model, learns)
    return Mixture(recipe, 0.0, eye, iter(())).told(film(model, seed=seed), np.random.default_rng(seed)), eye


# -- what it leaves ----------------------------------------------------------------------------------------------


def test_the_loss_falls(trained: Path) -> None:
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [(row["stage"], row["step"]) for row in rows] == [("look", 6), ("remember", 6)]
    assert rows[1]["answer"] < 0.6 * rows[0]["answer"]
    assert rows[1]["losses"] == {"videos": rows[1]["answer"]}
    assert rows[1]["broken"] == {"missing": 1, "unreadable": 1}
    broken = [json.loads(line) for line in (trained / "broken.jsonl").read_text().splitlines()]
    assert [row["item"].rpartition("/")[2] for row in broken] == ["items.json item 5 (v4)", "items.json item 6 (v5)"]


def test_merged_is_base_plus_adapter(base: Path, trained: Path) -> None:
    """The same logits, for a frame and for a text, from weights that were merged and from weights and adapter."""
    plain, merged = opened(base), opened(trained / "merged")
    both = opened(base)
    peft.PeftModel.from_pretrained(both.net, str(trained / "adapter")).eval()
    about = {"image_mean": plain.card.image_mean, "prefix": plain.card.prefix}
    assert {key: getattr(merged.card, key) for key in about} == about
    found = []
    with torch.no_grad():
        for model in (plain, merged, both):
            batch, eye = batch_of(model)
            found.append((eye.seen, scores(model, batch, eye)))
    for part in range(2):
        alone, one, two = (item[part] for item in found)
        assert float((one - two).norm() / two.norm()) < 1e-5
        assert float((one - alone).norm() / alone.norm()) > 1e-3, "it did learn something"


def scores(model: LlavaOnevision, batch: Batch, eye: Eye) -> torch.Tensor:
    """Logits of the real text tokens [V, vocabulary] under the training's plan."""
    assert batch.script is not None
    assert batch.asked is not None
    real = batch.script.text_real
    embeds = sequence(model, eye.seen[None], batch.asked.text, real)
    hidden = model.run(embeds, Unrolled.of(batch.script, model.rope, embeds))
    found: torch.Tensor = model.net.lm_head(hidden[0, -int(real.sum()) :])
    return found


def test_the_daemon_loads_it_and_answers(trained: Path) -> None:
    model = opened(trained / "merged")
    geo = model.geometry
    assert (geo.trained, geo.positions, geo.carriers) == (True, "spaced", 3)
    bank = make_bank(model, 3, 1, positions="spaced")
    for number, image in enumerate(film(model).images):
        absorb(make_encoder(model), bank, Frame("door", number, 0, float(number), float(number), image))
    session = Session(model, bank.policy.positions, [bank.fork()], model.question_ids(QUESTIONS[0]), 8)
    while not session.done:
        session.step()
    assert session.text(0) == "a red car"
    assert (trained / "merged" / "preprocessor_config.json").exists()


def test_a_film_in_training_is_a_film_in_the_daemon() -> None:
    """Evicted, shown in full and positioned alike: the training's logits are those of the real bank."""
    model = random_model()
    recipe = replace(RECIPE, carriers=(3,), detail=(2,), positions="spaced")
    batch, eye = batch_of(model, recipe)
    shown = film(model)
    bank, encoder = make_bank(model, 3, 2, positions="spaced"), make_encoder(model)
    for number, (image, t_s) in enumerate(zip(shown.images, shown.times_s, strict=True)):
        absorb(encoder, bank, Frame("door", number, 0, t_s, t_s, image))
    assert bank.evicted == 2
    view = bank.fork(now_s=shown.times_s[-1])
    with torch.no_grad():
        ours = scores(model, batch, eye).split([len(ids) for ids, _ in shown.texts])
        for number, (ids, _) in enumerate(shown.texts):
            slab = model.slab([view.past], len(ids))
            where = bank.policy.positions.text(view.count, len(ids))[None]
            theirs = model.logits(model.forward(model.embed(torch.tensor([ids])), where, slab)[0])
            assert float((ours[number] - theirs).norm() / theirs.norm()) < 1e-4


# -- how it gets there -------------------------------------------------------------------------------------------


def test_a_kill_costs_nothing(base: Path, source: Source, trained: Path, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    save, calls = adapt.Run.save, []

    def killed(run: adapt.Run) -> None:
        save(run)
        calls.append(run.step)
        if calls == [4, 6, 4]:  # in the middle of the second stage
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adapt.Run, "save", killed)
        with pytest.raises(Killed):
            train(plan(base, source), tmp_path, "cpu")
    assert (tmp_path / "adapter" / "adapter_config.json").exists()
    train(plan(base, source), tmp_path, "cpu")
    for name in ("adapter/adapter_model.safetensors", "merged/model.safetensors", "broken.jsonl"):
        assert (tmp_path / name).read_bytes() == (trained / name).read_bytes(), name
    with pytest.raises(ConfigError, match="another recipe"):
        train(plan(base, source, seed=1), tmp_path, "cpu")


def test_each_stage_trains_its_parts(base: Path, source: Source) -> None:
    """LoRA sits in tower and language model apart, and stage two leaves the tower's alone."""
    recipe = plan(base, source)
    model = opened(base)
    before = {name for name, item in model.net.named_modules() if isinstance(item, torch.nn.Linear)}
    wrapped = wrap(model, recipe)
    inside = {name for name, item in model.net.named_modules() if hasattr(item, "lora_A")}
    layers = {name for name in before if "layers" in name}
    assert inside == layers
    assert len(inside) == 4 * 6 + 4 * 7
    seen = []
    for stage in recipe.stages.values():
        chosen = optimizer(wrapped, stage)
        names = {name for name, weight in wrapped.named_parameters() if weight.requires_grad}
        assert all("lora_" in name for name in names)
        seen.append({"vision_tower" in name for name in names})
        assert len(names) == sum(len(group["params"]) for group in chosen.param_groups)
        assert [group["share"] for group in chosen.param_groups] == pytest.approx([0.1, 1.0][2 - len(seen[-1]) :])
    assert seen == [{True, False}, {False}]
    alone = plan(base, source, stages={"only": recipe.stages["remember"]})
    fresh = opened(base)
    wrap(fresh, alone)
    assert {"vision_tower" in name for name, item in fresh.net.named_modules() if hasattr(item, "lora_A")} == {False}


def test_a_part_that_is_nowhere_is_named(base: Path, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TARGETS, "vision", r".*somewhere_else\.q_proj")
    with pytest.raises(ConfigError, match="no layer of its vision part"):
        wrap(opened(base), plan(base, source))


def grown(model: LlavaOnevision, wrapped: peft.PeftModel) -> list[torch.Tensor]:
    """LoRA weights that are no longer nothing, so that every one of them has a gradient."""
    torch.manual_seed(3)
    weights = [weight for name, weight in wrapped.named_parameters() if "lora_" in name]
    with torch.no_grad():
        for weight in weights:
            weight.normal_(0, 0.05)
    return weights


def test_accumulated_batches_are_one_large_batch(base: Path, source: Source) -> None:
    """By tokens, not by batches: a long answer in one batch weighs as much as in any other."""
    model = opened(base)
    wrapped = wrap(model, plan(base, source, adapter=Adapter(rank=4, dropout=0.0)))
    weights = grown(model, wrapped)
    chosen = optimizer(wrapped, plan(base, source).stages["look"])
    told = []
    for seed in (0, 1):
        batch, eye = batch_of(model, learns=True, seed=seed)
        told.append(answers(model, batch, eye.seen))
    total = sum(item.tokens for item in told)
    expected = torch.autograd.grad((told[0].loss + told[1].loss) / total, weights)
    limit = min(1.0, 1.0 / float(torch.stack([item.norm() for item in expected]).norm()))
    for seed in (0, 1):
        batch, eye = batch_of(model, learns=True, seed=seed)
        answers(model, batch, eye.seen).loss.backward()
    found: list[torch.Tensor] = []
    chosen.register_step_pre_hook(
        lambda *_: found.extend(weight.grad.clone() for weight in weights if weight.grad is not None)
    )
    descend(chosen, weights, total)
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two * limit, rtol=1e-3, atol=1e-6)


def test_checkpointing_changes_no_gradient() -> None:
    """With a pointer too, whose weights leave the checkpointed layer by the side door."""
    found = []
    for checkpointing in (False, True):
        model = random_model()
        model.net.train()
        stage = Stage(train=("vision", "language"), steps=1, lr=1.0, data=RECIPE)
        recipe = Plan(model="random", adapter=Adapter(dropout=0.0), checkpointing=checkpointing, stages={"one": stage})
        weights = grown(model, wrap(model, recipe))
        batch, eye = batch_of(model, learns=True)
        assert batch.asked is not None
        batch.asked.point_to[..., 0] = 1.0
        batch.asked.point_from[..., 0] = 3
        told = answers(model, batch, eye.seen, point=1.0)
        assert float(told.loss.detach()) > told.answer
        found.append(torch.autograd.grad(told.loss, weights))
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)


def test_bf16_weights_train_in_fp32_adapters(base: Path, source: Source) -> None:
    model = open_model(str(base), "cpu", "bfloat16")
    assert isinstance(model, LlavaOnevision)
    wrapped = wrap(model, plan(base, source))
    assert {weight.dtype for name, weight in wrapped.named_parameters() if "lora_" in name} == {torch.float32}
    grown(model, wrapped)
    batch, eye = batch_of(model, learns=True)
    told = answers(model, batch, eye.seen)
    told.loss.backward()
    assert torch.isfinite(told.loss)


def test_pace() -> None:
    assert [pace(step, 100, 0.1) for step in (0, 4, 9, 10)] == pytest.approx([0.1, 0.5, 1.0, 1.0])
    assert pace(55, 100, 0.1) == pytest.approx(0.5)
    assert pace(99, 100, 0.1) < 0.01
    assert pace(0, 1, 0.0) == 1.0
