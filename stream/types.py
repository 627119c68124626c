"""What flows between the stages. Read this file first.

    Frame -> Verdict -> VisualTokens -> Carrier (-> bank -> MemoryView -> Answer, in `memory` and `daemon`)

Shape letters, used in every trailing comment of the project:
    H, W   picture height and width, pixels          L    layers of the language model
    N      visual tokens of one frame                Hkv  key/value heads
    D      width of the language model               Dh   width of one head
    M      carriers the bank may hold                n    carriers it holds now
    S      tokens of the system prompt               B    cameras (or views) in one batch

Times are seconds since the Unix epoch in names ending `wall_s`, seconds on a clip's own axis in `pts_s`.
There is no batch axis on these types: one frame of one camera each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from stream.tap import Tap

NO_TAPS: Mapping[int, Tap] = MappingProxyType({})


class Thumbnail:
    """A frame's evidence picture, encoded when it is first read: of a frame that is dropped, nobody reads it."""

    __slots__ = ("_encode", "_jpeg", "_lock")

    def __init__(self, encode: Callable[[], bytes] | None = None) -> None:
        self._encode, self._jpeg, self._lock = encode, b"", Lock()

    def __bool__(self) -> bool:
        """Whether there is a picture; encodes nothing."""
        return self._encode is not None or bool(self._jpeg)

    def read(self) -> bytes:
        """The JPEG, always the same; empty where there is none. Takes under a millisecond, once; any thread may."""
        with self._lock:
            if self._encode is not None:
                self._jpeg, self._encode = self._encode(), None
            return self._jpeg


NO_THUMBNAIL = Thumbnail()


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded picture, already scaled to the model's input size.

    `index` counts the camera's frames over its whole life, `segment` counts its connections: pts spacing means
    nothing across a change of segment.
    """

    camera: str
    index: int
    segment: int
    pts_s: float  # spacing within a segment only; the first is 0.0
    wall_s: float  # arrival on our clock: the truth
    image: np.ndarray  # uint8 RGB [H, W, 3]; [0, 0, 3] of a frame that a gate skipped unseen
    thumbnail: Thumbnail = NO_THUMBNAIL  # evidence picture, only of frames that the gate kept
    score: float = 0.0  # what the last gate said of it
    key_frame: bool = False  # the codec's picture type is I: coded by itself
    packet_bytes: int = 0  # compressed size of the picture's packet; 0: unknown

    @property
    def jpeg(self) -> bytes:
        """The evidence picture; empty where there is none. See Thumbnail for what it costs."""
        return self.thumbnail.read()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a gate says of one frame. `score` is the gate's own measure (larger = more worth keeping)."""

    keep: bool
    score: float
    reason: str


@dataclass(frozen=True, slots=True)
class Span:
    """The time a carrier stands for, and how many frames were folded into it."""

    first_s: float
    last_s: float
    count: int = 1

    def join(self, other: Span) -> Span:
        """The smallest span that covers both; counts add up."""
        return Span(min(self.first_s, other.first_s), max(self.last_s, other.last_s), self.count + other.count)

    def overlaps(self, since_s: float | None, until_s: float | None) -> bool:
        """Whether any moment of the span lies in [since_s, until_s]; None is open."""
        return (since_s is None or self.last_s >= since_s) and (until_s is None or self.first_s <= until_s)


@dataclass(frozen=True, slots=True)
class VisualTokens:
    """A frame after tower, projector and pooling, in the language model's input space."""

    feats: Tensor  # [N, D]
    grid: tuple[int, int]  # rows, columns; rows * columns == N
    places: Tensor | None = None  # int64 [N], rising: where they stood among all of the frame's; None: 0 .. N-1
    taps: Mapping[int, Tap] = field(
        default_factory=lambda: NO_TAPS, repr=False, compare=False
    )  # of tower blocks, if asked

    def only(self, places: Tensor) -> VisualTokens:
        """Rows `places` [n], rising, as they are, in one line."""
        where = places if self.places is None else self.places[places]
        return VisualTokens(self.feats[places], (1, len(places)), where)


@dataclass(frozen=True, slots=True)
class Part:
    """Some positions of one frame, as questions read them."""

    keys: Tensor  # [L, Hkv, n, Dh] un-rotated
    values: Tensor  # [L, Hkv, n, Dh]
    places: Tensor  # int64 [n]: which of the frame's N+1 positions they have; N is the carrier's

    def __len__(self) -> int:
        return int(self.places.shape[0])


@dataclass(frozen=True, slots=True)
class Carrier:
    """One frame as the memory keeps it: one position's keys and values at every layer (VideoScan, arXiv 2503.09387).

    Keys are stored BEFORE rotary embedding; they are rotated when read. `detail` are the same frame's visual tokens,
    kept only while the frame is among the last k; `companions` are kept as long as the carrier.
    """

    camera: str
    frame: int
    span: Span
    digest: Tensor  # [D] mean of the frame's visual tokens: the carrier's input embedding
    keys: Tensor  # [L, Hkv, Dh] un-rotated
    values: Tensor  # [L, Hkv, Dh]
    detail: Part
    companions: Part | None = None
    jpeg: bytes = b""


@dataclass(frozen=True, slots=True)
class Pointer:
    """The attention heads that a checkpoint was trained to point at its evidence with."""

    layer: int
    heads: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Trust:
    """How far a checkpoint's answers can be believed: measured on a benchmark, written on its card.

    Chances are logistic in log-odds. `denials` are answers that need no evidence, in lower case.
    """

    answer: tuple[float, float, float]  # right: weights of log-odds(confidence), log-odds(support) and 1
    evidence: tuple[float, float]  # a moment shows it: weights of log-odds(its share of attention) and 1
    support: float  # least share of the pointer's attention that must rest on something remembered
    unseen: str  # the answer that says it was not seen
    denials: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Budget:
    """The one way to ask any method for less. Hard limits: a method never exceeds them."""

    carriers: int  # bank size M
    detail_frames: int  # k, newest frames kept at full detail

    def __post_init__(self) -> None:
        if self.carriers < 1 or self.detail_frames < 0:
            raise ValueError(f"budget needs carriers >= 1 and detail_frames >= 0, got {self}")
