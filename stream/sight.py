"""Does the picture show anything? A camera may send on and see nothing: its lens covered, its encoder hung.

    black   practically no light, and nothing that could be told apart, anywhere in the picture
    frozen  one and the same picture, bit for bit, from a camera whose pictures otherwise change

A real sensor's noise makes every picture another one, but encoders hide it: the still parts of a scene are sent as
"as before", and a test card, a screen or a still image is the same for ever. So a camera is judged by itself: `frozen`
asks that it changed for most of the time before, and is said early only where the noise reaches us.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

BLACK, FROZEN = "black", "frozen"
BLIND = frozenset({BLACK, FROZEN})  # reasons of a camera that sends and shows nothing

# Grey levels of 255. Black of a video is 16 where its range was mistaken; a covered sensor adds noise of up to about 8.
DARK = 20.0  # mean of the brightest cell: the mistaken black, and a little light
STRUCTURE = 4.0  # brightest less darkest cell: noise averages out to less, and less than this nobody can see
LAMP = 48  # brightest value: five times that noise; the smallest lamp is brighter
_CELLS = 8  # per side
_SAMPLES = 96  # per side at most: enough for the means of a dark picture
_SLACK = 1.5  # once it was said, limits are this much wider: a picture at the limit is not black every other second

MAX_STEP_S = 5.0  # a longer pause says nothing of the pictures around it, and the clock may have been set
MIN_REPEATS = 8  # a slow camera needs more than two pictures to be called frozen
HABIT_S = 600.0  # over how long it is learned whether the picture changes
CHANGING = 0.5  # share of that time in which it must have changed
NOISE_S = 30.0  # over how long it is learned how much of the picture changes
NOISY = 0.4  # mean share of values that differ from the picture before: noise over all of it
KNOWN_S = 20.0  # no noise is known from less
QUICK = 1 / 12  # of `frozen_after_s`, where noise over all of the picture stops at once
LONGER = 1.25  # times the longest stillness of late: an encoder that hides noise shows it again at every key frame
_PULSE_S = 1.0  # a change counts for this long: repeated pictures of a fast stream are no stillness


@dataclass(slots=True)
class _Run:
    """Pictures in a row of which the same is true."""

    since_s: float  # stamp of the first
    lasted_s: float = 0.0
    pictures: int = 1

    def extend(self, step_s: float) -> None:
        """One more picture."""
        self.lasted_s += step_s
        self.pictures += 1


class Sight:
    """Judges every picture of one camera, in order. Not thread-safe: it belongs to the camera's thread.

    `state` is `black`, `frozen`, or empty while there is something to see; `since_s` the stamp of the first such
    picture (of the first good one when empty). A limit of 0 switches a judgement off.
    """

    def __init__(self, black_after_s: float = 3.0, frozen_after_s: float = 60.0) -> None:
        if not (black_after_s >= 0 and frozen_after_s >= 0):
            raise ValueError(f"black_after_s and frozen_after_s must be >= 0, got {black_after_s} and {frozen_after_s}")
        self.state = ""
        self.since_s = -math.inf
        self._black_after_s, self._frozen_after_s = black_after_s, frozen_after_s
        self._dark: _Run | None = None
        self._still: _Run | None = None
        self._patience_s = math.inf  # of the run of equal pictures
        self._last: np.ndarray | None = None  # [H, W, 3], the picture before
        self._last_s = -math.inf
        self._changed_s = -math.inf  # stamp of the last picture that differed from the one before
        self._watched_s = 0.0  # time that was learned from
        self._changing = 0.0  # share of the time in which the picture changes
        self._noise = 0.0  # mean share of values that differ from the picture before
        self._stillness_s = 0.0  # the longest run of equal pictures; fades over HABIT_S

    def look(self, image: np.ndarray, wall_s: float) -> str:
        """The state with one more picture: uint8 RGB [H, W, 3], taken at `wall_s`, which increases."""
        step_s = min(MAX_STEP_S, max(0.0, wall_s - self._last_s))
        self._stillness_s = max(self._stillness_s, step_s)  # between two looks it may have stood still
        share = _changed(image, self._last)
        dark = self._black_after_s > 0 and black(image, _SLACK if self.state == BLACK else 1.0)
        self._dark = _longer(self._dark, wall_s, step_s) if dark else None
        if dark or share > 0:
            self._stillness_s = max(self._stillness_s, self._still.lasted_s if self._still is not None else 0.0)
            self._still = None
        else:
            if self._still is None:
                self._patience_s = self._patience()
            self._still = _longer(self._still, wall_s, step_s)
        if not dark:  # a lens that is covered says nothing about how this camera's pictures usually are
            self._learn(share, step_s, wall_s)
        self._last, self._last_s = image, wall_s
        self._conclude(wall_s)
        return self.state

    def restart(self) -> None:
        """There was a time without pictures: what comes now is judged anew; the camera's habits stay known."""
        self.state, self._dark, self._still = "", None, None

    def _conclude(self, wall_s: float) -> None:
        dark, still = self._dark, self._still
        if dark is not None and (self.state == BLACK or dark.lasted_s >= self._black_after_s):
            found, since_s = BLACK, dark.since_s
        elif still is not None and still.pictures >= MIN_REPEATS and still.lasted_s >= self._patience_s:
            found, since_s = FROZEN, still.since_s
        else:
            found, since_s = "", wall_s
        if found != self.state:
            self.state, self.since_s = found, since_s

    def _patience(self) -> float:
        """How long this camera's picture may stay the same before it counts as frozen."""
        enough_s = self._frozen_after_s
        if enough_s == 0:
            return math.inf
        if self._watched_s >= KNOWN_S and self._noise >= NOISY:
            return min(enough_s, max(enough_s * QUICK, LONGER * self._stillness_s))
        return enough_s if self._watched_s >= enough_s and self._changing >= CHANGING else math.inf

    def _learn(self, share: float, step_s: float, wall_s: float) -> None:
        if share > 0:
            self._changed_s = wall_s
        self._stillness_s *= math.exp(-step_s / HABIT_S)
        self._watched_s += step_s
        if self._watched_s > 0:
            changes = wall_s - self._changed_s <= max(_PULSE_S, step_s)
            self._changing += (changes - self._changing) * step_s / min(HABIT_S, self._watched_s)
            self._noise += (share - self._noise) * step_s / min(NOISE_S, self._watched_s)


