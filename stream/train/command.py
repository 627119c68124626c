"""`longwatch train`: a recipe file, a folder, and a progress bar with rate and time left."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from stream.train.loop import export, load_plan, train
from stream.train.plot import plot


def run(config: Path, out: Path, begin: Path | None = None, threads: int = 0) -> Path:
    """Train by `config` into `out`, going on from `out/state.pt`; returns the finished checkpoint's folder.

    Raises ConfigError naming the recipe's key.
    """
    if threads:
        torch.set_num_threads(threads)
    warnings.filterwarnings("ignore", category=UserWarning, module="torch")
    model = train(load_plan(config), out, begin)
    export(model, out / "model")
    plot(out / "metrics.jsonl", out / "metrics.png")
    return out / "model"
