"""How probable a yes is to each of several questions, read over one camera's memory in one forward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memory import rules
from memory.rules import Reader, Rules
from memory.view import MemoryView
from stream.errors import ModelError
from stream.model import Model
from stream.positions import Positions

YES, NO = ("yes", "Yes", "YES", " yes", " Yes", " YES"), ("no", "No", "NO", " no", " No", " NO")
MOST_TOKENS = 4096  # of questions in one forward: their keys are held at once


@dataclass(frozen=True, slots=True)
class Judge:
    """`yes` and `no` are the tokens that an answer begins with when it means the one or the other."""

    reader: Reader
    yes: Tensor  # int64 [y]
    no: Tensor  # int64 [n]
    method: Rules

    @classmethod
    def of(cls, model: Model, positions: Positions, method: str | None = None) -> Judge:
        """For a checkpoint; `method` of `memory/rules`, None: the one it was trained for. Raises ModelError where its
        tokens do not tell a yes from a no."""
        yes, no = openings(model)
        made = rules.make({method or model.geometry.rules: {}})
        return cls(Reader(model, positions), torch.tensor(sorted(yes)), torch.tensor(sorted(no)), made)

    def probabilities(self, view: MemoryView, questions: Sequence[Sequence[int]]) -> list[float]:
        """P(yes) of each question (token ids, `Model.question_ids`), among yes and no: 1 / (1 + exp(-log-odds)).

        Nothing in `view` changes. Questions do not read each other: each gets what it would get alone, and what is
        asked twice the same.
        """
        found: dict[tuple[int, ...], float] = {}
        for part in _parts(sorted({tuple(question) for question in questions})):  # what begins alike is read together
            odds = self.log_odds(self.method.scores(self.reader, view, part))
            found.update(zip(part, odds.sigmoid().tolist(), strict=True))
        return [found[tuple(question)] for question in questions]

    def log_odds(self, scores: Tensor) -> Tensor:
        """[m] from the log-probabilities [m, V] of what is written first."""
        yes, no = (scores[:, ids.to(scores.device)].float().logsumexp(-1) for ids in (self.yes, self.no))
        return yes - no


def openings(model: Model) -> tuple[frozenset[int], frozenset[int]]:
    """The tokens of yes and those of no: forms that are one token; where there are none, what the forms begin with."""
    yes, no = (_whole(model, forms) for forms in (YES, NO))
    if not yes or not no:
        yes, no = (frozenset(ids[0] for form in forms if (ids := model.text_ids(form))) for forms in (YES, NO))
        yes, no = yes - no, no - yes
    if not yes or not no:
        raise ModelError(
            f"{model.geometry.name}: its first tokens do not tell yes from no; standing questions need a model that "
            "answers in words"
        )
    return yes, no


def _whole(model: Model, forms: Sequence[str]) -> frozenset[int]:
    return frozenset(ids[0] for form in forms if len(ids := model.text_ids(form)) == 1)


def _parts(questions: Sequence[tuple[int, ...]]) -> list[list[tuple[int, ...]]]:
    """In order, at most MOST_TOKENS together, or one."""
    parts: list[list[tuple[int, ...]]] = []
    room = 0
    for question in questions:
        if len(question) > room or not parts:
            parts.append([])
            room = MOST_TOKENS
        parts[-1].append(question)
        room -= len(question)
    return parts
