"""The training of an adapter: batches accumulated to steps, stages, metrics, and a state to go on from after a kill.

`longwatch train -c configs/train/lora.yaml --out DIR` leaves

    DIR/adapter        for `peft`, renewed every `save_every` steps
    DIR/merged         for the daemon: `model.path`
    DIR/metrics.jsonl  a line every few steps: loss and whole answers right, street and videos apart; what is broken
    DIR/broken.jsonl   the data that was skipped
    DIR/state.pt       from here a killed training goes on with the same result
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import peft
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from stream.errors import ConfigError
from stream.model.llava_onevision import LlavaOnevision
from stream.model.loading import open_model
from stream.positions import TABLE
from stream.train.data import IGNORE, Batch
from stream.train.lora import Plan, Stage, merge, optimizer, wrap
from stream.train.loss import pointing
from stream.train.mixture import Eye, Film, Films, Library, Mixture
from stream.train.unroll import Unrolled, sequence
from stream.train.videos import Item, Ledger, read

REPORT_EVERY = 10


@dataclass(slots=True)
class Run:
    """A training under way: everything a saved state holds."""

    plan: Plan
    model: LlavaOnevision
    wrapped: peft.PeftModel
    library: Library | None
    out: Path
    stage: int = 0
    step: int = 0
    optimizer: torch.optim.Optimizer | None = field(default=None)

    def save(self) -> None:
        """The adapter, and the state in one move."""
        assert self.optimizer is not None
        self.wrapped.save_pretrained(str(self.out / "adapter"), save_embedding_layers=False)
        state = {
            "plan": self.plan.model_dump_json(),
            "stage": self.stage,
            "step": self.step,
            "adapter": peft.get_peft_model_state_dict(self.wrapped, save_embedding_layers=False),
            "optimizer": self.optimizer.state_dict(),
            "random": [torch.get_rng_state(), *torch.cuda.get_rng_state_all()],
            "cursor": self.library.cursor if self.library else 0,
            "ledger": self.library.ledger.state() if self.library else None,
        }
        part = self.out / "state.part"
        torch.save(state, part)
        part.replace(self.out / "state.pt")

    def restore(self) -> dict[str, Any] | None:
        """Adapter and counters of a saved state; what belongs to the stage is returned. Raises ConfigError."""
        path = self.out / "state.pt"
        if not path.exists():
            return None
        saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if saved["plan"] != self.plan.model_dump_json():
            raise ConfigError(f"{path}: is the state of another recipe; take a new folder, or remove it to start anew")
        peft.set_peft_model_state_dict(self.wrapped, saved["adapter"])
        self.stage, self.step = saved["stage"], saved["step"]
        if self.library is not None:
            self.library.cursor = saved["cursor"]
            self.library.ledger.resume(saved["ledger"])
        return saved


def train(plan: Plan, out: Path, device: str = "auto") -> Path:
    """Run a recipe to its end, from `out/state.pt` where there is one; returns the merged checkpoint's folder.

    Raises ConfigError, ModelError, BrokenData.
    """
    out.mkdir(parents=True, exist_ok=True)
    library = _library(plan, out)
    model = open_model(plan.model, device, plan.dtype)
    assert isinstance(model, LlavaOnevision)
    _fits(plan, model)
    torch.manual_seed(plan.seed)
    model.net.train()
    run = Run(plan, model, wrap(model, plan), library, out)
    saved = run.restore()
    for number, (name, stage) in enumerate(plan.stages.items()):
        if number < run.stage:
            continue
        if number > run.stage:
            run.stage, run.step = number, 0
        run.optimizer = optimizer(run.wrapped, stage)
        torch.manual_seed(plan.seed + 1 + number)
        if saved is not None:
            run.optimizer.load_state_dict(saved["optimizer"])
            torch.set_rng_state(saved["random"][0])
            torch.cuda.set_rng_state_all(saved["random"][1:])
            saved = None
        _stage(run, name, stage)
    return merge(model, run.wrapped, plan, out / "merged")


def _library(plan: Plan, out: Path) -> Library | None:
    """Every item of every source, what is broken among them counted. Raises ConfigError, BrokenData."""
    if not plan.videos:
        for name, stage in plan.stages.items():
            if stage.street < 1:
                raise ConfigError(f"stages.{name}.street: is {stage.street:g}, but no videos are given for the rest")
        return None
    found = [item for source in plan.videos for item in read(source.items, source.folder)]
    ledger = Ledger(found, plan.max_broken_share, out / "broken.jsonl")
    return Library([item for item in found if isinstance(item, Item)], ledger, plan.workers)


def _fits(plan: Plan, model: LlavaOnevision) -> None:
    geo = model.geometry
    scheme = TABLE[plan.positions](len(model.system_ids()), geo.visual)
    for name, stage in plan.stages.items():
        if stage.data.questions < 1:
            raise ConfigError(f"stages.{name}.data.questions: at least one; only the tiny model trains its eyes alone")
        carriers = min(max(stage.data.carriers), max(stage.data.frames))
        bound = scheme.bound(carriers, stage.data.slot)
        if bound > geo.max_positions:
            text = (
                f"{carriers} carriers at {plan.positions!r} positions reach {bound}, the checkpoint {geo.max_positions}"
            )
            raise ConfigError(f"stages.{name}.data.carriers: {text}; use fewer, or positions: compact")


@dataclass(frozen=True, slots=True)
class Told:
    """What one batch gave."""

    loss: Tensor  # sum over answer tokens, the pointer's share included
    answer: float  # sum of the answers' cross entropy alone
    tokens: int
    right: int  # whole answers right, teacher forced
    asked: int


def answers(model: LlavaOnevision, batch: Batch, feats: Tensor, point: float = 0.0) -> Told:
    """A batch through tower's `feats` [B*F, N, D] and language model; sums, so that batches add up to a step."""
    assert batch.script is not None
    assert batch.asked is not None
    asked, script = _moved(batch.asked, feats.device), _moved(batch.script, feats.device)
    frames = feats.view(*batch.images.shape[:2], *feats.shape[1:])
    embeds = sequence(model, frames, asked.text, script.text_real)
    plan = Unrolled.of(script, model.rope, embeds, model.geometry.pointer)
    first = embeds.shape[1] - int(script.text_real.sum())
    hidden = model.run(embeds, plan)[0, first:]  # real text tokens alone
    target = asked.target[script.text_real]
    learn = target != IGNORE
    scores = model.net.lm_head(hidden[learn]).float()
    answer = F.cross_entropy(scores, target[learn], reduction="sum")
    tokens = int(learn.sum())
    loss = answer
    if plan.pointed is not None and point > 0:
        loss = loss + point * tokens * pointing(plan.pointed.float(), asked)
    where = asked.target != IGNORE
    wrong = torch.zeros_like(asked.target)
    wrong[where] = (scores.argmax(-1) != target[learn]).long()
    real = where.any(-1)
    return Told(loss, float(answer.detach()), tokens, int(((wrong.sum(-1) == 0) & real).sum()), int(real.sum()))


