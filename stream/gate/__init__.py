"""Stage 1: is this frame worth looking at? Frame -> Verdict.

Gates run in the camera's own thread, on pictures already scaled to model size, before anything expensive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

from stream.policy import Paper, build
from stream.types import Frame, Verdict


class Gate(Protocol):
    """One camera's gate. It sees every decoded frame once, in order, and may keep state between calls.

    `judge` must not change the frame, depends on frames up to this one only, and takes well under 5 ms. A frame
    that a later stage drops was still judged: a gate compares with the last frame it *kept*.
    """

    paper: ClassVar[Paper]

    def judge(self, frame: Frame) -> Verdict:
        """Keep or skip `frame`; `reason` is a short word for counters (`kept`, `stride`, `still`, ...)."""
        ...


TABLE: dict[str, str] = {
    "all": "stream.gate.all:All",
    "stride": "stream.gate.stride:Stride",
    "still": "stream.gate.still:Still",
    "random": "stream.gate.random:Random",
}


class Chain:
    """Several gates in order; the first that skips wins, and later ones do not see the frame."""

    paper: ClassVar[Paper] = Paper("gates in a row", "", "baseline")

    def __init__(self, gates: Sequence[Gate]) -> None:
        self.gates = tuple(gates)

    def judge(self, frame: Frame) -> Verdict:
        """The first skip, else the last gate's verdict."""
        verdict = Verdict(keep=True, score=1.0, reason="kept")
        for gate in self.gates:
            verdict = gate.judge(frame)
            if not verdict.keep:
                break
        return verdict


def make(spec: Sequence[Mapping[str, Mapping[str, Any]]]) -> Chain:
    """Gates from configuration: a list of one-key maps, e.g. `[{"stride": {"fps": 1}}, {"still": {}}]`."""
    return Chain([build("gate", TABLE, name, options) for entry in spec for name, options in entry.items()])
