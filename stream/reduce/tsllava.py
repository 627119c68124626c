"""The last frames as thumbnails on one canvas, and evenly sampled tokens of the newest: TS-LLaVA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from stream.ops import pooled
from stream.policy import Paper
from stream.reduce import GRID, Seen
from stream.reduce.dull import Dull
from stream.types import VisualTokens

SHARE = 6  # of a budget one part is for the canvas: 576 of 3456 tokens in the paper


def layout(count: int) -> tuple[int, int]:
    """Rows and columns, rows >= columns, of the squarest grid with `count` cells: 6 is 3 x 2, a prime n is n x 1."""
    columns = max(side for side in range(1, int(count**0.5) + 1) if count % side == 0)
    return count // columns, columns


def evenly(total: int, count: int) -> Tensor:
    """int64 [count]: numbers of 0 .. total - 1, the first and the last among them, at round(linspace).

    All of them where there are fewer than `count`: the authors' function raises there.
    """
    if total <= count:
        return torch.arange(total)
    return torch.linspace(0, total - 1, steps=count).round().long().clamp(0, total - 1)


def canvas(pictures: Tensor, height: int, width: int) -> Tensor:
    """`pictures` [n, h, w, C], in order, tiled on [height', width', C], each cell resized.

    A cell is height // rows by width // columns: where that does not divide, the canvas is smaller than asked for.
    By area where either side shrinks, else bilinear. Source: tingyu215/TS-LLaVA.
    """
    rows, columns = layout(len(pictures))
    high, wide = height // rows, width // columns
    planes = pictures.permute(0, 3, 1, 2)
    if high < planes.shape[2] or wide < planes.shape[3]:
        cells = F.interpolate(planes, size=(high, wide), mode="area")
    else:
        cells = F.interpolate(planes, size=(high, wide), mode="bilinear", align_corners=False)
    tiled = cells.view(rows, columns, -1, high, wide).permute(0, 3, 1, 4, 2)
    return tiled.reshape(rows * high, columns * wide, -1)


@dataclass(frozen=True)
class TsLlava(Dull):
    """First a canvas of the window's frames, then tokens of the newest, both within the budget.

    `dull`: tokens of a frame whose gate score is below `below`; 0 is all of them.
    `keen`: tokens of every other frame; 0 is all of them.
    `below`: a frame with a lower score is dull.
    `thumbnails`: frames on the canvas, the newest and so many before it, equally far apart; fewer at a stream's start.
    """

    thumbnails: int = 4

    paper: ClassVar[Paper] = Paper(
        title="TS-LLaVA: Constructing Visual Tokens through Thumbnail-and-Sampling for Training-Free Video "
        "Large Language Models",
        link="https://arxiv.org/abs/2411.11066",
        fidelity="style",
        differs="the canvas is made of visual tokens and not of pictures, so that the tower runs once a frame; every "
        "frame brings its canvas and its own sample, where the authors make one of each for the whole video; `layout`, "
        "`evenly` and `canvas` give what theirs give",
    )
    window: ClassVar[int] = 8
    needs: ClassVar[frozenset[str]] = frozenset({GRID})

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.thumbnails <= self.window:
            raise ValueError(f"thumbnails must be 1 to {self.window}, frames of the window, got {self.thumbnails}")

    def shrink(self, seen: Sequence[Seen], budget: int) -> VisualTokens:
        """See Dull. Too small a budget for one token a thumbnail and one of the sample: no canvas."""
        newest = seen[-1].tokens
        before = list(takewhile(lambda one: one.tokens.grid == newest.grid, reversed(seen)))[::-1]
        shown = [before[place].tokens.feats for place in evenly(len(before), self.thumbnails)]
        drawn = newest.feats[:0]
        if budget > len(shown):
            _, (high, wide) = pooled(newest.feats[:, :1], newest.grid, max(1, budget // SHARE // len(shown)))
            rows, columns = layout(len(shown))
            pictures = torch.stack(shown).view(len(shown), *newest.grid, -1).float()
            drawn = canvas(pictures, rows * high, columns * wide).flatten(0, 1).to(newest.feats.dtype)
        sample = evenly(len(newest.feats), budget - len(drawn)).to(drawn.device)
        return VisualTokens(torch.cat((drawn, newest.feats[sample])), (1, budget))