def _moved(item: Any, device: torch.device) -> Any:
    """A dataclass of tensors, or of such dataclasses, on `device`."""
    if isinstance(item, Tensor):
        return item.to(device)
    if not dataclasses.is_dataclass(item) or isinstance(item, type):
        return item
    parts = {part.name: _moved(getattr(item, part.name), device) for part in dataclasses.fields(item)}
    return replace(item, **parts)


def _stage(run: Run, name: str, stage: Stage) -> None:
    plan, model = run.plan, run.model
    optimizer = run.optimizer
    assert optimizer is not None
    recipe = replace(stage.data, positions=plan.positions)
    eye = Eye(model, "vision" in stage.train)
    films: Iterator[Film] = iter(())
    if run.library is not None:
        source = Films(run.library.items, recipe, model, model.geometry.image_px, plan.max_video_s)
        films = run.library.films(source)
    mixture = Mixture(recipe, stage.street, eye, films)
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    tally = _Tally(run, name)
    with tqdm(total=stage.steps, initial=run.step, desc=name, unit="step", smoothing=0.05) as bar:
        while run.step < stage.steps:
            rate = stage.lr * pace(run.step, stage.steps, stage.warmup)
            for group in optimizer.param_groups:
                group["lr"] = rate * group["share"]
            tokens = 0
            for part in range(plan.accumulate):
                batch, street = mixture(run.step * plan.accumulate + part)
                told = answers(model, batch, eye.seen, stage.point)
                told.loss.backward()  # type: ignore[no-untyped-call]
                tokens += told.tokens
                tally.add(told, "street" if street else "videos")
            descend(optimizer, weights, tokens)
            run.step += 1
            bar.update()
            if run.step % REPORT_EVERY == 0 or run.step == stage.steps:
                bar.set_postfix(tally.write(rate))
            if run.step % plan.save_every == 0 or run.step == stage.steps:
                run.save()


def descend(optimizer: torch.optim.Optimizer, weights: list[Tensor], tokens: int) -> None:
    """One step down the mean over all `tokens` of the accumulated batches: the gradient of one large batch."""
    for weight in weights:
        if weight.grad is not None:
            weight.grad /= max(1, tokens)
    torch.nn.utils.clip_grad_norm_(weights, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def pace(step: int, steps: int, warmup: float) -> float:
    """Linear warm-up over a share of the steps, then a cosine towards zero."""
    first = round(steps * warmup)
    if step < first:
        return (step + 1) / first
    return 0.5 * (1 + math.cos(math.pi * (step - first) / max(1, steps - first)))


class _Tally:
    """Metrics since the last report, and their file."""

    def __init__(self, run: Run, stage: str) -> None:
        self._run, self._stage, self._began_s = run, stage, time.monotonic()
        self._sums: Counter[str] = Counter()

    def add(self, told: Told, source: str) -> None:
        """One batch of street or of videos."""
        for name in (source, "all"):
            self._sums.update({f"{name} tokens": told.tokens, f"{name} loss": told.answer})
            self._sums.update({f"{name} asked": told.asked, f"{name} right": told.right})

    def write(self, rate: float) -> Mapping[str, float]:
        """Append a line and begin anew; returns what a progress bar shows."""
        run, sums = self._run, self._sums
        names = [name for name in ("all", "street", "videos") if sums[f"{name} asked"]]
        loss = {name: round(sums[f"{name} loss"] / sums[f"{name} tokens"], 4) for name in names}
        right = {name: round(sums[f"{name} right"] / sums[f"{name} asked"], 4) for name in names}
        sums.clear()
        whole = {"answer": loss.pop("all"), "right": right.pop("all")}
        row = {
            "stage": self._stage,
            "step": run.step,
            "lr": rate,
            "seconds": round(time.monotonic() - self._began_s, 1),
            **whole,
            "losses": loss,
            "families": right,
            "broken": dict(run.library.ledger.counts) if run.library else {},
        }
        with (run.out / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        return whole
