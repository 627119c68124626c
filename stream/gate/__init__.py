"""Stage 1: is this frame worth looking at? Frame -> Verdict.

Gates run in the camera's own thread, before anything expensive. Those at the head of the list that go by time or
chance alone are asked before the picture is even scaled to model size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

from stream.policy import Paper, build
from stream.types import Frame, Verdict


class Gate(Protocol):
    """One camera's gate. It sees every decoded frame once, in order, and may keep state between calls.

    Where it does not look (`looks`), the picture may be missing: `image` is [0, 0, 3] then.

    `judge` must not change the frame, depends on frames up to this one only, and takes well under 5 ms. A frame
    that a later stage drops was still judged: a gate compares with the last frame it *kept*.
    """

    paper: ClassVar[Paper]
    looks: ClassVar[bool]  # judges by the picture

    def judge(self, frame: Frame) -> Verdict:
        """Keep or skip `frame`; `reason` is a short word for counters (`kept`, `stride`, `still`, ...)."""
        ...


TABLE: dict[str, str] = {
    "all": "stream.gate.all:All",
    "stride": "stream.gate.stride:Stride",
    "still": "stream.gate.still:Still",
    "random": "stream.gate.random:Random",
    "grt": "stream.gate.grt:Grt",
    "kffocus": "stream.gate.kffocus:KfFocus",
    "codes": "stream.gate.codes:Codes",
    "novelty": "stream.gate.novelty:Novelty",
}


MAX_GAP = "max_gap"  # reason of a frame that is kept although nothing moved


class Chain:
    """Several gates in order; the first that skips wins, and later ones do not see the frame."""

    paper: ClassVar[Paper] = Paper("gates in a row", "", "baseline")
    looks: ClassVar[bool] = True

    def __init__(self, gates: Sequence[Gate]) -> None:
        self.gates = tuple(gates)
        looking = [number for number, gate in enumerate(self.gates) if gate.looks]
        self._head = looking[0] if looking else len(self.gates)

    def judge(self, frame: Frame) -> Verdict:
        """The first skip, else the last gate's verdict."""
        verdict = self.before(frame)
        return self.after(frame, verdict) if verdict.keep else verdict

    def before(self, frame: Frame) -> Verdict:
        """What the gates at the head say that need no picture. Call `after` next where they keep."""
        return _judge(self.gates[: self._head], frame, Verdict(keep=True, score=1.0, reason="kept"))

    def after(self, frame: Frame, verdict: Verdict) -> Verdict:
        """What the others say; `verdict` is that of `before`."""
        return _judge(self.gates[self._head :], frame, verdict)


def _judge(gates: Sequence[Gate], frame: Frame, verdict: Verdict) -> Verdict:
    for gate in gates:
        verdict = gate.judge(frame)
        if not verdict.keep:
            break
    return verdict


def make(spec: Sequence[Mapping[str, Mapping[str, Any]]]) -> Chain:
    """Gates from configuration: a list of one-key maps, e.g. `[{"stride": {"fps": 1}}, {"still": {}}]`."""
    return Chain([build("gate", TABLE, name, options) for entry in spec for name, options in entry.items()])
