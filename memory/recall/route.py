"""Now or past? History distracts from questions about now, so only questions about the past are searched for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from memory.recall import Asked, Method, Recall, Rows, make
from stream.policy import Paper

# English words that look back; a question without any of them is about now
PAST = re.compile(
    r"\b(was|were|did|had|has|have|been|ever|ago|last|first|before|after|when|how long|how many|how often|so far"
    r"|earlier|previous(ly)?|seen|saw|passed|came|went|left|happened|until|since|yesterday|today)\b"
)


@dataclass(frozen=True)
class Route(Method):
    """A question about now reads the bank; any other one what `past` chooses.

    `past`: the method for the past, e.g. `{clips: {reach: 2}}`.
    `recent`: a question is about now when this share of its attention to memory goes to the recent frames. Checkpoints
    without trained pointer heads attend to the newest whatever is asked; there its words decide.
    """

    past: dict[str, dict[str, Any]] = field(default_factory=lambda: {"relevance": {}})
    recent: float = 0.9

    paper: ClassVar[Paper] = Paper(
        title="SAVEMem",
        link="https://arxiv.org/abs/2605.07897",
        fidelity="idea",
        differs="its recency gate compares with a running mean of similarities; ours asks where the question looked",
    )

    def __post_init__(self) -> None:
        if not 0 < self.recent <= 1:
            raise ValueError(f"recent must lie in (0, 1], got {self.recent}")
        if len(self.past) != 1 or "route" in self.past:
            raise ValueError(f"past needs one method that is not route itself, got {', '.join(self.past) or 'none'}")
        self._past()

    def wants(self, asked: Asked) -> bool:
        """See Recall."""
        assert asked.look is not None, "`looks`"
        if asked.look.pointer is None or asked.look.recent is None:
            return PAST.search(asked.text.lower()) is not None
        return asked.look.recent < self.recent

    def select(self, asked: Asked, rows: Rows, room: int) -> Sequence[int]:
        """See Recall."""
        return self._past().select(asked, rows, room)

    def groups(self, asked: Asked, rows: Rows, room: int) -> Sequence[Sequence[int]]:
        """See Recall."""
        return self._past().groups(asked, rows, room)

    def _past(self) -> Recall:
        return make(self.past)
