"""The training loop: stages of a recipe file, resumable with the same result, metrics as JSON lines."""

from __future__ import annotations

import copy
import itertools
import json
import math
import pickle
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

from stream.errors import ConfigError
from stream.model import card, tiny
from stream.model.llava_onevision import LlavaOnevision
from stream.model.loading import open_model
from stream.train.data import Batch, Clips, Recipe
from stream.train.loss import Eyes, Found, Recap, losses
from stream.train.muon import Muon
from stream.train.phrasings import corpus
from stream.train.rehearsal import Shape

REPORT_EVERY = 20


class Stage(BaseModel):
    """One stage of a recipe: what is drawn, for how many steps, how fast."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int
    lr: float
    data: Recipe
    warmup: int = 100
    horizon_steps: int | None = None  # when the rate would be at its floor: a stage may end before
    see: float = 0.0  # weight of the probe's loss
    point: float = 0.0  # weight of the pointer's loss
    recap: float = 0.0  # weight of the second probe's loss: what carriers know of what came before them
    eyes_rate: float = 1.0  # of `lr`, for tower, projector and probe: sight that is there is lost at a high rate
    freeze_eyes: bool = False  # tower and projector stay as they are: memory cannot spoil sight, and steps are cheaper


class Plan(BaseModel):
    """A whole recipe file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = 0
    vocabulary: int = 1024
    positions: Literal["compact", "spaced", "time"] = "compact"
    carriers: int = 24  # the bank size that the checkpoint's card names
    checkpoint_every: int = 100
    stages: dict[str, Stage]


@dataclass(slots=True)
class Run:
    """A training under way: everything a checkpoint holds."""

    plan: Plan
    model: LlavaOnevision
    eyes: Eyes
    recap: Recap
    out: Path
    stage: int = 0
    step: int = 0
    seer: LlavaOnevision | None = None  # the tower as it was when the stage began: what retention is rehearsed with
    optimizers: tuple[torch.optim.Optimizer, ...] = ()

    def save(self) -> None:
        """Write the state, replacing the last one in one move."""
        assert self.seer is not None
        state = {
            "stage": self.stage,
            "step": self.step,
            "net": self.model.net.state_dict(),
            "seer": self.seer.net.state_dict(),
            "eyes": self.eyes.state_dict(),
            "recap": self.recap.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        part = self.out / "state.part"
        torch.save(state, part)
        part.replace(self.out / "state.pt")


def load_plan(path: Path) -> Plan:
    """A recipe from a YAML file. Raises ConfigError naming file and key."""
    try:
        return Plan.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path}: {where}: {first['msg']}") from error


def start(plan: Plan) -> LlavaOnevision:
    """The untrained tiny model with its tokeniser."""
    tokenizer = tiny.tokenizer(corpus(), plan.vocabulary)
    net = tiny.untrained(plan.seed, len(tokenizer)).train().requires_grad_(True)
    about = tiny.CARD.model_copy(update={"positions": plan.positions, "carriers": plan.carriers})
    return LlavaOnevision(net, tokenizer, about, "tiny")


def train(plan: Plan, out: Path, begin: Path | None = None) -> LlavaOnevision:
    """Run a recipe to its end, from `out/state.pt` where there is one; checkpoint and metrics go to `out`.

    `begin`: a state.pt of another run, or a checkpoint directory, whose weights are the start.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(plan.seed)
    model = start(plan)
    run = Run(plan, model, Eyes(model.geometry.width), Recap(model), out)
    saved: dict[str, Any] | None = None
    if (out / "state.pt").exists():
        saved = torch.load(out / "state.pt", weights_only=True)
        run.model.net.load_state_dict(saved["net"])
        run.eyes.load_state_dict(saved["eyes"])
        run.recap.load_state_dict(saved["recap"])
        run.stage, run.step = saved["stage"], saved["step"]
    elif begin is not None:
        run.model.net.load_state_dict(_weights(begin))
    for number, (name, stage) in enumerate(plan.stages.items()):
        if number < run.stage:
            continue
        if number > run.stage:
            run.stage, run.step = number, 0
        run.optimizers = _optimizers(run, stage)
        run.seer = copy.deepcopy(run.model)
        run.seer.net.eval().requires_grad_(False)
        if saved is not None:
            for optimizer, state in zip(run.optimizers, saved["optimizers"], strict=True):
                optimizer.load_state_dict(state)
            run.seer.net.load_state_dict(saved["seer"])
            saved = None
        _stage(run, name, stage)
    return run.model


def _weights(begin: Path) -> dict[str, Tensor]:
    if not begin.is_dir():
        found: dict[str, Tensor] = torch.load(begin, weights_only=True)["net"]
        return found
    model = open_model(str(begin), "cpu")
    assert isinstance(model, LlavaOnevision)
    return dict(model.net.state_dict())


def _optimizers(run: Run, stage: Stage) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the matrices between the layers, AdamW for what is looked up, read out or added: one rate for both."""
    model = run.model.net.model
    sight = (model.vision_tower, model.multi_modal_projector, run.eyes)
    for part in sight:
        part.requires_grad_(not stage.freeze_eyes)
    run.recap.requires_grad_(stage.recap > 0.0)
    run.model.net.zero_grad(set_to_none=True)  # gradients of what is frozen now would still count when clipping
    seeing = {id(item) for part in sight for item in part.parameters()}
    ends = {
        id(item)
        for part in (model.get_input_embeddings(), run.model.net.lm_head, run.eyes, run.recap)
        for item in part.parameters()
    }
    ends |= {id(part.weight) for part in model.modules() if isinstance(part, nn.Embedding)}
    groups: dict[tuple[bool, bool, bool], list[nn.Parameter]] = defaultdict(list)
    for item in (*run.model.net.parameters(), *run.eyes.parameters(), *run.recap.parameters()):
        if item.requires_grad:
            groups[item.ndim == 2 and id(item) not in ends, id(item) in seeing, item.ndim > 1].append(item)
    split: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for (inner, sees, matrix), items in groups.items():
        rate = stage.eyes_rate if sees else 1.0
        split[inner].append({"params": items, "weight_decay": 0.02 if matrix else 0.0, "rate": rate})
    return Muon(split[True], lr=stage.lr), torch.optim.AdamW(split[False], lr=stage.lr, betas=(0.9, 0.98), fused=True)


