"""Packets since the last key frame, held undecoded, and decoded when something moves: no reference is ever missing.

    packet --> awake: decoder --> Picture
           --> dozing: hold --> Held                            until the next key frame, which is decoded alone:
                        |-- still --> Unseen(count), Picture    nothing moved; they are never decoded
                        `-- moves --> Picture, Picture, ...     all that was held, late, and every packet from now on

The pictures are bit for bit those of a full decode. Those of an open group of pictures that lie before its key frame
need what was never decoded; they are counted as unseen. So are those that no other needs, while the gate takes few.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from stream.capture import Capture, Picture, VideoPacket
from stream.doze import KEY_EVERY_S, Doze
from stream.errors import CameraError


@dataclass(frozen=True, slots=True)
class Held:
    """A packet came and is held: it becomes a late `Picture`, or part of an `Unseen`."""

    pts_s: float | None
    dozing: bool = True  # nobody waits for what comes next


@dataclass(frozen=True, slots=True)
class Unseen:
    """So many packets were never decoded."""

    count: int


Item = Picture | Held | Unseen


class Hold:
    """One connection's way from packets to pictures. `differs` says whether the gate would keep a key frame."""

    def __init__(
        self,
        capture: Capture,
        doze: Doze,
        differs: Callable[[Picture], bool],
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._capture, self._doze = capture, doze
        self._differs, self._monotonic_s = differs, monotonic_s
        self._held: list[tuple[VideoPacket, float]] = []  # and when each came; the first is a key frame, already shown
        self._bytes = 0
        self._looked_s: float | None = None  # pts of the key frame that was decoded last
        self._key_s: float | None = None  # pts of the newest key frame
        self._shown = 0  # pictures that will come out of the decoder a second time
        self._first_s: float | None = None  # pts before which pictures need what was never decoded

    def items(self) -> Iterator[Item]:
        """All that comes of the source, in order. Raises CameraError, after what was held has been decoded."""
        try:
            for packet in self._capture.packets():
                self._key_s = packet.pts_s if packet.key else self._key_s
                if self._held:
                    yield from self._dozing(packet)
                else:
                    yield from self._awake(packet)
        except CameraError:
            yield from self._decode_held()
            raise

    def _awake(self, packet: VideoPacket) -> Iterator[Item]:
        self._doze.came(packet)
        if packet.key and self._doze.may():
            yield from self._repeated(self._capture.drain())
            shown = self._alone(packet)
            yield from shown
            self._begin(packet, shown)
            if not _whole(shown):
                yield from self._wake("damage")
            return
        yield from self._decode(packet, None)

    def _dozing(self, packet: VideoPacket) -> Iterator[Item]:
        if not packet.size_bytes:  # the end
            yield from self._decode_held()
            yield from self._decode(packet, None)
        elif packet.key and (self._due(packet) or self._full(packet)):
            yield from self._look(packet)
        elif self._doze.grown(packet):
            yield from self._wake("packets")
            yield from self._decode(packet, None)
        elif self._full(packet):
            yield from self._wake("full")
            yield from self._decode(packet, None)
        else:
            yield Held(packet.pts_s)
            self._hold(packet)

    def _look(self, packet: VideoPacket) -> Iterator[Item]:
        """A key frame: does it show what the one before did?"""
        self._doze.grown(packet)
        shown = self._alone(packet)
        if not _whole(shown) or self._differs(shown[0]):
            yield from self._wake("key" if _whole(shown) else "damage")
            yield from self._decode(packet, None)
            return
        if len(self._held) > 1:
            yield Unseen(len(self._held) - 1)
        yield from shown
        self._begin(packet, shown)

    def _alone(self, packet: VideoPacket) -> list[Picture]:
        """A key frame out of a decoder that knows nothing else, and forgets it again."""
        return self._capture.decode(packet) + self._capture.drain()

    def _begin(self, packet: VideoPacket, shown: list[Picture]) -> None:
        """Hold from this key frame on, which gave `shown`."""
        self._held, self._bytes = [], 0
        self._shown, self._looked_s = len(shown), packet.pts_s
        self._hold(packet)

    def _wake(self, reason: str) -> Iterator[Item]:
        self._doze.woke(reason)
        yield from self._decode_held()

    def _decode_held(self) -> Iterator[Item]:
        held, self._held, self._bytes = self._held, [], 0
        if held:
            self._first_s = held[0][0].pts_s
        for packet, arrived_s in held:
            yield from self._decode(packet, arrived_s)

    def _decode(self, packet: VideoPacket, arrived_s: float | None) -> Iterator[Item]:
        if self._first_s is not None and packet.pts_s is not None and packet.size_bytes:
            if packet.pts_s < self._first_s:
                yield Unseen(1)
                return
            if packet.key and packet.pts_s > self._first_s:
                self._first_s = None
        if self._doze.spares(packet):
            if arrived_s is None:
                yield Held(packet.pts_s, dozing=False)
            yield Unseen(1)
            return
        for picture in self._repeated(self._capture.decode(packet)):
            yield picture if arrived_s is None else replace(picture, arrived_s=arrived_s)

    def _repeated(self, pictures: list[Picture]) -> list[Picture]:
        """`pictures` without those that were shown already."""
        for picture in pictures:
            if picture.pts_s is not None and picture.pts_s == self._key_s:
                self._doze.key_picture(picture.key_frame)
        again = min(self._shown, len(pictures))
        self._shown -= again
        return pictures[again:]

    def _hold(self, packet: VideoPacket) -> None:
        self._held.append((packet, self._monotonic_s()))
        self._bytes += packet.size_bytes

    def _due(self, packet: VideoPacket) -> bool:
        if packet.pts_s is None or self._looked_s is None:
            return True
        return not 0 <= packet.pts_s - self._looked_s < KEY_EVERY_S

    def _full(self, packet: VideoPacket) -> bool:
        first_s = self._held[0][0].pts_s
        span_s = math.inf if packet.pts_s is None or first_s is None else abs(packet.pts_s - first_s)
        return self._doze.full(len(self._held) + 1, self._bytes + packet.size_bytes, span_s)


def _whole(pictures: list[Picture]) -> bool:
    """Whether a key frame gave what it should: one intact picture, coded by itself."""
    return len(pictures) == 1 and pictures[0].key_frame
