"""A picture that looks like the one before is not encoded twice: its camera's last visual tokens serve again.

    picture --tower, projector, pooling--> visual tokens     the dear part of a frame
    the same picture again             --> the same tokens   the language model still reads them, at the new time

What counts is the last picture that was ENCODED, so slow change adds up until it is seen, and light counts too: a lamp
that went out is another picture, though nothing moved.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from stream.gate.still import grid
from stream.types import Frame, VisualTokens


@dataclass(frozen=True, slots=True)
class _Seen:
    """The last picture of one camera that is not a repetition."""

    cells: np.ndarray  # float32 [CELLS, CELLS] mean brightness
    tokens: VisualTokens | None = None  # None until it is encoded


class Reuse:
    """Tokens of the last encoded picture of each camera. Not thread-safe: it belongs to the encoder's thread.

    `below`: greatest difference of a cell's mean brightness, grey levels of 255, that is still the same picture; it
    must lie above the camera's noise. `cameras`: how many are remembered, those seen last.
    """

    def __init__(self, below: float, cameras: int = 64) -> None:
        if not below > 0 or cameras < 1:
            raise ValueError(f"reuse needs below > 0 and at least one camera, got below {below} and {cameras} cameras")
        self.below, self.cameras = below, cameras
        self.encoded = self.reused = 0  # frames so far
        self._seen: OrderedDict[str, _Seen] = OrderedDict()

    def find(self, frame: Frame) -> VisualTokens | None:
        """The tokens that serve for `frame` too; None when it has to be encoded, and then given to `keep`."""
        cells, last = grid(frame.image), self._seen.get(frame.camera)
        if last is not None and last.tokens is not None and self._same(cells, last.cells):
            self._seen.move_to_end(frame.camera)
            self.reused += 1
            return last.tokens
        self._seen[frame.camera] = _Seen(cells)
        self._seen.move_to_end(frame.camera)
        while len(self._seen) > self.cameras:
            self._seen.popitem(last=False)
        return None

    def keep(self, frame: Frame, tokens: VisualTokens) -> None:
        """What the tower made of `frame`, for which `find` had nothing."""
        self.encoded += 1
        if (last := self._seen.get(frame.camera)) is not None:  # else more cameras than are remembered, in one batch
            own = VisualTokens(tokens.feats.clone(), tokens.grid)  # a view would keep the whole batch
            self._seen[frame.camera] = _Seen(last.cells, own)

    def forget(self) -> None:
        """Nothing is known any more: what was erased from memory must not come back through this door."""
        self._seen.clear()

    def _same(self, cells: np.ndarray, reference: np.ndarray) -> bool:
        return cells.shape == reference.shape and float(np.abs(cells - reference).max()) < self.below
