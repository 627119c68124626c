"""Stage 4: a frame's visual tokens -> the input of its carrier, the one position that is remembered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from torch import Tensor

from stream.policy import Paper, build
from stream.types import VisualTokens


class CarrierInput(Protocol):
    """Makes the embedding that stands at the carrier's position, after the frame's visual tokens."""

    paper: ClassVar[Paper]

    def embed(self, tokens: VisualTokens) -> Tensor:
        """`tokens.feats` [N, D] -> [D]; same dtype and device, input untouched. It is also the carrier's digest."""
        ...


TABLE: dict[str, str] = {"mean": "stream.carrier.mean:Mean"}


def make(spec: Mapping[str, Mapping[str, Any]]) -> CarrierInput:
    """From a one-key map, e.g. `{"mean": {}}`."""
    ((name, options),) = spec.items()
    method: CarrierInput = build("carrier", TABLE, name, options)
    return method
