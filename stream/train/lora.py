"""LoRA for any LLaVA-OneVision checkpoint: it learns to answer from carriers, in VideoScan's two stages.

    stage 1   tower and language model      answers from one token a frame
    stage 2   language model alone          under evictions, as in the daemon

Plain `peft`: linear layers are wrapped inside the checkpoint's own modules, so the adapter trains through the very code
that the daemon runs (`stream/model/llava_onevision.py`, `stream/attention.py`).
"""

from __future__ import annotations

import re
import shutil
import warnings
from pathlib import Path
from typing import Any, Literal

import peft
import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from stream.errors import ConfigError
from stream.model import card as cards
from stream.model.llava_onevision import LlavaOnevision
from stream.model.loading import SHIPPED
from stream.train.data import Recipe

Part = Literal["vision", "language"]
# q_proj, k_proj and v_proj are names in both; the tower's pooling head is left out, nothing reads it
TARGETS: dict[Part, str] = {
    "vision": r".*vision_tower\.(?:.*\.)?encoder\.layers\.\d+\..*\.(?:q_proj|k_proj|v_proj|out_proj|fc1|fc2)",
    "language": r".*language_model\.layers\.\d+\..*\.(?:q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)",
}
PROCESSOR_FILES = ("*preprocessor_config.json", "processor_config.json", "chat_template*")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Section):
    """Questions and answers, and the folder that their `video` names count from."""

    items: Path
    folder: Path


class Adapter(_Section):
    """LoRA's numbers (arXiv 2106.09685); defaults from VideoScan's scripts."""

    rank: int = Field(64, ge=1)
    alpha: float = Field(16.0, gt=0)
    dropout: float = Field(0.05, ge=0, lt=1)


class Stage(_Section):
    """What is trained on which mixture, for how many steps, how fast."""

    train: tuple[Part, ...] = Field(min_length=1)
    steps: int = Field(ge=1)
    lr: float = Field(gt=0)
    vision_lr: float | None = None  # a fifth of `lr` when not given, as in VideoScan's scripts
    warmup: float = Field(0.03, ge=0, lt=1)  # share of the steps
    street: float = Field(0.25, ge=0, le=1)  # share of the street among the batches
    point: float = Field(0.1, ge=0)  # weight of the pointer's loss; only where the checkpoint has a pointer
    data: Recipe


class Plan(_Section):
    """A whole recipe file. Paths are relative to where the command runs."""

    model: str
    seed: int = 0
    positions: Literal["compact", "spaced", "time"] = "spaced"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    merged_dtype: Literal["float32", "bfloat16"] = "bfloat16"
    adapter: Adapter = Adapter()
    videos: tuple[Source, ...] = ()
    max_broken_share: float = Field(0.05, ge=0, le=1)
    max_video_s: float = Field(600.0, gt=0)
    workers: int = Field(2, ge=0)  # processes that decode videos
    accumulate: int = Field(8, ge=1)  # batches a step
    checkpointing: bool = True  # compute activations again in the backward pass: a third slower, far less memory
    save_every: int = Field(200, ge=1)  # steps
    stages: dict[str, Stage] = Field(min_length=1)


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


def wrap(model: LlavaOnevision, plan: Plan) -> peft.PeftModel:
    """LoRA layers inside `model.net`, for every part that some stage trains; as they begin they change nothing.

    Raises ConfigError when a part has no layer to sit in.
    """
    parts: list[Part] = sorted({part for stage in plan.stages.values() for part in stage.train})
    names = [name for name, _ in model.net.named_modules()]
    for part in parts:
        if not any(re.fullmatch(TARGETS[part], name) for name in names):
            raise ConfigError(f"model: {plan.model!r} has no layer of its {part} part under a name that LoRA knows")
    config = peft.LoraConfig(
        r=plan.adapter.rank,
        lora_alpha=plan.adapter.alpha,  # type: ignore[arg-type]  # annotated int, used as a factor
        lora_dropout=plan.adapter.dropout,
        target_modules="|".join(f"(?:{TARGETS[part]})" for part in parts),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft and we use names that transformers 6 will not have
        wrapped = peft.get_peft_model(model.net, config)
        if plan.checkpointing:
            model.net.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    wrapped.peft_config[
        "default"
    ].base_model_name_or_path = plan.model  # as `peft` will look for it, not as we found it
    return wrapped


def optimizer(wrapped: peft.PeftModel, stage: Stage) -> torch.optim.Optimizer:
    """AdamW over the LoRA weights that the stage trains; all others are frozen. `share` of a group is its own rate."""
    groups: dict[Part, list[Tensor]] = {"vision": [], "language": []}
    for name, weight in wrapped.named_parameters():
        part: Part = "vision" if "vision_tower" in name else "language"
        weight.requires_grad_("lora_" in name and part in stage.train)
        weight.grad = None
        if weight.requires_grad:
            groups[part].append(weight)
    slow = 0.2 if stage.vision_lr is None else stage.vision_lr / stage.lr
    shares = {"vision": slow, "language": 1.0}
    listed = [{"params": weights, "share": shares[part]} for part, weights in groups.items() if weights]
    return torch.optim.AdamW(listed, lr=stage.lr, betas=(0.9, 0.98), weight_decay=0.0)


def merge(model: LlavaOnevision, wrapped: peft.PeftModel, plan: Plan, out: Path) -> Path:
    """The adapter added into the weights, as a checkpoint directory that `open_model` loads. Ends the training."""
    net: Any = wrapped.merge_and_unload(safe_merge=True)
    net.eval().to(getattr(torch, plan.merged_dtype)).save_pretrained(out)
    model.tokenizer.save_pretrained(out)
    carriers = max(max(stage.data.carriers) for stage in plan.stages.values())
    about = {"trained": True, "positions": plan.positions, "carriers": carriers}
    cards.save(model.card.model_copy(update=about), out)
    base = SHIPPED.get(plan.model) or Path(plan.model).expanduser()
    for pattern in PROCESSOR_FILES:
        for path in base.glob(pattern) if base.is_dir() else ():
            if not (out / path.name).exists():
                shutil.copy2(path, out)
    return out
