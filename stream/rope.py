"""Rotary positions, applied when keys are read (RoFormer, arXiv 2104.09864, in the half-split form of Qwen2).

Keys are stored un-rotated, so a position is a setting of the reader and never a property of what is stored. The
frequencies come from the checkpoint's own rotary module, scaling included; `stretch` scales them further.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stream.policy import Paper

INTP = Paper(
    title="Interpolating Video-LLMs: Toward Longer-sequence LMMs in a Training-free Manner",
    link="https://arxiv.org/abs/2409.12963",
    fidelity="style",
    differs="the stretched base of `model.rope_scale` only: a tower that sees frame by frame has nothing to rearrange, "
    "and how finely keys and values are stored is `archive.dtype`",
)


@dataclass(frozen=True, slots=True)
class Rotation:
    """Cosines and sines for some positions; broadcasts over heads."""

    cos: Tensor  # [B or 1, 1, T, Dh]
    sin: Tensor  # [B or 1, 1, T, Dh]

    def __call__(self, states: Tensor) -> Tensor:
        """`states` [B, heads, T, Dh] turned to their positions; same dtype."""
        half = states.shape[-1] // 2
        turned = torch.cat((-states[..., half:], states[..., :half]), dim=-1)
        return states * self.cos + turned * self.sin

    def into(self, out: Tensor, states: Tensor) -> None:
        """The same, written to `out`, which is no part of `states`: nothing is allocated."""
        half = states.shape[-1] // 2
        torch.mul(states, self.cos, out=out)
        out[..., :half].addcmul_(states[..., half:], self.sin[..., :half], value=-1.0)
        out[..., half:].addcmul_(states[..., :half], self.sin[..., half:])

    def take(self, index: Tensor) -> Rotation:
        """The rotations of positions `index` [K] only."""
        return Rotation(self.cos[..., index, :], self.sin[..., index, :])


class Rope:
    """Positions -> Rotation, through the checkpoint's rotary module (kept aside by `disarm`)."""

    def __init__(self, rotary: nn.Module) -> None:
        self._rotary = rotary

    def at(self, positions: Tensor, like: Tensor) -> Rotation:
        """Rotations for `positions` [B, T] (whole or fractional) in the dtype and on the device of `like`."""
        cos, sin = self._rotary(like, positions)
        return Rotation(cos.unsqueeze(1), sin.unsqueeze(1))


class Unrotated(nn.Module):
    """Stands in the place of `rotary_emb`: cos 1 and sin 0 leave queries and keys as they are, bit for bit."""

    def __init__(self, head_width: int) -> None:
        super().__init__()
        self.head_width = head_width

    def forward(self, hidden: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002 - the slot's shape
        """Cosines [1, 1, Dh] of one and sines of zero, whatever the positions."""
        shape = (1, 1, self.head_width)
        return hidden.new_ones(shape), hidden.new_zeros(shape)


@torch.no_grad()
def stretch(rotary: nn.Module, scale: float) -> None:
    """Let positions of a rotary module reach `scale` times as far: base' = base * scale^(d / (d - 2)), NTK-aware.

    d is the width of a head. The slowest pair turns `scale` times slower, the fastest as before; 1 changes no bit.
    Raises ValueError where the checkpoint scales positions by a rule of its own.
    """
    kind = getattr(rotary, "rope_type", "default")
    if kind != "default":
        raise ValueError(f"the checkpoint scales its positions already ({kind})")
    frequencies: Tensor = rotary.inv_freq  # type: ignore[assignment]  # [d / 2], base^(-2 i / d)
    if scale != 1:
        pairs = torch.arange(len(frequencies), device=frequencies.device)
        frequencies.mul_(float(scale) ** -(pairs / (len(frequencies) - 1)))


def disarm(language_model: nn.Module, head_width: int) -> Rope:
    """Take the rotary module out of a Hugging Face text model and return it as a Rope."""
    rope = Rope(language_model.rotary_emb)  # type: ignore[arg-type]
    language_model.rotary_emb = Unrotated(head_width)
    return rope
