"""Batches for a real checkpoint: clips of real videos and of the street, one at a time, in one fixed order.

    item -> frames and tokens (in worker processes) -> tower -> rehearsed bank -> one row of `unroll.py`
    street -> `data.Clips`, as for the tiny model

All questions of a video come after its last frame; the turns of a conversation become questions of their own, since a
question to the daemon has no turn before it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from stream.marks import MARKS
from stream.model.llava_onevision import LlavaOnevision
from stream.positions import TABLE
from stream.train.data import ALL_FRAMES, IGNORE, Asked, Batch, Clips, Codec, Recipe
from stream.train.rehearsal import Keeping, Rehearsal, Shape
from stream.train.unroll import Detail, Script, Shelves
from stream.train.videos import Broken, BrokenData, Item, Ledger, Sampling, Unusable, sample

FOREVER = 10**9


@dataclass(frozen=True, slots=True)
class Film:
    """One video, ready for the tower."""

    images: np.ndarray  # uint8 [F, H, W, 3]
    times_s: list[float]
    texts: list[tuple[list[int], list[int]]]  # a question with its answer, and what each token learns
    left_out: int  # questions too long for their slot


class Films(Dataset[Film | Broken]):
    """Item `cursor` of an endless, shuffled walk over the videos: a function of seed, cursor and files alone."""

    def __init__(self, items: list[Item], recipe: Recipe, codec: Codec, image_px: int, max_s: float = math.inf) -> None:
        self.items, self.recipe, self.codec, self.image_px, self.max_s = items, recipe, codec, image_px, max_s

    def __getitem__(self, cursor: int) -> Film | Broken:
        lap, place = divmod(cursor, len(self.items))
        order = np.random.default_rng((self.recipe.seed, lap)).permutation(len(self.items))
        item = self.items[order[place]]
        rng = np.random.default_rng((self.recipe.seed, lap, place))
        try:
            texts, left_out = self._texts(item, rng)
            frames = int(rng.choice(self.recipe.frames))
            images, times_s = sample(item.path, Sampling(frames, self.image_px, self.max_s))
        except Unusable as fault:
            return Broken(item.name, fault.reason, str(fault))
        return Film(images, times_s, texts, left_out)

    def _texts(self, item: Item, rng: np.random.Generator) -> tuple[list[tuple[list[int], list[int]]], int]:
        """At most `Recipe.questions` of the turns that fit. Raises Unusable when none does."""
        fitting = []
        shortest = FOREVER
        for question, answer in item.turns:
            asked, said = self.codec.question_ids(question), self.codec.answer_ids(answer)
            shortest = min(shortest, len(asked) + len(said))
            if len(asked) + len(said) <= self.recipe.slot:
                fitting.append((asked + said, [IGNORE] * (len(asked) - 1) + said))
        if not fitting:
            text = f"its shortest question and answer take {shortest} tokens, more than slot {self.recipe.slot}"
            raise Unusable("too_long", text)
        chosen = sorted(rng.permutation(len(fitting))[: self.recipe.questions].tolist())
        return [fitting[number] for number in chosen], len(item.turns) - len(fitting)


@dataclass(slots=True)
class Library:
    """The videos of a training, what was broken among them, and how far the walk has come."""

    items: list[Item]
    ledger: Ledger
    workers: int = 0
    cursor: int = 0

    def films(self, source: Films) -> Iterator[Film]:
        """Usable films from the cursor on, for ever. Raises BrokenData."""
        loader: DataLoader[Film | Broken] = DataLoader(
            source,
            batch_size=None,
            sampler=range(self.cursor, FOREVER),
            num_workers=self.workers,
            generator=torch.Generator(),  # its own: the training's random state must not depend on how data is loaded
        )
        fruitless = 0
        for found in loader:
            first_lap = self.cursor < len(self.items)
            self.cursor += 1
            if isinstance(found, Broken):
                self.ledger.skip(found)
                fruitless += 1
                if fruitless >= 2 * len(
                    self.items
                ):  # the end of one lap and the beginning of the next: once is not all
                    raise BrokenData(f"none of the {len(self.items)} videos can be used")
                continue
            fruitless = 0
            if first_lap:
                self.ledger.used(found.left_out)
            yield found


@dataclass(slots=True)
class Eye:
    """The tower, used once a batch: what the bank is rehearsed with is also what is trained."""

    model: LlavaOnevision
    learns: bool
    seen: Tensor = field(
        default_factory=lambda: torch.zeros(0)
    )  # of the newest batch [n, N, D]; with gradient if it learns

    def __call__(self, images: Tensor) -> Tensor:
        """Pictures uint8 [n, H, W, 3] -> visual tokens float32 [n, N, D], on the CPU and without gradient."""
        with torch.set_grad_enabled(self.learns):
            self.seen = self.model.features(self.model.pixels(images))
        return self.seen.detach().float().cpu()


@dataclass(frozen=True, slots=True)
class Unmarked:
    """A checkpoint's texts; an answer with a time mark that is no token of it is made too long to be asked."""

    codec: Codec
    slot: int

    def question_ids(self, question: str) -> list[int]:
        """See Codec."""
        return self.codec.question_ids(question)

    def answer_ids(self, answer: str) -> list[int]:
        """See Codec."""
        known = self.codec.marks.values()
        lacks = any(mark in answer and mark not in known for mark in MARKS)
        return [0] * (self.slot + 1) if lacks else self.codec.answer_ids(answer)

    @property
    def marks(self) -> Mapping[int, str]:
        """See Codec."""
        return self.codec.marks


