"""When may a camera's packets stay undecoded, and when must they not? Nothing moves, and packets do not grow.

    awake --the gate saw no change for `doze_after_s`, at a key frame--> dozing: key frames are decoded, others held
      ^----------- packets grow | the gate would keep a key frame | the hold is full ---------------------'

What the picture shows is the gate's to say, so a camera dozes only where its gate tells a still scene. The growth of
packets is judged by the camera's own statistics, which are learned while nothing moves. They see what is near or large
at once; a far person in a noisy picture they do not: the next key frame tells. A camera whose packets told nothing
three times (a constant bit rate) is decoded in full for ten minutes. `hold.py` does what is said here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stream.gate import MAX_GAP
from stream.types import Verdict

if TYPE_CHECKING:
    from stream.capture import VideoPacket

KEY_EVERY_S = 0.9  # key frames closer than this are held like the others: all frames of MJPEG are key frames
MIN_LOOKS = 3  # pictures without change, at least, however slow the gate
CALM_S = 1.0  # without change: from then on packets teach what stillness is
MIN_LEARNED = 25  # packets; nothing is known from fewer
ALARM_S = 2.0  # an alarm was right when the gate saw a change this soon after it
MISSES = 3  # changes that no packet told of, until packets are not believed
BARRED_S = 600.0
MAX_HELD = 1000  # packets, whatever their size
FEW = 0.15  # share of pictures: a gate that takes less by time finds another one near


@dataclass(frozen=True, slots=True)
class Thrift:
    """What a camera may leave undone because nobody would see the difference. Zeros switch it off."""

    doze_after_s: float = 5.0  # nothing moved for this long: only key frames are decoded; 0: never
    hold_s: float = 4.0  # key frames further apart than this: every frame is decoded
    hold_mb: float = 16.0  # most that held packets may take
    look_fps: float = 2.0  # pictures a second that are scaled although no gate wants them: for `sight`; 0: all
    lazy_thumbnails: bool = True  # evidence pictures are encoded when they are first read
    skip_nonref: bool = True  # where the gate takes few, pictures that no other needs are not decoded


OFF = Thrift(doze_after_s=0.0, look_fps=0.0, lazy_thumbnails=False, skip_nonref=False)

_ROOMS = 12  # kinds of packets, by their distance from the key frame: 0, 1, 2-3, 4-7, ...
_KNOWN = 3  # packets of a kind: nothing is said from fewer
_STEP = 1 / 64  # of the running mean
_LEAST = 0.1  # deviation of log(size) at least: packets of 85 bytes each, and nothing else, are real
_DRIFT = 1.5  # deviations: what CUSUM takes for chance
_CLIP = 6.0  # deviations: no single packet is an alarm
_ALARM = 12.0


class Growth:
    """Do packets grow? CUSUM (Page 1954) over log(size), by distance from the key frame: the first ones are larger."""

    def __init__(self) -> None:
        self.learned = 0
        self._mean = [0.0] * _ROOMS
        self._deviation = [0.0] * _ROOMS
        self._count = [0] * _ROOMS
        self._since_key = 0
        self._excess = 0.0

    def key(self) -> None:
        """A key frame came."""
        self._since_key, self._excess = 0, 0.0

    def restart(self) -> None:
        """What came so far is explained."""
        self._excess = 0.0

    def grown(self, size_bytes: int, learn: bool) -> bool:
        """Whether packets have grown, with this one; it teaches what is usual where `learn`."""
        room = min(_ROOMS - 1, self._since_key.bit_length())
        self._since_key += 1
        value, count = math.log(size_bytes + 16.0), self._count[room]
        off = value - self._mean[room]
        score = off / max(_LEAST, self._deviation[room]) if count >= _KNOWN else 0.0
        self._excess = max(0.0, self._excess + min(_CLIP, score) - _DRIFT)
        if learn:
            self._learn(room, off)
        return self._excess > _ALARM

    def _learn(self, room: int, off: float) -> None:
        if self._count[room] >= _KNOWN:  # one that is far off teaches as little as one at the edge
            edge = _CLIP / 2 * max(_LEAST, self._deviation[room])
            off = max(-edge, min(edge, off))
        self.learned += 1
        self._count[room] += 1
        step = max(_STEP, 1 / self._count[room])
        self._mean[room] += step * off
        if self._count[room] > 1:  # the first has nothing to deviate from
            self._deviation[room] += step * (1.25 * abs(off) - self._deviation[room])  # of a normal, from its mean |x|


@dataclass
class Doze:
    """One camera's decision. Not thread-safe: it belongs to the camera's thread. Times are those of the pictures."""

    thrift: Thrift
    growth: Growth = field(default_factory=Growth)
    _now_s: float = -math.inf  # stamp of the newest judged picture
    _changed_s: float = math.inf  # stamp of the newest one that showed a change
    _looks: int = 0  # pictures since then
    _alarm_s: float = -math.inf
    _misses: int = 0
    _barred_s: float = -math.inf  # until then
    _fits: bool = False  # the last group of pictures could have been held
    _intra: bool = False  # and its key frame was one
    _key_pts_s: float | None = None
    _group: int = 0  # packets from the key frame on, and their bytes
    _group_bytes: int = 0
    _last_group: int = 0  # packets from the one before it
    _share: float = 1.0  # of pictures that pass the gates that go by time

    def timed(self, kept: bool) -> None:
        """Whether the gates that go by time alone let a picture pass."""
        self._share += (kept - self._share) / 32

    def spares(self, packet: VideoPacket) -> bool:
        """Whether a packet that no other needs is left undecoded."""
        spared = packet.spare and self.thrift.skip_nonref and self._share < FEW
        if spared:
            self.timed(False)
        return spared

    def judged(self, verdict: Verdict, wall_s: float) -> None:
        """What the gate said of a picture that it looked at."""
        self._now_s = wall_s
        self._looks += 1
        if moved(verdict):
            self._changed_s, self._looks = wall_s, 0
            if wall_s - self._alarm_s <= ALARM_S:
                self._misses, self._alarm_s = max(0, self._misses - 1), -math.inf
        elif self._changed_s == math.inf:
            self._changed_s = wall_s

    def came(self, packet: VideoPacket) -> None:
        """A packet that is decoded at once."""
        if packet.key:
            self._close_group(packet.pts_s)
        elif packet.size_bytes:
            self.growth.grown(packet.size_bytes, self._now_s - self._changed_s >= CALM_S)
        self._group += 1
        self._group_bytes += packet.size_bytes

    def may(self) -> bool:
        """Whether only key frames may be decoded from this one on."""
        calm = self._now_s - self._changed_s >= self.thrift.doze_after_s > 0 and self._looks >= MIN_LOOKS
        known = self.growth.learned >= MIN_LEARNED or self._last_group == 1
        return calm and known and self._fits and self._intra and self._now_s >= self._barred_s

    def grown(self, packet: VideoPacket) -> bool:
        """Whether a packet that could be held says that something moves."""
        if packet.key:
            self.growth.key()
            return False
        return self.growth.grown(packet.size_bytes, learn=True)

    def full(self, packets: int, size_bytes: int, span_s: float) -> bool:
        """Whether so much may not be held."""
        return packets > MAX_HELD or size_bytes > 1e6 * self.thrift.hold_mb or span_s > self.thrift.hold_s

    def woke(self, reason: str) -> None:
        """Everything is decoded from now on, because of `packets`, `key`, `full` or `damage`."""
        self.growth.restart()
        if reason == "packets":
            self._alarm_s = self._now_s
        elif reason == "key":
            self._misses += 1
            if self._misses >= MISSES:
                self._barred_s, self._misses = self._now_s + BARRED_S, MISSES - 1
        self._changed_s, self._looks = self._now_s, 0
        self._fits, self._key_pts_s = False, None

    def key_picture(self, intra: bool) -> None:
        """Whether a key frame is coded by itself: cameras that refresh in columns call others so as well."""
        self._intra = intra

    def _close_group(self, pts_s: float | None) -> None:
        self.growth.key()
        span_s = math.inf if pts_s is None or self._key_pts_s is None else abs(pts_s - self._key_pts_s)
        self._fits = not self.full(self._group, self._group_bytes, span_s)
        self._key_pts_s, self._last_group = pts_s, self._group
        self._group = self._group_bytes = 0


def moved(verdict: Verdict) -> bool:
    """Whether the gate keeps a picture because of what it shows."""
    return verdict.keep and verdict.reason != MAX_GAP
