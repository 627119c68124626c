"""Checkpoints: what the rest of the project may ask of a model, and the table of adapters by `model_type`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from stream.attention import Mass, Reading, Step
    from stream.kv import Lane, Past, Slab, Store
    from stream.rope import Rope
    from stream.tower import Tower
    from stream.types import Pointer, Trust, VisualTokens

TABLE: dict[str, str] = {"llava_onevision": "stream.model.llava_onevision:LlavaOnevision"}


@dataclass(frozen=True, slots=True)
class Geometry:
    """The numbers a checkpoint fixes."""

    name: str
    layers: int  # L
    kv_heads: int  # Hkv
    head_width: int  # Dh
    width: int  # D
    visual: int  # N
    grid: tuple[int, int]
    image_px: int  # H = W
    tower_blocks: int  # of the vision tower, those that are used
    max_positions: int
    positions: str  # the scheme it was trained with
    carriers: int | None  # bank size it was trained with; None: any
    trained: bool  # for carriers; else answers from memory are what a frozen model happens to give
    pointer: Pointer | None  # trained to point at evidence
    trust: Trust | None  # how far its answers can be believed
    dtype: torch.dtype
    device: torch.device
    caption: str = "Say in a few words what happens here."  # what it is asked for one line about an event
    rules: str = "pepe"  # how it reads standing questions (`memory/rules`)

    @property
    def carrier_bytes(self) -> int:
        """Keys and values of one carrier over all layers."""
        return 2 * self.layers * self.kv_heads * self.head_width * self.dtype.itemsize


class Model(Protocol):
    """A vision-language checkpoint. Not thread-safe: one thread owns it."""

    geometry: Geometry
    rope: Rope

    @property
    def identity(self) -> str:
        """A short digest of weights, geometry and system prompt: carriers of another identity cannot be read."""
        ...

    def key_base(self) -> Tensor | None:
        """What all keys have in common [L, Hkv, Dh], the projections' bias; None without one."""
        ...

    def encode(self, images: np.ndarray, tower: Tower | None = None, taps: Sequence[int] = ()) -> list[VisualTokens]:
        """Pictures uint8 [B, H, W, 3] at model size -> tokens in the language model's space.

        `tower` makes patches fewer on the way. `taps` are blocks of the vision tower, from 0, whose attention comes
        with the tokens.
        """
        ...

    def system(self) -> Past:
        """The system prompt's keys and values: computed once, shared by all cameras, never evicted."""
        ...

    def slab(self, pasts: Sequence[Past], room: int) -> Slab:
        """A cache over the system prompt and one past per row, with `room` for new tokens."""
        ...

    def prepare(self, lane: Lane) -> None:
        """Bring a camera's lane up to date for a forward: system prompt in front, slots turned to where they stand."""
        ...

    def forward(self, embeds: Tensor, positions: Tensor, store: Store, mass: Mass | None = None) -> Tensor:
        """Run [B, T, D] at `positions` [B, T] on top of `store`, causal among themselves; hidden states [B, T, D]."""
        ...

    def forward_all(self, steps: Sequence[Step]) -> list[Tensor]:
        """Several such steps in one forward, which reads the weights once; their hidden states."""
        ...

    def run(self, embeds: Tensor, plan: Reading) -> Tensor:
        """The language model over [B, T, D], which attends as `plan` says; hidden states [B, T, D]."""
        ...

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states [B, D] -> scores over the vocabulary [B, V]."""
        ...

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids [...] -> embeddings [..., D]."""
        ...

    def question_ids(self, question: str) -> list[int]:
        """A question with all that stands between the frames and the answer's first token."""
        ...

    def text_ids(self, text: str) -> list[int]:
        """Token ids of plain text, as the model would write it."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Answer tokens as text, special tokens left out."""
        ...

    @property
    def marks(self) -> Mapping[int, str]:
        """Tokens that stand for a time (`stream/marks.py`), by id; empty where the checkpoint has none."""
        ...

    @property
    def stop_ids(self) -> frozenset[int]:
        """Tokens that end an answer."""
        ...
