"""A picture that looks like the one before is not encoded twice: its camera's last visual tokens serve again.

    picture --tower, projector, pooling--> visual tokens     the dear part of a frame
    the same picture again             --> the same tokens   the language model still reads them, at the new time

What counts is the last picture that was ENCODED, so slow change adds up until it is seen, and light counts too: a lamp
that went out is another picture, though nothing moved.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stream.gate.still import grid
from stream.types import Frame, VisualTokens

Encode = Callable[[np.ndarray], list[VisualTokens]]


@dataclass(frozen=True, slots=True)
class _Seen:
    """The last picture of one camera that was encoded."""

    cells: np.ndarray  # float32 [CELLS, CELLS] mean brightness
    tokens: VisualTokens


class Reuse:
    """Tokens of the last encoded picture of each camera. Not thread-safe: it belongs to the encoder's thread.

    `below`: greatest difference of a cell's mean brightness, grey levels of 255, that is still the same picture; it
    must lie above the camera's noise. `cameras`: how many are remembered; those seen last.
    """

    def __init__(self, below: float, cameras: int = 64) -> None:
        if not below > 0 or cameras < 1:
            raise ValueError(f"reuse needs below > 0 and at least one camera, got below {below} and {cameras} cameras")
        self.below, self.cameras = below, cameras
        self.encoded = self.reused = 0  # frames so far
        self._seen: OrderedDict[str, _Seen] = OrderedDict()

    def encode(self, frames: Sequence[Frame], encode: Encode) -> list[VisualTokens]:
        """The tokens of `frames`; `encode` is given the pictures [B', H, W, 3] that are new, if there are any."""
        cells = [grid(frame.image) for frame in frames]
        found = [self._known(frame.camera, own) for frame, own in zip(frames, cells, strict=True)]
        fresh = [place for place, tokens in enumerate(found) if tokens is None]
        made = encode(np.stack([frames[place].image for place in fresh])) if fresh else []
        for place, tokens in zip(fresh, made, strict=True):
            found[place] = tokens
            own = replace(tokens, feats=tokens.feats.clone())  # a view would keep the whole batch; taps hold their own
            self._seen[frames[place].camera] = _Seen(cells[place], own)
        for frame in frames:
            self._seen.move_to_end(frame.camera)
        while len(self._seen) > self.cameras:
            self._seen.popitem(last=False)
        self.encoded += len(fresh)
        self.reused += len(frames) - len(fresh)
        return [tokens for tokens in found if tokens is not None]

    def forget(self) -> None:
        """Nothing is known any more: what was erased from memory must not come back through this door."""
        self._seen.clear()

    def _known(self, camera: str, cells: np.ndarray) -> VisualTokens | None:
        last = self._seen.get(camera)
        if last is None or last.cells.shape != cells.shape:
            return None
        return last.tokens if float(np.abs(cells - last.cells).max()) < self.below else None
