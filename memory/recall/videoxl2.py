"""Relevant blocks carrier by carrier, everything else four to one: no part of the past is missing (Video-XL-2)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar

from memory.recall import Asked, Method, Rows
from memory.recall.choose import best_first, blocks, pooled
from memory.recall.score import By, known, score
from stream.policy import Paper


def opened(parts: Sequence[range], order: Iterable[int], room: int) -> set[int]:
    """The first of `order`, numbers of `parts`, that can be read row by row while each run between them keeps a key."""
    found: set[int] = set()
    for number in order:
        trial = found | {number}
        if sum(len(parts[item]) for item in trial) + len(runs(parts, trial)) <= room:
            found = trial
    return found


def runs(parts: Sequence[range], dense: set[int]) -> list[range]:
    """The stretches of rows that lie between the parts `dense`."""
    apart = [list(own) for inside, own in groupby(range(len(parts)), key=dense.__contains__) if not inside]
    return [range(parts[own[0]].start, parts[own[-1]].stop) for own in apart]


def mixed(parts: Sequence[range], dense: set[int], step: int, room: int) -> list[Sequence[int]]:
    """Groups in time order: rows of the parts `dense` alone, the runs between them `step` to one, or as many more as it
    takes to stay within `room`. Without a limit there are sum(len(dense)) + sum(ceil(run / step)) of them."""
    apart = runs(parts, dense)
    left = room - sum(len(parts[item]) for item in dense)
    while sum(-(-len(run) // step) for run in apart) > left:
        step += 1
    alone = [(index,) for item in dense for index in parts[item]]
    means = [run[first : first + step] for run in apart for first in range(0, len(run), step)]
    return sorted([*alone, *means], key=lambda group: group[0])


@dataclass(frozen=True)
class VideoXL2(Method):
    """The first, the last and the best blocks dense, the runs between them as means; all dense where there is room.

    `by`: `keys`, `digests` or `fused`, as in `relevance`; of a block's mean.
    `block`: carriers a block.
    `dense`: blocks that are read carrier by carrier, beside the first and the last.
    `step`: carriers that are read as one elsewhere; more of them where room is short.
    """

    by: By = "keys"
    block: int = 8
    dense: int = 4
    step: int = 4

    paper: ClassVar[Paper] = Paper(
        title="Video-XL-2: Towards Very Long-Video Understanding Through Task-Aware KV Sparsification",
        link="https://arxiv.org/abs/2506.19225",
        fidelity="style",
        differs="relevance comes from the question's own queries, not from LanguageBind (no text tower here); what is "
        "pooled are carriers, a frame each; the room is hard, so `step` grows, and a rest shorter than `step` is kept",
    )

    def __post_init__(self) -> None:
        known(self.by)
        if self.block < 1 or self.dense < 0 or self.step < 1:
            raise ValueError(
                f"block and step must be at least 1 and dense 0 or more, got {self.block}, {self.step}, {self.dense}"
            )

    def select(self, asked: Asked, rows: Rows, room: int) -> Sequence[int]:
        """See Recall: the newest of every group."""
        return [group[-1] for group in self.groups(asked, rows, room)]

    def groups(self, asked: Asked, rows: Rows, room: int) -> Sequence[Sequence[int]]:
        """See Recall."""
        if len(rows) <= room:
            return [(index,) for index in range(len(rows))]
        parts = blocks(len(rows), self.block)
        ends = (len(parts) - 1, 0)
        best = best_first(score(asked, pooled(rows, parts), self.by))
        others = [number for number in best if number not in ends]
        return mixed(parts, opened(parts, [*ends, *others[: self.dense]], room), self.step, room)
