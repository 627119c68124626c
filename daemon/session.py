"""One answer being written: a batch of memory views, one row a camera, decoded token by token.

    system | carriers, recent detail (one view a row) | question | answer so far
    shared   the fork, padded to the longest            same       one more each step

The views are copies and the session's cache dies with it: a question cannot change memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from memory.view import MemoryView, Moment
from stream.attention import Mass
from stream.model import Model
from stream.positions import Positions


@dataclass(slots=True)
class Row:
    """What one camera's view has answered so far."""

    view: MemoryView
    ids: list[int] = field(default_factory=list)
    log_p: float = 0.0  # of all chosen tokens, the stop token among them
    steps: int = 0
    done: bool = False

    @property
    def confidence(self) -> float:
        """Geometric mean of the chosen tokens' probabilities."""
        return math.exp(self.log_p / self.steps) if self.steps else 0.0


class Session:
    """Greedy decoding for one question over `views` (at least one, none empty)."""

    def __init__(
        self, model: Model, positions: Positions, views: Sequence[MemoryView], ids: list[int], max_tokens: int
    ) -> None:
        assert views
        assert all(views)
        self.model, self.rows, self.max_tokens = model, [Row(view) for view in views], max_tokens
        self._slab = model.slab([view.past for view in views], len(ids) + max_tokens)
        self._system = len(model.system())
        self._next = torch.tensor([ids] * len(views))  # [B, T] what the next forward reads
        texts = [positions.text(view.count, len(ids) + max_tokens) for view in views]
        self._positions = torch.stack(texts)  # [B, T + max_tokens]
        self._read = 0
        self._mass: Tensor | None = None  # [B, K] attention of all answer steps to what was remembered

    @property
    def done(self) -> bool:
        """Whether every row has ended."""
        return all(row.done for row in self.rows)

    @torch.inference_mode()
    def step(self) -> None:
        """One forward: the first reads the question, each later one the token before it."""
        count = self._next.shape[1]
        where = self._positions[:, self._read : self._read + count]
        mass = Mass()
        hidden = self.model.forward(self.model.embed(self._next), where, self._slab, mass)
        self._read += count
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
        """Add this step's attention to remembered keys, for rows that are still writing."""
        assert mass.total is not None
        longest = max(len(row.view.past) for row in self.rows)
        part = mass.total[:, self._system : self._system + longest].cpu()
        part = part * torch.tensor([[0.0 if row.done else 1.0] for row in self.rows])
        self._mass = part if self._mass is None else self._mass + part

    def text(self, row: int) -> str:
        """What row `row` says so far; a character whose bytes are not all there yet is left out."""
        return self.model.decode(self.rows[row].ids).rstrip("\ufffd").strip()

    def evidence(self, row: int, count: int) -> list[tuple[Moment, float]]:
        """The `count` moments row `row` attended to most, with their shares of all attention to memory, best first."""
        view = self.rows[row].view
        if self._mass is None or count == 0:
            return []
        share = torch.zeros(len(view.moments)).index_add(0, view.source, self._mass[row, : len(view.past)])
        share = share / share.sum().clamp_min(1e-12)
        best = share.topk(min(count, len(share)))
        return [(view.moments[index], float(share[index])) for index in best.indices.tolist()]
