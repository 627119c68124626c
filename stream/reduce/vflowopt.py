"""VFlowOpt: importance of a token by what the tower's hub rows attend to, and by how busy its pixels are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from stream.ops import merged, top
from stream.policy import Paper
from stream.reduce import Seen
from stream.reduce.dull import Attentive, last
from stream.types import VisualTokens

LEAST_WEIGHT = 1e-9  # of a token that is averaged: with a negative alpha, importance may be below 0


@dataclass(frozen=True)
class VFlowOpt(Attentive):
    """The most important tokens; with `recycle`, what is dropped lives on as means over the cells of a coarse grid.

    `dull`: tokens of a frame whose gate score is below `below`; 0 is all of them.
    `keen`: tokens of every other frame; 0 is all of them.
    `below`: a frame with a lower score is dull.
    `hub`: only rows of patches that get more than this share of all attention are asked; the authors' 28.7 to 39.3
    times the mean of 729 patches are 0.039 to 0.054. Where no patch gets as much, all rows are.
    `alpha`: weight of the pixels' entropy, from -1 to 1; 0 in all settings that the authors released.
    `recycle`: side of a cell in tokens; 0: dropped tokens are gone. Cells grow where they would fill the budget.
    """

    hub: float = 0.048
    alpha: float = 0.0
    recycle: int = 0

    paper: ClassVar[Paper] = Paper(
        title="VFlowOpt: A Token Pruning Framework for LMMs with Visual Information Flow-Guided Optimization",
        link="https://arxiv.org/abs/2508.05211",
        fidelity="style",
        differs="written from the description alone, the code has no licence; every frame has its budget, not all "
        "together; entropy is that of the raw picture, not of normalised pixels that wrap at 8 bits; nothing is "
        "dropped again inside the language model; the tuner of its settings is left out",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.hub <= 1 or not -1 <= self.alpha <= 1 or self.recycle < 0:
            raise ValueError(
                f"hub is a share in [0, 1], alpha is in [-1, 1], recycle is a number of tokens from 0; "
                f"got hub {self.hub}, alpha {self.alpha}, recycle {self.recycle}"
            )

    def shrink(self, seen: Sequence[Seen], budget: int) -> VisualTokens:
        """The rows that stay; with `recycle` they and the means of the others, in order, at most `budget`."""
        side = self.recycle
        tokens = seen[-1].tokens
        while side and _cells(tokens.grid, side) >= budget:
            side = side + 1 if _cells(tokens.grid, side) > 1 else 0
        if not side:
            return super().shrink(seen, budget)
        worth = self._worth(seen[-1])
        kept = top(worth, budget - _cells(tokens.grid, side))
        means, where = recycled(tokens.feats, worth, kept, tokens.grid, side)
        order = torch.argsort(torch.cat((kept, where)))
        feats = torch.cat((tokens.feats[kept], means))[order]
        places = torch.cat((kept, where))[order]
        return VisualTokens(feats, (1, len(feats)), places if tokens.places is None else tokens.places[places])

    def places(self, seen: Sequence[Seen], budget: int) -> Tensor:
        """See Selecting."""
        return top(self._worth(seen[-1]), budget)

    def _worth(self, newest: Seen) -> Tensor:
        tap = last(newest.tokens)
        worth = by_hubs(tap.mean(), self.hub * tap.keys.shape[1])
        if self.alpha:
            high, wide = newest.tokens.grid
            rows = round((len(worth) * high / wide) ** 0.5)  # patches and tokens cover the same picture
            busy = entropy(newest.frame.image, (rows, len(worth) // rows))
            worth = worth + self.alpha * busy.to(worth.device).softmax(0)
        return tap.pool(worth)


def by_hubs(attention: Tensor, times: float) -> Tensor:
    """[P]: mean over the hub rows of a map `attention` [P, P] whose rows are queries.

    Hubs are patches that receive more than `times` the mean; without any, all rows count, where the authors have NaN.
    """
    received = attention.mean(0)
    hubs = received > times * received.mean()
    return attention[hubs].mean(0) if hubs.any() else received


def entropy(image: np.ndarray, grid: tuple[int, int]) -> Tensor:
    """float32 [P], bits: Shannon entropy of the grey levels, 256 bins, of each patch of `image` uint8 [H, W, 3].

    Patches are H // rows by W // columns pixels from the upper left corner, as the tower cuts them.
    """
    rows, columns = grid
    high, wide = image.shape[0] // rows, image.shape[1] // columns
    if high < 1 or wide < 1:
        raise ValueError(f"a picture of {image.shape[0]} x {image.shape[1]} pixels has no {rows} x {columns} patches")
    grey = np.rint(image[: rows * high, : columns * wide] @ np.array([0.299, 0.587, 0.114])).astype(np.int64)
    patches = grey.reshape(rows, high, columns, wide).swapaxes(1, 2).reshape(rows * columns, high * wide)
    bins = patches + 256 * np.arange(rows * columns)[:, None]
    share = np.bincount(bins.ravel(), minlength=256 * rows * columns).reshape(-1, 256) / (high * wide)
    bits = -(share * np.log2(np.where(share > 0, share, 1.0))).sum(1)
    return torch.from_numpy(bits).float()


def recycled(feats: Tensor, worth: Tensor, kept: Tensor, grid: tuple[int, int], side: int) -> tuple[Tensor, Tensor]:
    """Means of the rows of `feats` [N, D] that are not `kept`, one for each cell of `side` x `side` tokens with any.

    Weighted by `worth` [N]. Returns ([m, D], int64 [m], rising: where the most worthy of each cell stands).
    """
    place = torch.arange(len(feats), device=feats.device)
    cell = place // grid[1] // side * -(-grid[1] // side) + place % grid[1] // side
    gone = torch.ones(len(feats), dtype=torch.bool, device=feats.device).index_fill(0, kept, False)
    rest = place[gone]
    order = rest[torch.argsort(worth[rest], descending=True, stable=True)]
    best = {int(own): int(row) for own, row in zip(cell[order].flip(0), order.flip(0), strict=True)}
    owner = torch.tensor([best[int(own)] for own in cell[rest]], device=feats.device)
    where = torch.unique(owner)
    to_row = torch.searchsorted(rest, owner)
    return merged(feats[rest], to_row, worth[rest].clamp_min(LEAST_WEIGHT))[0], where


def _cells(grid: tuple[int, int], side: int) -> int:
    return -(-grid[0] // side) * -(-grid[1] // side)