def batches(run: Run, stage: Stage) -> Iterator[Batch]:
    """The batches of a stage from the run's step on, drawn in a process of their own."""
    model, seer = run.model, run.seer
    assert seer is not None
    geo = model.geometry
    vision = model.net.config.vision_config
    side = vision.image_size // vision.patch_size
    shape = Shape(geo.grid, len(model.system_ids()), geo.width, (side, side))
    recipe = replace(stage.data, positions=run.plan.positions)

    def see(images: Tensor) -> Tensor:
        return seer.features(seer.pixels(images))

    clips = Clips(recipe, shape, geo.image_px, model, see)
    rest = Subset(_Packed(clips), range(run.step, stage.steps))
    loader: DataLoader[bytes] = DataLoader(
        rest, batch_size=None, num_workers=1, prefetch_factor=4, multiprocessing_context="fork"
    )
    return map(pickle.loads, loader)


class _Packed(Dataset[bytes]):
    """Batches as bytes: each of their many tensors would else be a file handed over on a socket, a fifth of a step."""

    def __init__(self, clips: Clips) -> None:
        self._clips = clips

    def __getitem__(self, index: int) -> bytes:
        return pickle.dumps(self._clips[index])


def precision() -> AbstractContextManager[Any]:
    """bf16 where the processor multiplies it natively; elsewhere it is emulated, a hundred times slower."""
    native = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return torch.autocast("cpu", torch.bfloat16) if native else nullcontext()


def _stage(run: Run, name: str, stage: Stage) -> None:
    model, plan = run.model, run.plan
    tally = _Tally(run.out / "metrics.jsonl", name)
    with tqdm(total=stage.steps, initial=run.step, desc=name, unit="step", smoothing=0.02) as bar:
        for batch in batches(run, stage):
            rate = learning_rate(stage, run.step)
            for group in itertools.chain(*(optimizer.param_groups for optimizer in run.optimizers)):
                group["lr"] = rate * group["rate"]
            with precision():
                found = losses(model, run.eyes, batch, stage.freeze_eyes, run.recap if stage.recap else None)
            weights = {"see": stage.see, "answer": 1.0, "point": stage.point, "recap": stage.recap}
            loss = sum((weights[key] * value for key, value in found.losses.items()), torch.zeros(()))
            for optimizer in run.optimizers:
                optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.net.parameters(), 1.0)
            for optimizer in run.optimizers:
                optimizer.step()
            run.step += 1
            bar.update()
            tally.add(found)
            if run.step % REPORT_EVERY == 0 or run.step == stage.steps:
                bar.set_postfix(tally.write(run.step, rate))
            if run.step % plan.checkpoint_every == 0 or run.step == stage.steps:
                run.save()


class _Tally:
    """Metrics since the last report, and their file."""

    def __init__(self, path: Path, stage: str) -> None:
        self.path, self.stage, self.began_s = path, stage, time.monotonic()
        self._sums: Counter[str] = Counter()
        self._count = 0
        self._right: Counter[str] = Counter()
        self._asked: Counter[str] = Counter()

    def add(self, found: Found) -> None:
        """One step."""
        self._count += 1
        self._sums.update(
            {key: float(value.detach()) for key, value in (*found.losses.items(), ("right", found.right))}
        )
        for name, (right, asked) in found.by_family.items():
            self._right[name] += right
            self._asked[name] += asked

    def write(self, step: int, rate: float) -> dict[str, float]:
        """Append a line of means and begin anew; returns what a progress bar shows."""
        means = {key: round(value / self._count, 4) for key, value in self._sums.items()}
        families = {name: round(self._right[name] / asked, 3) for name, asked in self._asked.items() if asked}
        seconds = round(time.monotonic() - self.began_s, 1)
        row = {"stage": self.stage, "step": step, "lr": rate, "seconds": seconds, **means, "families": families}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        for counter in (self._sums, self._right, self._asked):
            counter.clear()
        self._count = 0
        return means


def learning_rate(stage: Stage, step: int) -> float:
    """Linear warm-up, then a cosine down to a twentieth at the horizon."""
    if step < stage.warmup:
        return stage.lr * (step + 1) / stage.warmup
    way = (step - stage.warmup) / max(1, (stage.horizon_steps or stage.steps) - stage.warmup)
    return stage.lr * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * way)))


def export(model: LlavaOnevision, out: Path) -> None:
    """A checkpoint directory that `open_model` loads, weights in bf16."""
    net = copy.deepcopy(model.net).to(torch.bfloat16)
    net.save_pretrained(out)
    model.tokenizer.save_pretrained(out)
    card.save(model.card, out)
