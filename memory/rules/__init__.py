"""How many standing questions are read over one memory: one after the other, or together.

view --+-- rule 1 --> scores of its next token
       +-- rule 2 --> scores of its next token      the same whatever the order, and whoever else asks
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from torch import Tensor

from memory.view import MemoryView
from stream.model import Model
from stream.policy import Paper, one
from stream.positions import Positions


@dataclass(frozen=True, slots=True)
class Reader:
    """What reads: a checkpoint and the position scheme of the bank."""

    model: Model
    positions: Positions


class Rules(Protocol):
    """Evaluates standing questions. Neither `view` nor any bank changes, and what is kept changes no result."""

    paper: ClassVar[Paper]

    def scores(self, reader: Reader, view: MemoryView, rules: Sequence[Sequence[int]]) -> Tensor:
        """[m, V] log-probabilities of the token after each of m >= 1 rules (token ids, `Model.question_ids`)."""
        ...


TABLE: dict[str, str] = {
    "each": "memory.rules.each:Each",
    "uniform": "memory.rules.uniform:Uniform",
    "random": "memory.rules.random:Random",
    "pepe": "memory.rules.pepe:Pepe",
    "pap": "memory.rules.pap:Pap",
    "prompt_cache": "memory.rules.prompt_cache:PromptCache",
}


def make(spec: Mapping[str, Mapping[str, Any]]) -> Rules:
    """From a one-key map, e.g. `{"pepe": {}}`."""
    method: Rules = one("rules", TABLE, spec)
    return method
