"""Stage 5: while a frame goes through the language model, fewer of its visual tokens go through the later layers.

    tokens E_1 .. E_N, companions, carrier --layer--> [enter] fewer E_i --layer--> [enter] fewer E_i --layer--> ..

The rows of the frame, in order, are its visual tokens that are still there and then `tail` rows (companions, and the
carrier as the last), which go through every layer. What is stored of a frame's visual tokens, as its recent detail, are
those that went through all layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

from torch import Tensor

from stream.policy import Paper, one

Part = Literal["attention", "mlp"]


@dataclass(frozen=True, slots=True)
class Way:
    """Which rows go through a layer, and what becomes of the others."""

    rows: Tensor  # int64, rising: rows of visual tokens among those that are there; the tail goes through anyhow
    wait: bool = False  # the others pass the layer by unchanged and are there after it; else they are gone for good
    hidden: Tensor | None = None  # [len(rows), D] what these rows are from now on, where others were folded into them


class Passing:
    """One frame's way through the layers; a method overrides what it needs. Made for each frame, and gone after it.

    Calls come in this order for every layer 0 .. L-1: `enter`, `attention`, `module("attention")`, `module("mlp")`.
    T is the number of rows that go through the layer, the tail among them.
    """

    def enter(self, layer: int, hidden: Tensor) -> Way | None:  # noqa: ARG002
        """Before `layer` reads `hidden` [T, D]: who goes through it; None is all that are there."""
        return None

    def attention(self, layer: int, query: Tensor, key: Tensor) -> None:
        """Rotated `query` [heads, T, Dh] and `key` [Hkv, T, Dh] of the frame's own rows, as the layer reads them."""

    def module(self, layer: int, part: Part, x: Tensor, y: Tensor) -> None:
        """What a part of the layer read, normalised, and gave, before the residual: [T, D]. See Prefill.modules."""


class Prefill(Protocol):
    """Prunes while a frame is absorbed. One object serves all cameras; each frame is judged by itself."""

    paper: ClassVar[Paper]
    modules: ClassVar[bool]  # whether `Passing.module` is called

    def start(self, visual: int, tail: int, layers: int) -> Passing | None:
        """A frame with `visual` tokens and `tail` rows after them begins. None: all of it goes through everything."""
        ...

    @property
    def before(self) -> int | None:
        """How many of the newest carriers a frame reads, beside the system prompt; None: all."""
        return None


TABLE: dict[str, str] = {
    "none": "stream.prefill.none:Nothing",
    "uniform": "stream.prefill.uniform:Uniform",
    "random": "stream.prefill.random:Random",
    "transprune": "stream.prefill.transprune:TransPrune",
    "quickvideo": "stream.prefill.quickvideo:QuickVideo",
    "aim": "stream.prefill.aim:Aim",
    "holitom": "stream.prefill.holitom:HoliTom",
    "csp": "stream.prefill.csp:Csp",
    "catp": "stream.prefill.catp:Catp",
    "mod": "stream.prefill.mod:Mod",
    "chunks": "stream.prefill.chunks:Chunks",
}


def make(spec: Mapping[str, Mapping[str, Any]]) -> Prefill:
    """From a one-key map, e.g. `{"transprune": {}}`."""
    method: Prefill = one("model.prefill", TABLE, spec)
    return method
