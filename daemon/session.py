"""One answer being written: a batch of memory views, one row a camera, decoded token by token.

    system | carriers, recent detail (one view a row) | question | answer so far
    shared   the fork, padded to the longest            same       one more each step

The views are copies and the session's cache dies with it: a question cannot change memory.

A checkpoint with time marks writes one where a time stands. The next step reads the mark, and what it attends to then
is the span that is said in its place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from daemon.times import SPEECH, Speech
from memory.recall import Look
from memory.view import MemoryView, Moment
from stream.attention import Mass, Step
from stream.model import Model
from stream.positions import Positions
from stream.types import Span

POINTED = 0.3  # a mark means every moment that gets at least this share of what the best one gets


@dataclass(slots=True)
class Row:
    """What one camera's view has answered so far."""

    view: MemoryView
    ids: list[int] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)  # what each time mark in `ids` points at
    log_p: float = 0.0  # of all chosen tokens, the stop token among them
    steps: int = 0
    done: bool = False

    @property
    def confidence(self) -> float:
        """Geometric mean of the chosen tokens' probabilities."""
        return math.exp(self.log_p / self.steps) if self.steps else 0.0


class Session:
    """Greedy decoding for one question over `views` (at least one)."""

    def __init__(
        self,
        model: Model,
        positions: Positions,
        views: Sequence[MemoryView],
        ids: list[int],
        max_tokens: int,
        speech: Speech = SPEECH,
    ) -> None:
        assert views
        self.model, self.rows, self.max_tokens, self.speech = model, [Row(view) for view in views], max_tokens, speech
        self._slab = model.slab([view.past for view in views], len(ids) + max_tokens)
        self._system = len(model.system())
        self._next = torch.tensor([ids] * len(views))  # [B, T] what the next forward reads
        texts = [positions.text(view.count, len(ids) + max_tokens) for view in views]
        self._positions = torch.stack(texts)  # [B, T + max_tokens]
        self._read = 0
        self._mass: Tensor | None = None  # [B, K] attention of all answer steps to what was remembered
        self._first: Mass | None = None  # of the step that read the question
        self._words = model.embed(torch.tensor(ids)).mean(0)  # [D]

    @property
    def done(self) -> bool:
        """Whether every row has ended."""
        return all(row.done for row in self.rows)

    def step(self) -> None:
        """One forward: the first reads the question, each later one the token before it."""
        step = self.ask()
        self.take(step, self.model.forward_all([step])[0])

    @torch.inference_mode()
    def ask(self) -> Step:
        """What this answer's next forward reads: several answers may take theirs in one."""
        count = self._next.shape[1]
        where = self._positions[:, self._read : self._read + count]
        mass = Mass(self.model.geometry.pointer, keep_queries=self._first is None)
        return Step(self.model.embed(self._next), where, self._slab, mass)

    @torch.inference_mode()
    def take(self, step: Step, hidden: Tensor) -> None:
        """The forward's hidden states [B, T, D] of `step`: every row has a token more, or has ended."""
        mass = step.mass
        assert mass is not None
        self._read += hidden.shape[1]
        self._first = self._first or mass
        self._watch(mass)
        scores = self.model.logits(hidden[:, -1]).log_softmax(-1)
        best, chosen = scores.max(-1)
        for row, token, log_p in zip(self.rows, chosen.tolist(), best.tolist(), strict=True):
            if row.done:
                continue
            row.log_p += log_p
            row.steps += 1
            row.done = token in self.model.stop_ids
            if not row.done:
                row.ids.append(token)
                row.done = len(row.ids) >= self.max_tokens
        self._next = chosen[:, None].cpu()

    def _watch(self, mass: Mass) -> None:
        """Keep this step's attention to remembered keys: as evidence, and as the span of a mark that was just read."""
        assert mass.total is not None
        longest = max(len(row.view.past) for row in self.rows)
        part = mass.total[:, self._system : self._system + longest].cpu()
        for number, row in enumerate(self.rows):
            if row.ids and row.ids[-1] in self.model.marks and not row.done:
                row.spans.append(_pointed(row.view, part[number]))
        first = self._mass is None
        if first or self.model.geometry.pointer is None:  # a trained pointer shows its evidence before the first word
            part = part * torch.tensor([[0.0 if row.done else 1.0] for row in self.rows])
            self._mass = part if self._mass is None else self._mass + part

    def text(self, row: int) -> str:
        """What row `row` says so far. A character whose bytes are not all there yet, and what follows a time mark
        that was not read yet, is left out."""
        ids, spans, view = self.rows[row].ids, self.rows[row].spans, self.rows[row].view
        said, known, begin = "", iter(spans), 0
        for place, token in enumerate(ids):
            if token not in self.model.marks:
                continue
            said += self.model.decode(ids[begin:place])
            begin = place + 1
            span = next(known, None)
            if span is None:
                return said.strip()
            said += self.speech.spoken(self.model.marks[token], span, view.now_s)
        return (said + self.model.decode(ids[begin:]).rstrip("\ufffd")).strip()

    def look(self, row: int) -> Look:
        """What the question looked for in row `row`'s memory, and where; known after the first step."""
        assert self._first is not None, "step() comes first"
        assert self._mass is not None
        view = self.rows[row].view
        share = _by_moment(view, self._mass[row])
        fresh = sorted(set(view.source[view.count :].tolist()))  # moments with recent detail
        return Look(
            newest=torch.stack([layer[row] for layer in self._first.newest]),
            mean=torch.stack([layer[row] for layer in self._first.mean]),
            words=self._words,
            recent=float(share[fresh].sum() / share.sum().clamp_min(1e-12)) if len(fresh) else None,
            pointer=self.model.geometry.pointer,
        )

    def support(self, row: int) -> float | None:
        """Share of the trained pointer's attention that went to anything remembered, 0..1; the rest went to the prompt
        and the question, which is where it goes when there is nothing to point at. None without a trained pointer."""
        if self.model.geometry.pointer is None or self._mass is None:
            return None
        return float(self._mass[row, : len(self.rows[row].view.past)].sum())

    def evidence(self, row: int, count: int) -> list[tuple[Moment, float]]:
        """The `count` moments row `row` attended to most, with their shares of all attention to memory, best first."""
        view = self.rows[row].view
        if self._mass is None or count == 0:
            return []
        share = _by_moment(view, self._mass[row])
        share = share / share.sum().clamp_min(1e-12)
        best = share.topk(min(count, len(share)))
        return [(view.moments[index], float(share[index])) for index in best.indices.tolist()]


def _by_moment(view: MemoryView, mass: Tensor) -> Tensor:
    """Attention to keys, added up over the keys of each moment."""
    return torch.zeros(len(view.moments)).index_add(0, view.source, mass[: len(view.past)])


def _pointed(view: MemoryView, mass: Tensor) -> Span:
    """The time that a mark's attention covers: from the first to the last moment it clearly points at."""
    share = _by_moment(view, mass)
    chosen = torch.nonzero(share >= POINTED * share.max()).flatten().tolist()
    return Span(view.moments[chosen[0]].span.first_s, view.moments[chosen[-1]].span.last_s)
