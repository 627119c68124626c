"""Batches: clips of street with many questions each, as tensors. Item i depends on (seed, i) alone.

One row is  [system][frame 0: N visual, carrier] ... [frame F-1][question 0][question 1] ...
with every question in a slot of fixed length, padded; a pad is text of its own that nobody reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from stream.rule import Layout, frames
from stream.train.questions import CLASSES, Clip, Question, answer, ask
from stream.train.world import Street

IGNORE = -100


@dataclass(frozen=True, slots=True)
class Recipe:
    """What one stage of training draws."""

    clips: int  # a batch
    frames: int  # a clip
    questions: int  # a clip; 0 trains the eyes only
    kinds: dict[str, float]  # question kind -> weight
    detail: tuple[int, ...] = (0,)  # newest frames that questions see at full detail; one is drawn a clip
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Tensors of one step; T = S + F (N+1) + Q * slot."""

    images: Tensor  # uint8 [B, F, H, W, 3]
    text: Tensor  # int64 [B, Q * slot]
    target: Tensor  # int64 [B, Q * slot], IGNORE where nothing is learned
    layout: Layout  # [B, T]
    positions: Tensor  # float32 [B, T]
    detail: Tensor  # int64 [B, 1, 1]
    view: Tensor  # int64 [B, F] what each frame shows: a class of `questions.CLASSES`, IGNORE for a sliver


@dataclass(frozen=True, slots=True)
class Shape:
    """What a batch must know of the model."""

    image_px: int
    visual: int  # N
    system: int  # S
    pad: int
    slot: int  # tokens a question and its answer may take


def sample_times(rng: np.random.Generator, count: int) -> np.ndarray:
    """Times of absorbed frames: a steady rate with jitter, or what a gate that skips some leaves over."""
    rate = rng.uniform(0.8, 1.6)
    spare = int(rng.integers(0, count // 2 + 1))
    steps = np.sort(rng.choice(count + spare, count, replace=False))
    return np.asarray((steps + rng.uniform(-0.2, 0.2, count) + 0.5) / rate)


def draw(rng: np.random.Generator, recipe: Recipe, image_px: int) -> tuple[np.ndarray, list[Question], list[int]]:
    """One clip: pictures uint8 [F, H, W, 3], its questions, and what each frame shows."""
    times = sample_times(rng, recipe.frames)
    street = Street(int(rng.integers(2**31)), float(times[-1]) + 1.0, empty=float(rng.uniform(0.05, 0.9)))
    images = np.stack([street.render(float(t_s), image_px, image_px) for t_s in times])
    clip = Clip.of(street, list(times))
    kinds, weights = list(recipe.kinds), np.asarray(list(recipe.kinds.values()))
    chance = weights / weights.sum() if kinds else weights
    asked: list[Question] = []
    for _ in range(recipe.questions * 6):
        step = int(recipe.frames * rng.random() ** 0.6)  # late steps more often: that is where memory is needed
        question = ask(clip, kinds[rng.choice(len(kinds), p=chance)], step, rng)
        if question is not None:
            asked.append(question)
        if len(asked) == recipe.questions:
            break
    shown = [answer(clip, "now", step) for step in range(recipe.frames)]
    return images, asked, [CLASSES.index(found[0]) if found else IGNORE for found in shown]


class Codec(Protocol):
    """Text to tokens, both sides of the answer's first token."""

    def question_ids(self, question: str) -> list[int]:
        """See `stream.model.Model.question_ids`."""
        ...

    def answer_ids(self, answer: str) -> list[int]:
        """An answer and the token that ends it."""
        ...


class Clips(Dataset[Batch]):
    """Item i is batch i of a stage."""

    def __init__(self, recipe: Recipe, shape: Shape, codec: Codec, steps: int) -> None:
        self.recipe, self.shape, self.codec, self.steps = recipe, shape, codec, steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, index: int) -> Batch:
        recipe, shape = self.recipe, self.shape
        rng = np.random.default_rng((recipe.seed, index))
        rows = [draw(rng, recipe, shape.image_px) for _ in range(recipe.clips)]
        width = recipe.questions * shape.slot
        text = torch.full((recipe.clips, width), shape.pad)
        target = torch.full((recipe.clips, width), IGNORE)
        base = frames(recipe.frames, shape.visual, shape.system, [(0, shape.slot)] * recipe.questions)
        steps = base.step.repeat(recipe.clips, 1)
        body = len(base) - width
        placed = torch.cat((torch.arange(shape.system), shape.system + base.step[shape.system : body])).float()
        positions = torch.cat((placed, torch.zeros(width))).repeat(recipe.clips, 1)
        for row, (_, asked, _) in enumerate(rows):
            for number, question in enumerate(asked):
                put, learn = self._write(question)
                first = number * shape.slot
                text[row, first : first + len(put)] = torch.tensor(put)
                target[row, first : first + len(learn)] = torch.tensor(learn)
                slot = slice(body + first, body + first + shape.slot)
                steps[row, slot] = question.step
                positions[row, slot] = shape.system + question.step + 1 + torch.arange(shape.slot)
        wide = [part.expand(recipe.clips, -1) for part in (base.kind, base.owner, base.gone)]
        return Batch(
            images=torch.from_numpy(np.stack([images for images, _, _ in rows])),
            text=text,
            target=target,
            layout=Layout(wide[0], steps, wide[1], wide[2]),
            positions=positions,
            detail=torch.from_numpy(rng.choice(recipe.detail, (recipe.clips, 1, 1))),
            view=torch.tensor([view for _, _, view in rows]),
        )

    def _write(self, question: Question) -> tuple[list[int], list[int]]:
        """Tokens of question and answer, and what each of them should predict."""
        asked, said = self.codec.question_ids(question.text), self.codec.answer_ids(question.answer)
        if len(asked) + len(said) > self.shape.slot:
            raise ValueError(f"{question.text!r} -> {question.answer!r} takes more than {self.shape.slot} tokens")
        return asked + said, [IGNORE] * (len(asked) - 1) + said
