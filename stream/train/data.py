"""Batches: clips of street with many questions each, as tensors. Item i depends on (seed, i) and the tower alone.

street -> frames as a gate leaves them -> tower -> rehearsed bank -> questions it can answer -> one row of `unroll.py`
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from stream.positions import TABLE
from stream.train.questions import KINDS, STANDING, Question, ask
from stream.train.rehearsal import Keeping, Rehearsal, Shape, Shelf
from stream.train.script import Style
from stream.train.truth import Truth, cells, facts, recaps, sights
from stream.train.unroll import Detail, Script, Shelves
from stream.train.world import Street

IGNORE = -100
ALL_FRAMES = -1  # `Recipe.detail`: every frame in full
FAMILIES = tuple(dict.fromkeys((*KINDS.values(), *STANDING.values())))
DAILY: tuple[dict[str, Any], ...] = ({"adjacent": {}},)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What one stage of training draws. Of every tuple one item is drawn: a batch, or a clip where it says so."""

    clips: int  # a batch
    frames: tuple[int, ...]  # a clip
    questions: int = 0  # a clip; 0 trains the eyes only
    moments: int = 6  # a clip: after how many frames questions are asked
    kinds: Mapping[str, float] = field(default_factory=lambda: {"*": 1.0})  # kind -> weight; "*": others of KINDS
    carriers: tuple[int, ...] = (16,)
    detail: tuple[int, ...] = (0,)  # newest frames that questions see in full; ALL_FRAMES
    retain: tuple[dict[str, Any], ...] = DAILY  # drawn per clip
    positions: str = "compact"
    typos: float = 0.0
    modules: float = 0.0  # share of standing questions of which only the last token reads memory
    slot: int = 28  # tokens a question and its answer may take; longer ones are not asked
    styles: tuple[dict[str, Any], ...] = ({},)  # drawn per clip
    ungated: float = 0.0  # share of the clips in which still frames come too, as from a noisy camera
    turns: int = 1  # batches made of the same clips, each with its own memories, moments and questions
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in (("clips", self.clips), ("turns", self.turns)):
            if value < 1:
                raise ValueError(f"{name} is at least 1; got {value}")


@dataclass(frozen=True, slots=True)
class Asked:
    """Questions as tokens. Q questions a clip, padded; L the longest of the batch."""

    text: Tensor  # int64 [B, Q, L]
    target: Tensor  # int64 [B, Q, L], IGNORE where nothing is learned
    family: Tensor  # int64 [B, Q] index into FAMILIES, -1 where there is no question
    point_from: Tensor  # int64 [B, Q, 2] the token before the answer, and the time mark; -1 for none
    point_to: Tensor  # float32 [B, Q, M] the slots that hold the evidence; rows sum to 1, or to 0 without evidence


@dataclass(frozen=True, slots=True)
class Batch:
    """Tensors of one step."""

    images: Tensor  # uint8 [B, F, H, W, 3]
    feats: Tensor | None  # float32 [B, F, N, D] of the tower as it was when the stage began
    facts: Tensor  # int8 [B, F, facts] see `truth.FACTS`
    sights: Tensor  # int64 [B, F, heads] see `truth.SIGHTS`
    cells: Tensor  # int64 [B, F, P, 2] see `truth.cells`
    script: Script | None
    asked: Asked | None
    recap: Tensor | None = None  # int64 [B, F, 3] see `truth.recaps`


class Codec(Protocol):
    """Text to tokens, both sides of the answer's first token."""

    def question_ids(self, question: str) -> list[int]:
        """See `stream.model.Model.question_ids`."""
        ...

    def answer_ids(self, answer: str) -> list[int]:
        """An answer and the token that ends it."""
        ...

    @property
    def marks(self) -> Mapping[int, str]:
        """See `stream.model.Model.marks`."""
        ...


def admitted(street: Street, count: int, rng: np.random.Generator, ungated: bool = False) -> list[float]:
    """Times of at most `count` frames as a gate leaves them: what moves or changes, and of what is still a little."""
    rate = rng.uniform(0.7, 1.6)
    lazy = 1.0 if ungated else rng.uniform(0.0, 0.4)  # how much of the still time gets through all the same
    grid = (np.arange(int(street.seconds * rate)) + rng.uniform(-0.25, 0.25, int(street.seconds * rate)) + 0.5) / rate
    kept: list[float] = []
    spare: list[float] = []
    before: tuple[str, ...] = ()
    for t_s in grid.tolist():
        fault = street.fault(t_s)
        if fault in ("gap", "frozen"):
            continue
        state = (fault, *(fixture.state(t_s) for fixture in street.fixtures))
        moving = not fault and any(event.direction and share > 0 for event, share in street.at(t_s))
        (kept if moving or state != before or rng.random() < lazy else spare).append(t_s)
        before = state
    if len(kept) > count:
        first = int(rng.integers(0, len(kept) - count + 1))
        kept = kept[first : first + count]
    missing = min(count - len(kept), len(spare))
    return sorted(kept + rng.choice(spare, missing, replace=False).tolist()) if missing else kept


