"""Several reducers in order, each over what the one before left; and the frames before, for those that look back."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from stream.reduce import Reduce, Seen, make
from stream.types import NO_TAPS, VisualTokens


@dataclass
class Chain:
    """Reducers of all cameras. Not thread-safe: it belongs to the encoder's thread.

    `cameras`: of how many the last frames are kept for methods with a window; those seen last.
    """

    methods: tuple[Reduce, ...] = ()
    cameras: int = 64
    _past: OrderedDict[str, list[deque[Seen]]] = field(default_factory=OrderedDict, init=False, repr=False)

    def blocks(self, depth: int) -> tuple[int, ...]:
        """Tower blocks, rising, whose attention some method reads."""
        return tuple(sorted({block for method in self.methods for block in method.blocks(depth)}))

    def reduce(self, seen: Seen) -> VisualTokens:
        """What is left of the camera's next frame."""
        past = self._of(seen.frame.camera)
        for method, before in zip(self.methods, past, strict=True):
            tokens = method.reduce([*before, seen])
            if method.window > 1:
                # without taps, and a copy: a frame's features are a view of its whole batch
                kept = VisualTokens(seen.tokens.feats.clone(), seen.tokens.grid, seen.tokens.places, NO_TAPS)
                before.append(replace(seen, tokens=kept))
            seen = replace(seen, tokens=tokens)
        return seen.tokens

    def forget(self) -> None:
        """Nothing is known any more of the frames before: what was erased from memory stays erased."""
        self._past.clear()

    def _of(self, camera: str) -> list[deque[Seen]]:
        if camera not in self._past:
            self._past[camera] = [deque(maxlen=max(0, method.window - 1)) for method in self.methods]
        self._past.move_to_end(camera)
        while len(self._past) > self.cameras:
            self._past.popitem(last=False)
        return self._past[camera]


def chain(specs: Sequence[Mapping[str, Mapping[str, Any]]]) -> Chain:
    """From a list of one-key maps, e.g. `[{"m3": {"keen": 49}}, {"divprune": {"keen": 16}}]`."""
    methods = [make({name: options}) for spec in specs for name, options in spec.items()]
    return Chain(tuple(methods))
