"""Average pooling of the token grid to a coarser level: Matryoshka Multimodal Models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from stream.policy import Paper
from stream.reduce import GRID, Seen
from stream.reduce.dull import Dull
from stream.types import VisualTokens


@dataclass(frozen=True)
class M3(Dull):
    """The mean of every square of tokens. The levels are those whose squares tile the grid: 14x14 has 196, 49, 4 and 1.

    `dull`: most tokens of a frame whose gate score is below `below`; 0 is all of them. The next level that fits.
    `keen`: most tokens of every other frame; 0 is all of them.
    `below`: a frame with a lower score is dull; for the gate `still` 1.0 is just enough change to be kept for it.
    """

    paper: ClassVar[Paper] = Paper(
        title="Matryoshka Multimodal Models",
        link="https://arxiv.org/abs/2405.17430",
        fidelity="parity",
        differs="the gate's score chooses the level; a number that no level has is a limit, where the authors' kernel "
        "int(sqrt(N / S)) gives more (`pool`); pooled after the projector and LLaVA-OneVision's own pooling; no "
        "checkpoint of ours is trained with it",
    )

    needs: ClassVar[frozenset[str]] = frozenset({GRID})
    leaves: ClassVar[frozenset[str]] = frozenset({GRID})

    def shrink(self, seen: Sequence[Seen], budget: int) -> VisualTokens:
        """See Dull."""
        tokens = seen[-1].tokens
        rows, columns = tokens.grid
        high, wide = tile(tokens.grid, budget)
        squares = tokens.feats.view(rows // high, high, columns // wide, wide, -1)
        return VisualTokens(squares.mean((1, 3)).flatten(0, 1), (rows // high, columns // wide))


def pool(feats: Tensor, scale: int) -> Tensor:
    """[m, D] of `feats` [N, D], a square grid: the authors' rule, kernel and stride int(sqrt(N / scale)).

    m is `scale` where squares of that side tile the grid, else more, or less where rows and columns are left over: of
    196 tokens 36 gives 49, 100 gives 196, 5 gives 4. Source: llava/model/llava_arch.py of mu-cai/matryoshka-mm.
    """
    side = math.isqrt(len(feats))
    if side**2 != len(feats):
        raise ValueError(f"{len(feats)} tokens are no square grid; `M3` pools any")
    step = int((len(feats) / scale) ** 0.5)
    squares = feats.T.reshape(1, -1, side, side)
    return F.avg_pool2d(squares, step, step)[0].flatten(1).T


def tile(grid: tuple[int, int], budget: int) -> tuple[int, int]:
    """Height and width of the smallest squares that tile `grid` and are at most `budget`; else the whole grid."""
    rows, columns = grid
    for side in range(1, min(grid) + 1):
        if rows % side == 0 and columns % side == 0 and rows * columns <= budget * side**2:
            return side, side
    return grid
