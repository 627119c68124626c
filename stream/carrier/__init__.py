"""Stage 4: a frame's visual tokens -> the input of its carrier, the one position that is remembered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from torch import Tensor

from stream.policy import Paper, one
from stream.types import VisualTokens


class CarrierInput(Protocol):
    """Makes the embeddings that stand after the frame's visual tokens: the carrier, and companions before it.

    Every frame and every question reads the carrier. Companions are more positions of the same frame: they live and
    leave with their carrier, and only questions read them. The frame's own visual tokens serve as companions where a
    method is `attentive`.
    """

    paper: ClassVar[Paper]
    companions: int  # at most, a frame
    attentive: ClassVar[bool]  # companions are the visual tokens that the carrier attends to most; `embed` makes none

    def embed(self, tokens: VisualTokens) -> Tensor:
        """`tokens.feats` [N, D] -> [c + 1, D], companions first, c <= `companions`; the last is the carrier's input.

        Same dtype and device, the input untouched. The carrier's input is also its digest.
        """
        ...


TABLE: dict[str, str] = {
    "mean": "stream.carrier.mean:Mean",
    "plus": "stream.carrier.plus:Plus",
    "uniform": "stream.carrier.uniform:Uniform",
    "random": "stream.carrier.random:Random",
    "codes": "stream.carrier.codes:Codes",
    "semtok": "stream.carrier.semtok:SemTok",
}


def make(spec: Mapping[str, Mapping[str, Any]]) -> CarrierInput:
    """From a one-key map, e.g. `{"mean": {}}`."""
    method: CarrierInput = one("model.carrier", TABLE, spec)
    return method
