"""What a question reads of the bank: indices of carriers, in time order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

from stream.policy import Paper, build
from stream.types import Span


class Recall(Protocol):
    """Chooses among the carriers whose span touches the asked time range. Must not change anything."""

    paper: ClassVar[Paper]

    def select(self, spans: Sequence[Span]) -> Sequence[int]:
        """Sorted unique indices into `spans`, which are in time order."""
        ...


TABLE: dict[str, str] = {"all": "memory.recall.all:All", "recent": "memory.recall.recent:Recent"}


def make(spec: Mapping[str, Mapping[str, Any]]) -> Recall:
    """From a one-key map, e.g. `{"recent": {"carriers": 8}}`."""
    ((name, options),) = spec.items()
    method: Recall = build("memory.recall", TABLE, name, options)
    return method
