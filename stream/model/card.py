"""`longwatch.json` in a checkpoint directory: what a checkpoint needs beyond its Hugging Face files.

Absent for stock checkpoints, which then get the prompt of LLaVA-OneVision on Qwen2 and VideoScan's geometry.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from stream.errors import ModelError
from stream.types import Pointer, Trust

FILE = "longwatch.json"


class Card(BaseModel):
    """How to speak to a checkpoint, and what it was trained for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prefix: str = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    suffix: str = "\n{question}<|im_end|>\n<|im_start|>assistant\n"
    positions: Literal["compact", "spaced", "time"] = "spaced"
    carriers: int | None = None
    trained: bool = False
    pointer: Pointer | None = None  # absent: evidence is the mean attention of all layers and heads
    trust: Trust | None = None  # absent: confidence is the words' own probability, and nothing is held back
    caption: str = "Say in a few words what happens here."  # asked for one line about an event
    rules: Literal["pepe", "prompt_cache"] = "pepe"  # how standing questions are read (`memory/rules`)
    fold_case: bool = False  # questions are read in lower case
    image_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    image_std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    @field_validator("suffix")
    @classmethod
    def _has_question(cls, value: str) -> str:
        if "{question}" not in value:
            raise ValueError("suffix must hold {question}")
        return value

    @field_validator("prefix")
    @classmethod
    def _not_empty(cls, value: str) -> str:
        if not value:
            raise ValueError("prefix must not be empty: its tokens are the attention sink")
        return value


def load(folder: Path) -> Card:
    """The card in `folder`, else the stock one with the folder's own image normalisation. Raises ModelError."""
    path = folder / FILE
    try:
        if path.exists():
            return Card.model_validate_json(path.read_text(encoding="utf-8"))
        for name in ("video_preprocessor_config.json", "preprocessor_config.json"):
            if (folder / name).exists():
                raw = json.loads((folder / name).read_text(encoding="utf-8"))
                picked = {key: raw[key] for key in ("image_mean", "image_std") if raw.get(key)}
                return Card.model_validate(picked)
    except (OSError, ValueError, ValidationError) as error:
        raise ModelError(f"{path}: not a usable model card: {error}") from error
    return Card()


def save(card: Card, folder: Path) -> None:
    """Write `card` beside a checkpoint."""
    (folder / FILE).write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")
