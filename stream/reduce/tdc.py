"""A stream in short chunks: the first frame of each in full, those after it coarsely. TDC without its trained parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from stream.ops import cosines, pooled
from stream.policy import Paper
from stream.reduce import GRID, Seen
from stream.reduce.dull import Dull
from stream.types import VisualTokens

CHUNK = 8  # frames, at most
REST = 9  # a later frame of a chunk has the ninth part: 16 of 144 in the paper


def cut(seen: Sequence[Seen], theta: float) -> bool:
    """Whether the newest frame begins a chunk: it looks unlike the one before, or the chunk has its 8 frames.

    Looks: cosine of the two frames' mean tokens below `theta`. The eight are counted on the camera's frame numbers,
    since nothing is remembered: a chunk ends where a multiple of 8 is passed, of 16 where the gate leaves every second
    frame out, and so on; how many it leaves out shows in the last 8.
    """
    if len(seen) < 2:
        return True
    last, newest = seen[-2:]
    means = [one.tokens.feats.float().mean(0, keepdim=True) for one in (last, newest)]
    if float(cosines(*means)) < theta:
        return True
    apart = (newest.frame.index - seen[0].frame.index) / (len(seen) - 1)
    stretch = CHUNK * 2 ** int(math.log2(max(1.0, apart)))
    return bool(newest.frame.index // stretch != last.frame.index // stretch)


@dataclass(frozen=True)
class Tdc(Dull):
    """Averages of squares of tokens: the whole budget for a chunk's first frame, a ninth of it for those after it.

    `dull`: most tokens of a frame whose gate score is below `below`; 0 is all of them, wherever it stands.
    `keen`: most tokens of every other frame; 0 is all of them.
    `below`: a frame with a lower score is dull.
    `theta`: cosine of two frames' mean tokens below which a new chunk begins.
    """

    theta: float = 0.83

    paper: ClassVar[Paper] = Paper(
        title="Multimodal Long Video Modeling Based on Temporal Dynamic Context",
        link="https://arxiv.org/abs/2504.10443",
        fidelity="style",
        differs="averages in place of the trained Q-Former, no question, no sound, no separator; mean SigLIP tokens in "
        "place of DINOv2; cuts by threshold, where the authors take the 24 lowest similarities of the whole video; a "
        "chunk's first frame stays within the budget as well",
    )
    window: ClassVar[int] = CHUNK
    needs: ClassVar[frozenset[str]] = frozenset({GRID})
    leaves: ClassVar[frozenset[str]] = frozenset({GRID})

    def __post_init__(self) -> None:
        super().__post_init__()
        if not -1 <= self.theta <= 1:
            raise ValueError(f"theta is a cosine, -1 to 1, got {self.theta}")

    def shrink(self, seen: Sequence[Seen], budget: int) -> VisualTokens:
        """See Dull."""
        newest = seen[-1].tokens
        return VisualTokens(
            *pooled(newest.feats, newest.grid, budget if cut(seen, self.theta) else max(1, budget // REST))
        )
