"""Muon: momentum whose steps are orthogonal, for the matrices between the layers (Jordan 2024, kellerjordan.github.io).

torch.optim.Muon orthogonalises in bf16, which processors without it emulate a hundred times slower, and one matrix at a
time; here it runs in the gradient's own type, matrices of one shape together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

QUINTIC = (3.4445, -4.7750, 2.0315)  # the iteration's coefficients in the source: fast at small singular values
ROUNDS = 5
RMS = 0.5  # root mean square of a step over its rate: about AdamW's, so that both share one rate (2502.16982 takes 0.2)


def orthogonal(matrices: Tensor) -> Tensor:
    """[n, A, B] -> the same singular vectors with singular values near 1 (0.7 to 1.2), by Newton and Schulz."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    found: Tensor = matrices.mT if tall else matrices
    found = found / found.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    a, b, c = QUINTIC
    for _ in range(ROUNDS):
        gram = found @ found.mT
        found = a * found + (b * gram + c * gram @ gram) @ found
    return found.mT if tall else found


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, with decoupled weight decay; for parameters of two dimensions."""

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, momentum: float = 0.95, weight_decay: float = 0.02
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step of every parameter that has a gradient."""
        assert closure is None, "not needed here"
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for item in group["params"]:
                if item.grad is not None:
                    alike[item.shape].append(item)
            for shape, items in alike.items():
                self._move(group, shape, items)

    def _move(self, group: dict[str, Any], shape: torch.Size, items: list[Tensor]) -> None:
        ahead = []
        for item in items:
            assert item.grad is not None
            speed = self.state[item].setdefault("speed", torch.zeros_like(item))
            speed.lerp_(item.grad, 1 - group["momentum"])
            ahead.append(torch.lerp(item.grad, speed, group["momentum"]))
        steps = orthogonal(torch.stack(ahead))
        for item, step in zip(items, steps, strict=True):
            item.mul_(1 - group["lr"] * group["weight_decay"])
            item.add_(step, alpha=-group["lr"] * RMS * max(shape) ** 0.5)
