"""Stage 3: fewer visual tokens for a frame, before the language model reads it. Most where little happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from stream.policy import Paper, one
from stream.types import Frame, VisualTokens


@dataclass(frozen=True, slots=True)
class Seen:
    """A frame and its visual tokens. Read only."""

    tokens: VisualTokens
    frame: Frame  # its `score` is what the gate said of it


class Reduce(Protocol):
    """Makes a frame's visual tokens fewer. One object serves all cameras: it keeps nothing from frame to frame."""

    paper: ClassVar[Paper]
    window: ClassVar[int]  # frames of a camera that it looks at, the newest among them; no look ahead
    needs: ClassVar[frozenset[str]]  # "grid": tokens stand on their grid; "attention": `taps` of the tower
    leaves: ClassVar[frozenset[str]]  # which of these still hold of what it gives

    def blocks(self, depth: int) -> tuple[int, ...]:
        """Of a tower with `depth` blocks, those whose attention it reads: `tokens.taps` of the newest frame."""
        ...

    def reduce(self, seen: Sequence[Seen]) -> VisualTokens:
        """n <= N tokens of the newest frame `seen[-1]`, in the order in which they stood; dtype and device stay.

        At most `window` frames, oldest first, as they were before any reduction by this method; fewer at a stream's
        start. The result depends on them only, and none is changed; the newest's tokens are returned as they are where
        all are kept. Selecting methods give some of its rows, and their `places`. Only the newest has `taps`.
        """
        ...


GRID, ATTENTION = "grid", "attention"

TABLE: dict[str, str] = {
    "none": "stream.reduce.none:Nothing",
    "uniform": "stream.reduce.uniform:Uniform",
    "random": "stream.reduce.random:Random",
    "m3": "stream.reduce.m3:M3",
    "fastervlm": "stream.reduce.fastervlm:FasterVlm",
    "fopru": "stream.reduce.fopru:FoPru",
    "hiprune": "stream.reduce.hiprune:HiPrune",
    "vflowopt": "stream.reduce.vflowopt:VFlowOpt",
    "divprune": "stream.reduce.divprune:DivPrune",
    "todre": "stream.reduce.todre:ToDre",
    "recoverable": "stream.reduce.recoverable:Recoverable",
    "holitom": "stream.reduce.holitom:HoliTom",
    "aim": "stream.reduce.aim:Aim",
    "centerclip": "stream.reduce.centerclip:CenterClip",
    "tdc": "stream.reduce.tdc:Tdc",
    "tsllava": "stream.reduce.tsllava:TsLlava",
    "vqtoken": "stream.reduce.vqtoken:VqToken",
}


def make(spec: Mapping[str, Mapping[str, Any]]) -> Reduce:
    """From a one-key map, e.g. `{"m3": {"dull": 1}}`."""
    method: Reduce = one("model.reduce", TABLE, spec)
    return method