@dataclass(frozen=True, slots=True)
class Clip:
    """One drawn clip."""

    images: np.ndarray  # uint8 [F, H, W, 3]
    truth: Truth


def draw(
    rng: np.random.Generator, frames: int, styles: Sequence[dict[str, Any]], image_px: int, ungated: float = 0.0
) -> Clip:
    """A stretch of a fresh street, as `frames` pictures; still ones too with probability `ungated`."""
    noisy = ungated > 0.0 and rng.random() < ungated
    style = Style(**styles[int(rng.integers(len(styles)))])
    seconds, times = frames * float(rng.uniform(1.6, 4.0)) + 6.0, list[float]()
    while len(times) < frames:  # a camera that fails for long may leave too few
        street = Street(int(rng.integers(2**31)), seconds, style)
        times = admitted(street, frames, rng, noisy)
        seconds *= 1.3
    images = np.stack([street.render(t_s, image_px, image_px) for t_s in times])
    return Clip(images, Truth.of(street, times))


@dataclass(frozen=True, slots=True)
class _Put:
    """A question as it stands in its slot."""

    question: Question
    ids: list[int]
    learn: list[int]
    shelf: Shelf
    module: int  # of its first tokens, how many read nothing but each other


@dataclass(frozen=True, slots=True)
class _Scenes:
    """What one drawing of clips shows; tensors as in `Batch`."""

    number: int
    clips: list[Clip]
    images: Tensor
    facts: Tensor
    sights: Tensor
    cells: Tensor
    feats: Tensor | None
    rng: np.random.Generator  # as the drawing left it