def black(image: np.ndarray, slack: float = 1.0) -> bool:
    """Whether uint8 RGB [H, W, 3] shows nothing for want of light; `slack` widens every limit.

    A lamp, a lit window, or the faintest outline that one can make out is something.
    """
    if image.max() > slack * LAMP:
        return False
    cells = _cells(image)
    return bool(cells.max() <= slack * DARK and np.ptp(cells) <= slack * STRUCTURE)


def _cells(image: np.ndarray) -> np.ndarray:
    """Mean brightness of at most 8 x 8 cells, from at most 96 x 96 of the values."""
    height, width = image.shape[:2]
    thin = image[:: -(-height // _SAMPLES), :: -(-width // _SAMPLES)]
    height, width = thin.shape[:2]
    rows, columns = min(_CELLS, height), min(_CELLS, width)
    high, wide = height // rows, width // columns
    part = thin[: rows * high, : columns * wide].astype(np.float32)  # first: a sum that converts is many times slower
    sums = part.reshape(rows, high, columns * wide * 3).sum(axis=1).reshape(rows, columns, wide * 3).sum(axis=2)
    means: np.ndarray = sums / (3.0 * high * wide)
    return means


def _changed(image: np.ndarray, before: np.ndarray | None) -> float:
    """Share of values that differ from the picture before; 1.0 where there is none to compare with."""
    if before is None or before.shape != image.shape:
        return 1.0
    return int(np.count_nonzero(image != before)) / image.size


def _longer(run: _Run | None, wall_s: float, step_s: float) -> _Run:
    if run is None:
        return _Run(wall_s)
    run.extend(step_s)
    return run
