"""Comparing methods at equal budgets: paired differences, what no other beats, and what follows for the defaults.

Nothing here runs a model: rows come in as plain data (`Cell`), and verdicts go out.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

ERRORS_95 = 1.96  # standard errors of a 95 % interval
BASELINES = ("none", "all", "uniform", "random", "stride")  # names of plain choices, in every stage


@dataclass(frozen=True, slots=True)
class Gain:
    """How many points of accuracy one row is above another on the same questions."""

    points: float
    within: float  # half of its 95 % interval
    won: int
    lost: int

    @property
    def verdict(self) -> str:
        """`better` or `worse` where the interval leaves no doubt, else `level`."""
        if self.points > self.within:
            return "better"
        return "worse" if -self.points > self.within else "level"


@dataclass(frozen=True, slots=True)
class Cell:
    """One method at one budget, as far as a comparison needs it. None: not measured."""

    name: str
    accuracy: float | None
    ms: float | None


def paired(own: Sequence[bool], other: Sequence[bool]) -> Gain:
    """`own` against `other`: right or not, question by question, in the same order."""
    steps = [int(a) - int(b) for a, b in zip(own, other, strict=True)]
    if not steps:
        return Gain(0.0, 0.0, 0, 0)
    spread = statistics.stdev(steps) / math.sqrt(len(steps)) if len(steps) > 1 else 0.0
    points, within = 100 * statistics.fmean(steps), 100 * ERRORS_95 * spread
    return Gain(round(points, 2), round(within, 2), steps.count(1), steps.count(-1))


def frontier(cells: Iterable[Cell]) -> list[str]:
    """Names that no other beats, best first: at least as right for at most as much time, and better in one of them."""
    known = [(cell.name, cell.accuracy, cell.ms) for cell in cells if cell.accuracy is not None and cell.ms is not None]
    kept = [
        (name, right, ms)
        for name, right, ms in known
        if not any(a >= right and b <= ms and (a > right or b < ms) for _, a, b in known)
    ]
    return [name for name, _, _ in sorted(kept, key=lambda item: (-item[1], item[2], item[0]))]


def best(cells: Iterable[Cell], skip: Sequence[str] = BASELINES) -> str | None:
    """The most accurate that is no baseline; the cheaper one of equals. None where there is none."""
    known = [cell for cell in cells if cell.accuracy is not None and cell.name not in skip]
    if not known:
        return None
    return min(known, key=lambda cell: (-(cell.accuracy or 0.0), cell.ms or 0.0, cell.name)).name


def matched(share: Callable[[float], float], low: float, high: float, target: float, steps: int = 12) -> float:
    """The setting between `low` and `high` > 0 whose `share` comes nearest to `target`; halving on a logarithmic scale.

    `share` rises or falls over the range, not both; the nearest of all that were tried is given.
    """
    tried = {value: share(value) for value in (low, high)}
    rising = tried[high] >= tried[low]
    for _ in range(steps):
        middle = math.sqrt(low * high)
        tried[middle] = found = share(middle)
        if found == target:
            break
        if (found < target) == rising:
            low = middle
        else:
            high = middle
    return min(tried, key=lambda value: (abs(tried[value] - target), value))


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """Of two vectors; 0 where one is zero."""
    lengths = math.hypot(*one) * math.hypot(*other)
    return sum(a * b for a, b in zip(one, other, strict=True)) / lengths if lengths else 0.0
