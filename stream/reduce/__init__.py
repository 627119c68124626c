"""Stage 3: fewer visual tokens for a frame, before the language model reads it. Most where little happened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from stream.policy import Paper, build
from stream.types import VisualTokens


class Reduce(Protocol):
    """Makes a frame's visual tokens fewer. One object serves all cameras: it keeps nothing from frame to frame."""

    paper: ClassVar[Paper]

    def reduce(self, tokens: VisualTokens, score: float) -> VisualTokens:
        """n <= N tokens [n, D] and their grid, in the order in which they stood; dtype and device stay.

        `score` is what the gate said of the frame (`Frame.score`). The result depends on the two arguments only, and
        `tokens` is untouched; it is returned as it is where all are kept. Selecting methods give some of its rows.
        """
        ...


TABLE: dict[str, str] = {
    "none": "stream.reduce.none:Nothing",
    "m3": "stream.reduce.m3:M3",
    "uniform": "stream.reduce.uniform:Uniform",
    "random": "stream.reduce.random:Random",
}


def make(spec: Mapping[str, Mapping[str, Any]]) -> Reduce:
    """From a one-key map, e.g. `{"m3": {"dull": 1}}`."""
    ((name, options),) = spec.items()
    method: Reduce = build("reduce", TABLE, name, options)
    return method
