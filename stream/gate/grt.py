"""GRT's patch gate: patches that no longer look like the patch they were last read from are moving; enough move: keep.

    picture -> patches of the tower -> difference to the SOURCE patch, not to the frame before -> moving: over threshold
    share of moving patches >= `share`: the frame is kept, and its moving patches become sources

So slow drift adds up until it is seen. A frame that is skipped is not read, and is no source of anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple, get_args

import numpy as np

from stream.gate import MAX_GAP
from stream.policy import Paper
from stream.types import Frame, Verdict

Metric = Literal["ssim", "l2"]
Policy = Literal["motion", "all"]

PATCH_PX = 14  # of SigLIP-so400m


@dataclass
class Grt:
    """Keep a frame when enough of its patches moved; and one every `max_gap_s` anyhow.

    `metric`: `ssim`: 1 - SSIM of a patch, in [0, 2]; `l2`: length of the difference of its pixels.
    `threshold`: a patch moves when it differs by more, for pixels in [-1, 1]; 0.01 is the authors' for ssim, 0.3 was
    for l2. Sensor noise is over 0.01 of ssim: a noisy camera needs more. Below 0 everything moves.
    `policy`: `motion`, or `all`: everything moves, always.
    `refresh_every`: in every so many frames everything moves; 0: never.
    `share`: least share of the patches that moves in a frame that is kept; 0: any.
    """

    metric: Metric = "ssim"
    threshold: float = 0.01
    policy: Policy = "motion"
    refresh_every: int = 0
    share: float = 0.1
    max_gap_s: float = 30.0
    paper: ClassVar[Paper] = Paper(
        title="Dense Video Understanding with Gated Residual Tokenization",
        link="https://arxiv.org/abs/2509.14199",
        fidelity="parity",
        differs="the mask of moving patches is the authors' (at share 0, frame by frame); what follows is ours: a "
        "frame with too few of them is dropped whole, where the authors re-use patch embeddings and run the tower",
    )
    looks: ClassVar[bool] = True
    moving: np.ndarray | None = field(default=None, init=False, repr=False)  # bool [P] of the last judged frame
    _sources: Patches | None = field(default=None, init=False, repr=False)
    _count: int = field(default=0, init=False, repr=False)  # frames since the sources began
    _kept_s: float = field(default=-math.inf, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.metric not in get_args(Metric):
            raise ValueError(f"metric is one of {', '.join(get_args(Metric))}; got {self.metric!r}")
        if self.policy not in get_args(Policy):
            raise ValueError(f"policy is one of {', '.join(get_args(Policy))}; got {self.policy!r}")
        if not (0 <= self.share <= 1 and self.refresh_every >= 0 and self.max_gap_s > 0):
            raise ValueError(f"share must lie in [0, 1], refresh_every be >= 0, max_gap_s > 0, got {self}")

    def judge(self, frame: Frame) -> Verdict:
        """Keep on movement; the score is the share of patches that moved."""
        now = Patches.of(pixels(frame.image))
        if self._sources is None or self._sources.off.shape != now.off.shape:
            self._sources, self._count = now, 0
            self.moving = np.ones(len(now.mean), bool)
            return self._keep(frame, 1.0, "kept")
        self._count += 1
        self.moving = self._mask(now, self._sources)
        score = float(self.moving.mean())
        if score > 0 and score >= self.share:
            self._sources.put(self.moving, now)
            return self._keep(frame, score, "kept")
        if frame.wall_s - self._kept_s >= self.max_gap_s:
            self._sources.put(self.moving, now)
            return self._keep(frame, score, MAX_GAP)
        return Verdict(keep=False, score=score, reason="still")

    def _mask(self, now: Patches, sources: Patches) -> np.ndarray:
        forced = self.refresh_every > 0 and self._count % self.refresh_every == 0
        if self.policy == "all" or self.threshold < 0 or forced:
            return np.ones(len(now.mean), bool)
        found: np.ndarray = METRICS[self.metric](now, sources) > self.threshold
        return found

    def _keep(self, frame: Frame, score: float, reason: str) -> Verdict:
        self._kept_s = frame.wall_s
        return Verdict(keep=True, score=score, reason=reason)


def pixels(image: np.ndarray, side: int = PATCH_PX) -> np.ndarray:
    """float32 [P, C], C = 3 * side^2: whole patches of uint8 [H, W, 3], row by row, pixels in [-1, 1] as for SigLIP.

    What is left over at the right and the lower edge belongs to no patch. A smaller picture is one patch.
    """
    high, wide = (min(side, size) for size in image.shape[:2])
    rows, columns = image.shape[0] // high, image.shape[1] // wide
    whole = image[: rows * high, : columns * wide].reshape(rows, high, columns, wide * 3)
    flat = np.ascontiguousarray(whole.swapaxes(1, 2)).reshape(rows * columns, -1).astype(np.float32)
    flat /= 127.5
    flat -= 1.0
    return flat


class Patches(NamedTuple):
    """What SSIM needs of P patches: measured once, when they come, and not again while they are sources."""

    mean: np.ndarray  # float32 [P]
    off: np.ndarray  # [P, C] pixels less their mean
    variance: np.ndarray  # [P]
    reach: np.ndarray  # [P] brightest less darkest

    @staticmethod
    def of(pixels: np.ndarray) -> Patches:
        """From float32 [P, C]: over all pixels and colours of a patch."""
        mean = pixels.mean(1)
        off = pixels - mean[:, None]
        variance = np.einsum("pc,pc->p", off, off) / pixels.shape[1]
        return Patches(mean, off, variance, off.max(1) - off.min(1))

    def put(self, where: np.ndarray, others: Patches) -> None:
        """Take rows `where` (bool [P]) from `others`, in place."""
        for mine, theirs in zip(self, others, strict=True):
            mine[where] = theirs[where]


def ssim_change(now: Patches, before: Patches) -> np.ndarray:
    """float32 [P], in [0, 2]: 1 - SSIM of each patch with the one before.

    Constants are 0.01^2 and 0.03^2 times the square of the larger range of the two, which counts as 1 at least.
    """
    covariance = np.einsum("pc,pc->p", now.off, before.off) / now.off.shape[1]
    reach = np.maximum(now.reach, before.reach).clip(1.0)
    small, large = (0.01 * reach) ** 2, (0.03 * reach) ** 2
    above = (2 * now.mean * before.mean + small) * (2 * covariance + large)
    below = (now.mean**2 + before.mean**2 + small) * (now.variance + before.variance + large)
    change: np.ndarray = (1 - above / below.clip(1e-12)).clip(0.0, 2.0)
    return change


def l2_change(now: Patches, before: Patches) -> np.ndarray:
    """float32 [P]: the length of the difference of each patch's pixels to those of the one before."""
    off = now.off - before.off
    squares = np.einsum("pc,pc->p", off, off) + off.shape[1] * (now.mean - before.mean) ** 2
    change: np.ndarray = np.sqrt(squares)
    return change


METRICS: dict[Metric, Callable[[Patches, Patches], np.ndarray]] = {"ssim": ssim_change, "l2": l2_change}