class Clips(Dataset[Batch]):
    """Item i is batch i of a stage. `see` turns pictures uint8 [F, H, W, 3] into visual tokens [F, N, D]."""

    def __init__(
        self, recipe: Recipe, shape: Shape, image_px: int, codec: Codec, see: Callable[[Tensor], Tensor]
    ) -> None:
        self.recipe, self.shape, self.image_px, self.codec, self.see = recipe, shape, image_px, codec, see
        names = [*KINDS, *STANDING]
        others = recipe.kinds.get("*", 0.0)
        weights = np.asarray([recipe.kinds.get(name, others if name in KINDS else 0.0) for name in names])
        unknown = set(recipe.kinds) - {*names, "*"}
        if unknown:
            raise ValueError(f"kinds: no such question kind: {', '.join(sorted(unknown))}")
        self._kinds, self._chance = names, weights / weights.sum()
        self._shown: _Scenes | None = None

    def __getitem__(self, index: int) -> Batch:
        recipe = self.recipe
        number, turn = divmod(index, recipe.turns)
        if self._shown is None or self._shown.number != number:
            self._shown = self._scenes(number)
        scenes = self._shown
        seen = scenes.facts, scenes.sights, scenes.cells
        if scenes.feats is None:
            return Batch(scenes.images, None, *seen, None, None)
        frames = scenes.images.shape[1]
        rng = np.random.default_rng((recipe.seed, number, turn)) if turn else copy.deepcopy(scenes.rng)
        detail = int(rng.choice(recipe.detail))
        carriers = min(int(rng.choice(recipe.carriers)), frames)
        lives = []
        for clip, row in zip(scenes.clips, scenes.feats, strict=True):
            retain = recipe.retain[rng.integers(len(recipe.retain))]
            keep = Keeping(carriers, frames if detail == ALL_FRAMES else min(detail, frames), retain, recipe.positions)
            lives.append(self._live(clip.truth, row.mean(1), keep, rng))
        script, asked = self._tensors(lives)
        held = [[shelf.held for shelf in shelves] for shelves, _ in lives]
        recap = np.stack([recaps(clip.truth, known) for clip, known in zip(scenes.clips, held, strict=True)])
        return Batch(scenes.images, scenes.feats, *seen, script, asked, torch.from_numpy(recap))

    def _scenes(self, number: int) -> _Scenes:
        recipe = self.recipe
        rng = np.random.default_rng((recipe.seed, number))
        frames = int(rng.choice(recipe.frames))
        clips = [draw(rng, frames, recipe.styles, self.image_px, recipe.ungated) for _ in range(recipe.clips)]
        images = torch.from_numpy(np.stack([clip.images for clip in clips]))
        feats: Tensor | None = None
        if recipe.questions:
            with torch.no_grad():
                feats = self.see(images.flatten(0, 1)).float()
            feats = feats.view(recipe.clips, frames, *feats.shape[1:])
        return _Scenes(
            number=number,
            clips=clips,
            images=images,
            facts=torch.from_numpy(np.stack([facts(clip.truth) for clip in clips])),
            sights=torch.from_numpy(np.stack([sights(clip.truth) for clip in clips])),
            cells=torch.from_numpy(np.stack([cells(clip.truth, self.shape.patches) for clip in clips])),
            feats=feats,
            rng=rng,
        )

    def _live(
        self, truth: Truth, digests: Tensor, keep: Keeping, rng: np.random.Generator
    ) -> tuple[list[Shelf], list[_Put]]:
        """One clip through a rehearsed bank, asked at some moments."""
        recipe, frames = self.recipe, len(digests)
        times = [float(t_s) for t_s in truth.times_s]
        bank = Rehearsal(digests, times, keep, self.shape, int(rng.integers(2**31)))
        moments = np.minimum(
            frames - 1, (frames * rng.random(recipe.moments) ** 0.6).astype(int)
        )  # late ones more often
        share = np.bincount(rng.integers(len(moments), size=recipe.questions), minlength=len(moments))
        due: dict[int, int] = {}
        for step, count in zip(moments.tolist(), share.tolist(), strict=True):
            due[step] = due.get(step, 0) + count
        shelves, put = [], []
        for step in range(frames):
            shelves.append(bank.frame(step))
            if due.get(step):
                put += self._ask(truth, step, due[step], bank.question(), rng)
        return shelves, put

    def _ask(self, truth: Truth, step: int, count: int, shelf: Shelf, rng: np.random.Generator) -> list[_Put]:
        held = shelf.held
        put: list[_Put] = []
        for kind in rng.choice(len(self._kinds), count * 6, p=self._chance):
            question = ask(truth, self._kinds[kind], step, rng, held, self.recipe.typos)
            if question is None:
                continue
            asked, said = self.codec.question_ids(question.text), self.codec.answer_ids(question.answer)
            if len(asked) + len(said) <= self.recipe.slot:
                learn = [IGNORE] * (len(asked) - 1) + said
                put.append(_Put(question, asked + said, learn, shelf, self._module(question, asked, rng)))
            if len(put) == count:
                break
        return put

    def _module(self, question: Question, asked: list[int], rng: np.random.Generator) -> int:
        """See `memory/rules/prompt_cache.py`: all but the last token."""
        once = self.recipe.modules and question.kind in STANDING and rng.random() < self.recipe.modules
        return len(asked) - 1 if once else 0

    def _tensors(self, lives: list[tuple[list[Shelf], list[_Put]]]) -> tuple[Script, Asked]:
        shape, rows, count = self.shape, len(lives), self.recipe.questions
        length = max((len(put.ids) for _, asked in lives for put in asked), default=1)
        text = torch.zeros(rows, count, length, dtype=torch.long)
        target = torch.full((rows, count, length), IGNORE)
        real = torch.zeros(rows, count, length, dtype=torch.bool)
        module = torch.zeros_like(real)
        family = torch.full((rows, count), -1)
        point_from = torch.full((rows, count, 2), -1)
        blank = lives[0][0][0]
        shelves = [
            [asked[number].shelf if number < len(asked) else blank for number in range(count)] for _, asked in lives
        ]
        point_to = torch.zeros(rows, count, len(blank.valid))
        scheme = TABLE[self.recipe.positions](shape.system, shape.visual)
        for row, (_, asked) in enumerate(lives):
            for number, put in enumerate(asked):
                text[row, number, : len(put.ids)] = torch.tensor(put.ids)
                real[row, number, : len(put.ids)] = True
                module[row, number, : put.module] = True
                target[row, number, : len(put.learn)] = torch.tensor(put.learn)
                family[row, number] = FAMILIES.index(put.question.family)
                point_from[row, number] = self._points(put)
                point_to[row, number] = _evidence(put)
        script = Script(
            system=shape.system,
            visual=shape.visual,
            frames=_stack([shelves for shelves, _ in lives]),
            frames_where=torch.stack([torch.stack([shelf.own for shelf in shelves]) for shelves, _ in lives]),
            questions=_stack(shelves),
            detail=Detail(
                torch.stack([torch.stack([shelf.detail for shelf in row]) for row in shelves]),
                torch.stack([torch.stack([shelf.detail_where for shelf in row]) for row in shelves]),
                torch.stack([torch.stack([shelf.detail_slot for shelf in row]) for row in shelves]),
            ),
            text_where=torch.stack(
                [torch.stack([scheme.text(shelf.text, length) for shelf in row]) for row in shelves]
            ),
            text_real=real,
            module=module if self.recipe.modules else None,
        )
        return script, Asked(text, target, family, point_from, point_to)

    def _points(self, put: _Put) -> Tensor:
        """Where attention is taught: the token before the answer, and the time mark in it."""
        before = next(place for place, token in enumerate(put.learn) if token != IGNORE)
        mark = next((place for place, token in enumerate(put.ids) if token in self.codec.marks), -1)
        return torch.tensor([before, mark])


def _evidence(put: _Put) -> Tensor:
    """The slots [M] made mostly of evidence frames, evenly; all 0 without any."""
    frames = list(put.question.evidence)
    share = put.shelf.mix[:, frames].sum(1) if frames else torch.zeros(len(put.shelf.mix))
    chosen = (share >= 0.5).float()
    return chosen / chosen.sum().clamp_min(1.0)


def _stack(shelves: Sequence[Sequence[Shelf]]) -> Shelves:
    return Shelves(
        torch.stack([torch.stack([shelf.mix for shelf in row]) for row in shelves]),
        torch.stack([torch.stack([shelf.where for shelf in row]) for row in shelves]),
        torch.stack([torch.stack([shelf.valid for shelf in row]) for row in shelves]),
    )
