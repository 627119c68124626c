"""What the tests of LoRA share: videos, items, a small stock checkpoint, a recipe."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from stream.model import tiny
from stream.model.llava_onevision import LlavaOnevision
from stream.model.loading import open_model
from stream.train.data import IGNORE, Recipe
from stream.train.lora import Adapter, Plan, Source, Stage
from stream.train.mixture import Film

RECIPE = Recipe(clips=1, frames=(4,), questions=3, carriers=(3,), detail=(1,), slot=40, seed=5)
QUESTIONS = ["what is visible now?", "is there a red car?", "is there nothing?"]


def write_video(path: Path, count: int, fps: int = 10, px: tuple[int, int] = (64, 48), gop: int = 10) -> Path:
    """`count` grey pictures, each lighter than the one before."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=Fraction(fps))
        stream.width, stream.height, stream.pix_fmt = *px, "yuv420p"
        stream.options = {"preset": "ultrafast", "crf": "10", "g": str(gop)}
        for number in range(count):
            grey = np.full((px[1], px[0], 3), 20 + 200 * number // max(1, count - 1), dtype=np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        out.mux(stream.encode(None))
    return path


def write_items(path: Path, items: list[Any], lines: bool = False) -> Path:
    """A file in the layout; strings go into a file of lines as they are."""
    rows = [item if isinstance(item, str) else json.dumps(item) for item in items]
    path.write_text("\n".join(rows) if lines else json.dumps(items), encoding="utf-8")
    return path


def save_base(folder: Path) -> Path:
    """A stock checkpoint: no card of ours, no time marks, no pointer."""
    texts = [
        "what is visible now?",
        "a red car",
        "nothing",
        "is there nothing?",
        "system\nYou are a helpful assistant.",
    ]
    tokenizer = tiny.tokenizer(texts * 10, 400)
    words = tokenizer.get_vocab()
    net = tiny.untrained(0, len(words), hidden_size=64, intermediate_size=128, num_attention_heads=4)
    with torch.no_grad():
        net.get_input_embeddings().weight *= 20  # they are the output's too, and as drawn cannot prefer any token
    net.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    raw = json.loads((folder / "tokenizer.json").read_text())
    raw["added_tokens"] = [item for item in raw["added_tokens"] if item["content"] not in tiny.MARKS]
    for mark in tiny.MARKS:
        raw["model"]["vocab"][f"unused {mark}"] = raw["model"]["vocab"].pop(mark)
    (folder / "tokenizer.json").write_text(json.dumps(raw))
    (folder / "preprocessor_config.json").write_text('{"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4]}')
    return folder


def save_videos(folder: Path) -> Source:
    """Four good videos with two questions each, one that is missing and one that cannot be read."""
    items = []
    for number in range(6):
        said = []
        for question, answer in zip(QUESTIONS[:2], ("a red car", "nothing"), strict=True):
            said += [{"from": "human", "value": f"<image>\n{question}"}, {"from": "gpt", "value": answer}]
        items.append({"id": f"v{number}", "video": f"{number}.mp4", "conversations": said})
        if number < 4:
            write_video(folder / f"{number}.mp4", 12 + number)
    (folder / "5.mp4").write_bytes(b"noise" * 100)
    return Source(items=write_items(folder / "items.json", items), folder=folder)


def plan(base: Path, source: Source, **changed: Any) -> Plan:
    look = Stage(train=("vision", "language"), steps=6, lr=2e-2, vision_lr=2e-3, warmup=0.1, street=0, data=RECIPE)
    later = Stage(train=("language",), steps=6, lr=1e-2, street=0, data=replace(RECIPE, carriers=(2,), detail=(0, 1)))
    fields: dict[str, Any] = {
        "model": str(base),
        "adapter": Adapter(rank=8, alpha=16.0, dropout=0.1),
        "videos": (source,),
        "max_broken_share": 0.5,
        "workers": 0,
        "accumulate": 2,
        "checkpointing": False,
        "save_every": 4,
        "merged_dtype": "float32",
        "stages": {"look": look, "remember": later},
    }
    return Plan(**{**fields, **changed})


def opened(path: Path) -> LlavaOnevision:
    model = open_model(str(path), "cpu", "float32")
    assert isinstance(model, LlavaOnevision)
    return model


def film(model: LlavaOnevision, frames: int = 5, seed: int = 0) -> Film:
    """Noise pictures and three questions of different lengths."""
    rng = np.random.default_rng(seed)
    px = model.geometry.image_px
    texts = []
    for question, answer in zip(QUESTIONS, ("a red car", "nothing", "a red car"), strict=True):
        asked, said = model.question_ids(question), model.answer_ids(answer)
        texts.append((asked + said, [IGNORE] * (len(asked) - 1) + said))
    images = rng.integers(0, 256, (frames, px, px, 3), dtype=np.uint8)
    return Film(images, np.cumsum(rng.uniform(0.5, 3.0, frames)).tolist(), texts, 0)
