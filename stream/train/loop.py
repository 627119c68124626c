"""The training loop: stages of a recipe file, resumable at every checkpoint, metrics as JSON lines."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter
from torch.utils.data import DataLoader
from tqdm import tqdm

from stream.model import card, tiny
from stream.model.llava_onevision import LlavaOnevision
from stream.train.data import Batch, Clips, Recipe, Shape
from stream.train.loss import losses
from stream.train.questions import CLASSES, corpus


class Stage(BaseModel):
    """One stage of a recipe: what is drawn, for how many steps, how fast."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int
    lr: float
    data: Recipe
    warmup: int = 100
    see: float = 0.0  # weight of the probe's loss
    freeze_eyes: bool = False  # tower and projector stay as they are: half the cost, and memory cannot spoil sight


class Plan(BaseModel):
    """A whole recipe file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = 0
    vocabulary: int = 512
    slot: int = 18
    checkpoint_every: int = 200
    stages: dict[str, Stage]


@dataclass(slots=True)
class Run:
    """A training under way: everything a checkpoint holds."""

    plan: Plan
    model: LlavaOnevision
    eyes: torch.nn.Linear  # the probe: [D] -> what is in view; training only
    out: Path
    stage: int = 0
    step: int = 0
    optimizer: torch.optim.Optimizer | None = field(default=None)

    def save(self) -> None:
        """Write the state, replacing the last one in one move."""
        assert self.optimizer is not None
        state = {
            "stage": self.stage,
            "step": self.step,
            "net": self.model.net.state_dict(),
            "eyes": self.eyes.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        part = self.out / "state.part"
        torch.save(state, part)
        part.replace(self.out / "state.pt")


def load_plan(path: Path) -> Plan:
    """A recipe from a YAML file."""
    return TypeAdapter(Plan).validate_python(yaml.safe_load(path.read_text(encoding="utf-8")))


def start(plan: Plan) -> LlavaOnevision:
    """The untrained tiny model with its tokeniser."""
    tokenizer = tiny.tokenizer(corpus(), plan.vocabulary)
    net = tiny.untrained(plan.seed, len(tokenizer)).train().requires_grad_(True)
    return LlavaOnevision(net, tokenizer, tiny.CARD, "tiny")


def train(plan: Plan, out: Path) -> LlavaOnevision:
    """Run a recipe to its end, from `out/state.pt` where there is one; checkpoint and metrics go to `out`."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(plan.seed)
    model = start(plan)
    run = Run(plan, model, torch.nn.Linear(model.geometry.width, len(CLASSES)), out)
    saved: dict[str, Any] | None = None
    if (out / "state.pt").exists():
        saved = torch.load(out / "state.pt", weights_only=True)
        run.model.net.load_state_dict(saved["net"])
        run.eyes.load_state_dict(saved["eyes"])
        run.stage, run.step = saved["stage"], saved["step"]
    for number, (name, stage) in enumerate(plan.stages.items()):
        if number < run.stage:
            continue
        if number > run.stage:
            run.stage, run.step = number, 0
        run.optimizer = _optimizer(run, stage)
        if saved is not None:
            run.optimizer.load_state_dict(saved["optimizer"])
            saved = None
        _stage(run, name, stage)
    return run.model


def _optimizer(run: Run, stage: Stage) -> torch.optim.Optimizer:
    model = run.model.net.model
    for part in (model.vision_tower, model.multi_modal_projector, run.eyes):
        part.requires_grad_(not stage.freeze_eyes)
    run.model.net.zero_grad(set_to_none=True)  # gradients of what is frozen now would still count when clipping
    chosen = [item for item in (*run.model.net.parameters(), *run.eyes.parameters()) if item.requires_grad]
    decay = [item for item in chosen if item.ndim > 1]
    plain = [item for item in chosen if item.ndim <= 1]
    groups = [{"params": decay, "weight_decay": 0.02}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=stage.lr, betas=(0.9, 0.98), fused=True)


def _stage(run: Run, name: str, stage: Stage) -> None:
    model, plan = run.model, run.plan
    geo = model.geometry
    pad = model.tokenizer.pad_token_id
    shape = Shape(geo.image_px, geo.visual, len(model.system_ids()), pad, plan.slot)
    clips = Clips(stage.data, shape, model, stage.steps)
    rest = torch.utils.data.Subset(clips, range(run.step, stage.steps))
    loader: DataLoader[Batch] = DataLoader(rest, batch_size=None, num_workers=1, prefetch_factor=4)
    assert run.optimizer is not None
    began = time.monotonic()
    with tqdm(total=stage.steps, initial=run.step, desc=name, unit="step", smoothing=0.02) as bar:
        for batch in loader:
            rate = _rate(stage, run.step)
            for group in run.optimizer.param_groups:
                group["lr"] = rate
            with torch.autocast("cpu", torch.bfloat16):
                found = losses(model, run.eyes, batch)
            loss = stage.see * found["see"] + found.get("answer", 0.0)
            run.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.net.parameters(), 1.0)
            run.optimizer.step()
            run.step += 1
            bar.update()
            if run.step % 20 == 0 or run.step == stage.steps:
                row = {key: round(value.item(), 4) for key, value in found.items()}
                bar.set_postfix(row)
                with (run.out / "metrics.jsonl").open("a", encoding="utf-8") as file:
                    at = {"stage": name, "step": run.step, "lr": rate, "seconds": round(time.monotonic() - began, 1)}
                    file.write(json.dumps({**at, **row}) + "\n")
            if run.step % plan.checkpoint_every == 0 or run.step == stage.steps:
                run.save()


def _rate(stage: Stage, step: int) -> float:
    """Linear warm-up, then a cosine down to a twentieth."""
    if step < stage.warmup:
        return stage.lr * (step + 1) / stage.warmup
    way = (step - stage.warmup) / max(1, stage.steps - stage.warmup)
    return stage.lr * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * way)))


def export(model: LlavaOnevision, out: Path) -> None:
    """A checkpoint directory that `open_model` loads, weights in bf16."""
    net = model.net.to(torch.bfloat16)
    net.save_pretrained(out)
    model.tokenizer.save_pretrained(out)
    card.save(model.card, out)
