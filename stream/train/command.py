"""`longwatch train`: a recipe file, a folder, and a progress bar with rate and time left."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
import yaml

from stream.errors import ConfigError
from stream.train.loop import export, load_plan, train
from stream.train.plot import plot


def run(config: Path, out: Path, begin: Path | None = None, threads: int = 0) -> Path:
    """Train by `config` into `out`, going on from `out/state.pt`; returns the finished checkpoint's folder.

    A recipe that names a `model` adapts that checkpoint (`lora.py`), any other one trains the tiny model from nothing.
    Raises ConfigError naming the recipe's key.
    """
    if threads:
        torch.set_num_threads(threads)
    warnings.filterwarnings("ignore", category=UserWarning, module="torch")
    if _names_a_model(config):
        made = _adapt(config, out)
    else:
        model = train(load_plan(config), out, begin)
        made = out / "model"
        export(model, made)
    plot(out / "metrics.jsonl", out / "metrics.png")
    return made


def _names_a_model(config: Path) -> bool:
    try:
        raw = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{config}: cannot be read: {error}") from error
    return isinstance(raw, dict) and "model" in raw


def _adapt(config: Path, out: Path) -> Path:
    try:
        from stream.train import adapt, lora
    except ImportError as error:
        raise ConfigError(f"{config}: adapting a checkpoint needs peft: pip install 'longwatch[train]'") from error
    return adapt.train(lora.load_plan(config), out)