class Mixture:
    """Batch `index` of a stage: with chance `street` a batch of street, else the next film."""

    def __init__(self, recipe: Recipe, street: float, eye: Eye, films: Iterator[Film]) -> None:
        model, geo = eye.model, eye.model.geometry
        self.recipe, self.street, self.eye, self.films = recipe, street, eye, films
        self.shape = Shape(geo.grid, len(model.system_ids()), geo.width)
        self.clips = Clips(recipe, self.shape, geo.image_px, Unmarked(model, recipe.slot), eye)

    def __call__(self, index: int) -> tuple[Batch, bool]:
        """A batch, and whether it is street; `eye.seen` holds its visual tokens. Call with ascending indices."""
        rng = np.random.default_rng((self.recipe.seed, index, 1))
        if rng.random() < self.street:
            return self.clips[index], True
        return self.told(next(self.films), rng), False

    def told(self, film: Film, rng: np.random.Generator) -> Batch:
        """One film through a rehearsed bank, asked after its last frame."""
        recipe, frames = self.recipe, len(film.images)
        images = torch.from_numpy(film.images)
        feats = self.eye(images)
        detail = int(rng.choice(recipe.detail))
        keep = Keeping(
            min(int(rng.choice(recipe.carriers)), frames),
            frames if detail == ALL_FRAMES else min(detail, frames),
            recipe.retain[rng.integers(len(recipe.retain))],
            recipe.positions,
        )
        bank = Rehearsal(feats.mean(1), film.times_s, keep, self.shape, int(rng.integers(2**31)))
        shelves = [bank.frame(step) for step in range(frames)]
        end = bank.question()
        asked, real = _asked(film, len(end.valid))
        count, length = asked.text.shape[1:]
        scheme = TABLE[recipe.positions](self.shape.system, self.shape.visual)
        script = Script(
            system=self.shape.system,
            visual=self.shape.visual,
            frames=Shelves(
                torch.stack([shelf.mix for shelf in shelves])[None],
                torch.stack([shelf.where for shelf in shelves])[None],
                torch.stack([shelf.valid for shelf in shelves])[None],
            ),
            frames_where=torch.stack([shelf.own for shelf in shelves])[None],
            questions=Shelves(_each(end.mix, count), _each(end.where, count), _each(end.valid, count)),
            detail=Detail(_each(end.detail, count), _each(end.detail_where, count), _each(end.detail_slot, count)),
            text_where=_each(scheme.text(end.text, length), count),
            text_real=real,
        )
        return Batch(
            images[None],
            feats[None],
            torch.zeros(1, frames, 0, dtype=torch.int8),
            torch.zeros(1, frames, 0, dtype=torch.long),
            torch.zeros(1, frames, 0, 2, dtype=torch.long),
            script,
            asked,
        )


def _asked(film: Film, slots: int) -> tuple[Asked, Tensor]:
    """The texts of a film, padded, and which tokens are real; nobody knows which frames show the evidence."""
    count, length = len(film.texts), max(len(ids) for ids, _ in film.texts)
    text = torch.zeros(1, count, length, dtype=torch.long)
    target = torch.full((1, count, length), IGNORE)
    real = torch.zeros(1, count, length, dtype=torch.bool)
    for number, (ids, learn) in enumerate(film.texts):
        text[0, number, : len(ids)] = torch.tensor(ids)
        target[0, number, : len(learn)] = torch.tensor(learn)
        real[0, number, : len(ids)] = True
    nothing = torch.full((1, count), -1)
    return Asked(text, target, nothing, torch.full((1, count, 2), -1), torch.zeros(1, count, slots)), real


def _each(part: Tensor, count: int) -> Tensor:
    """The same for every one of `count` questions of a batch of one clip."""
    return part.expand(1, count, *part.shape)
