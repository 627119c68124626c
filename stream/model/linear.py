"""Linear layers for the rows of a word, a question or a frame, on several cores: BLAS leaves all but one idle with few.

    x [M, in] W^T   ->   x [W_1; W_2; ...]^T, a batch of products: each core reads its own rows of the weights

The same products and sums in another order. Where rows are many, gradients wanted or cores one, it is torch's own.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FEW = 256  # rows, as one frame of 197 has: from there on BLAS shares them well between cores itself
LARGE = 1 << 17  # weights: below, a batch costs more than it saves


class WordLinear(nn.Linear):
    """A linear layer over the same parameters as the one it is made of."""

    @classmethod
    def of(cls, linear: nn.Linear) -> WordLinear:
        """In the place of `linear`."""
        made = cls.__new__(cls)
        nn.Module.__init__(made)
        made.in_features, made.out_features = linear.in_features, linear.out_features
        made.weight, made.bias = linear.weight, linear.bias
        made.training = linear.training
        return made

    def forward(self, states: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        rows = states.numel() // self.in_features
        cores = torch.get_num_threads()
        plain = torch.is_grad_enabled() or states.dtype != torch.float32 or not states.is_cpu
        if plain or cores == 1 or rows > FEW or self.weight.numel() < LARGE:
            return F.linear(states, self.weight, self.bias)
        blocks = math.gcd(self.out_features, 2 << (cores - 1).bit_length())
        flat = states.reshape(rows, self.in_features).expand(blocks, rows, self.in_features)
        made = torch.bmm(flat, self.weight.view(blocks, -1, self.in_features).transpose(1, 2))
        out = made.transpose(0, 1).reshape(*states.shape[:-1], self.out_features)
        return out if self.bias is None else out.add_(self.bias)


def install(net: Any) -> None:
    """Replace the linear layers of the language model and its head in `net`, in place."""
    for parent in list(net.model.language_model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear:
                setattr(parent, name, WordLinear.of(child))
    if type(net.lm_head) is nn.Linear:
        net.lm_head = WordLinear.of(net.lm_head)
