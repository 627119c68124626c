"""How long is a step of LoRA on a checkpoint of half a billion parameters, and how much memory does it take?

    python bench/lora.py [--frames 4] [--steps 1] [--quick] [--no-checkpointing] [--out FILE]

Random weights in the geometry of LLaVA-OneVision 0.5B (SigLIP so400m at 384 px, Qwen2 0.5B), one clip of noise a step,
three questions on it, an adapter of rank 64: what a step costs does not depend on what the weights know. `--quick`
takes the tiny geometry, to see that it runs. Ends with one JSON line; `--out` writes it to a file too.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tqdm import tqdm
from where import commit, date, machine

from stream.model import tiny
from stream.model.card import Card
from stream.model.llava_onevision import LlavaOnevision
from stream.model.loading import pick_device, pick_dtype
from stream.train.adapt import answers, descend
from stream.train.data import IGNORE, Recipe
from stream.train.lora import Plan, Stage, optimizer, wrap
from stream.train.mixture import Eye, Film, Mixture

TEXT, SAID = 48, 16  # tokens of a question with its answer, and of the answer
RECIPE = Recipe(clips=1, frames=(4,), questions=3, carriers=(32,), detail=(1,), slot=TEXT, positions="spaced")
STAGES = {
    "language": Stage(train=("language",), steps=1, lr=1e-5, data=RECIPE),
    "vision + language": Stage(train=("vision", "language"), steps=1, lr=1e-5, data=RECIPE),
}


def half_billion() -> Any:
    """The configuration of LLaVA-OneVision 0.5B."""
    return transformers.LlavaOnevisionConfig(
        vision_config=transformers.SiglipVisionConfig(
            hidden_size=1152, intermediate_size=4304, num_hidden_layers=26, num_attention_heads=16, image_size=384,
            patch_size=14, vision_use_head=False,
        ),
        text_config=transformers.Qwen2Config(
            vocab_size=152_000, hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14,
            num_key_value_heads=2, max_position_embeddings=32_768, tie_word_embeddings=True,
        ),
        image_token_id=151_646, video_token_id=151_647, vision_feature_layer=-1,
        vision_feature_select_strategy="full", tie_word_embeddings=True,
    )  # fmt: skip


def build(quick: bool) -> LlavaOnevision:
    """The model with random weights, where and as precise as `open_model` would load it."""
    config = tiny.config(400) if quick else half_billion()
    kind = transformers.LlavaOnevisionForConditionalGeneration
    with torch.device("meta"):
        parameters = sum(item.numel() for item in kind(config).parameters())
    place = pick_device("auto")
    torch.set_default_dtype(pick_dtype("auto", place, parameters))
    with place:
        net = kind(config).requires_grad_(False).train()
    torch.set_default_dtype(torch.float32)
    return LlavaOnevision(net, tiny.tokenizer(["what is visible now?"]), Card(), "random")


def film(model: LlavaOnevision, frames: int) -> Film:
    """One clip of noise with its questions."""
    rng, px = np.random.default_rng(0), model.geometry.image_px
    texts = []
    for _ in range(RECIPE.questions):
        ids = rng.integers(5, 250, TEXT).tolist()
        texts.append((ids, [IGNORE] * (TEXT - SAID - 1) + ids[-SAID:]))
    return Film(rng.integers(0, 256, (frames, px, px, 3), dtype=np.uint8), [2.0 * n for n in range(frames)], texts, 0)


def measure(model: LlavaOnevision, wrapped: Any, stage: Stage, arguments: argparse.Namespace) -> dict[str, float]:
    """Seconds of one batch, forward and backward, and of the step that follows; the mean of all but a first one."""
    chosen = optimizer(wrapped, stage)
    weights = [weight for group in chosen.param_groups for weight in group["params"]]
    eye = Eye(model, "vision" in stage.train)
    mixture = Mixture(replace(RECIPE, frames=(arguments.frames,)), 0.0, eye, iter(()))
    marks = []
    for _ in tqdm(range(arguments.steps + 1), desc="steps", unit="step", delay=2, disable=None):
        clock = [time.perf_counter()]
        batch = mixture.told(film(model, arguments.frames), np.random.default_rng(0))
        told = answers(model, batch, eye.seen)
        clock.append(time.perf_counter())
        told.loss.backward()  # type: ignore[no-untyped-call]
        if model.geometry.device.type == "cuda":
            torch.cuda.synchronize()
        clock.append(time.perf_counter())
        descend(chosen, weights, told.tokens)
        clock.append(time.perf_counter())
        marks.append(np.diff(clock))
    forward, backward, step = np.mean(marks[1:], 0).tolist()
    return {
        "forward_s": round(forward, 2),
        "backward_s": round(backward, 2),
        "step_s": round(step, 2),
        "trained_m": round(sum(weight.numel() for weight in weights) / 1e6, 1),
        "peak_rss_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--frames", type=int, default=4, help="of the clip")
    parser.add_argument("--steps", type=int, default=1, help="timed ones; one before them is not")
    parser.add_argument("--quick", action="store_true", help="the tiny geometry")
    parser.add_argument("--no-checkpointing", action="store_true", help="keep all activations")
    parser.add_argument("--out", type=Path, help="write the result there too")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    model = build(arguments.quick)
    wrapped = wrap(model, Plan(model="random", stages=STAGES, checkpointing=not arguments.no_checkpointing))
    rows = {name: measure(model, wrapped, stage, arguments) for name, stage in STAGES.items()}
    result = {
        "bench": "lora",
        "geometry": "tiny" if arguments.quick else "0.5B",
        "frames": arguments.frames,
        "dtype": str(model.geometry.dtype).removeprefix("torch."),
        "checkpointing": not arguments.no_checkpointing,
        "threads": torch.get_num_threads(),
        "stages": rows,
        "machine": machine(),
        "load_before": round(load, 2),
        "commit": commit(),
        "date": date(),
    }
    print(f"{result['geometry']}, {arguments.frames} frames, {result['dtype']}, {result['machine']}")
    print(f"{'seconds':20} {'forward':>8} {'backward':>9} {'step':>6} {'trained M':>10} {'peak GB':>8}")
    for name, row in rows.items():
        print(
            f"{name:20} {row['forward_s']:8.2f} {row['backward_s']:9.2f} {row['step_s']:6.2f} "
            f"{row['trained_m']:10.1f} {row['peak_rss_gb']:8.2f}"
        )
    line = json.dumps(result)
    print(line)
    if arguments.out is not None:
        arguments.out.write_text(line + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
