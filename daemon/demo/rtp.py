"""A video file as RTP packets (RFC 6184): what the demo camera sends. H.264 only, no threads, no sockets.

A client may join at any time, and the file behind a path may change, so the parameter sets (SPS, PPS) go out again
before every key frame instead of standing only in the session description.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import av.error

from stream.errors import CameraError, NoVideo

RTP_HZ = 90_000
MAX_PAYLOAD_BYTES = 1400
_SPS, _PPS, _FU_A = 7, 8, 28


@dataclass(frozen=True, slots=True)
class Unit:
    """One encoded picture: its NAL units without start codes, in decoding order."""

    send_s: float  # when to send it, from the start of the clip
    pts_s: float  # when to show it, on the same axis
    key: bool
    nals: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Clip:
    """An encoded file in memory, ready to be sent again and again."""

    units: tuple[Unit, ...]
    duration_s: float
    parameter_sets: tuple[bytes, ...]  # SPS and PPS


def load_clip(path: Path) -> Clip:
    """Read `path` without decoding. Blocks. Raises CameraError, or NoVideo when there is no H.264 in it."""
    try:
        with av.open(str(path)) as container:
            if not container.streams.video or container.streams.video[0].codec_context.name != "h264":
                raise NoVideo(f"{path}: the demo camera sends H.264 only; re-encode the file")
            stream = container.streams.video[0]
            extradata = stream.codec_context.extradata or b""
            packets = [packet for packet in container.demux(stream) if packet.dts is not None]
            base = float(stream.time_base or 0)
            frame_s = 1 / float(stream.average_rate or 25)
    except (OSError, ValueError, av.error.FFmpegError) as error:
        raise CameraError(f"{path}: cannot be read as a video ({error.__class__.__name__})", "unreadable") from None
    if not packets:
        raise NoVideo(f"{path}: holds no video packets")
    first = packets[0].dts or 0
    units = tuple(
        Unit(
            send_s=((packet.dts or 0) - first) * base,
            pts_s=((packet.dts if packet.pts is None else packet.pts) or 0) * base - first * base,
            key=packet.is_keyframe,
            nals=tuple(_nals(bytes(packet), extradata)),
        )
        for packet in packets
    )
    sets = _parameter_sets(extradata, units)
    if len(sets) < 2:
        raise NoVideo(f"{path}: H.264 without parameter sets; re-encode the file")
    return Clip(units, units[-1].send_s + frame_s, sets)


class Packetiser:
    """Numbers and cuts pictures into RTP packets; one per served path."""

    def __init__(self, ssrc: int) -> None:
        self._ssrc = ssrc & 0xFFFFFFFF
        self._sequence = 0

    def packets(self, unit: Unit, pts_s: float, parameter_sets: tuple[bytes, ...]) -> list[bytes]:
        """The RTP packets of one picture shown at `pts_s`; the last one carries the marker bit."""
        own = {nal[0] & 31 for nal in unit.nals}
        missing = tuple(nal for nal in parameter_sets if nal[0] & 31 not in own) if unit.key else ()
        payloads = [part for nal in missing + unit.nals for part in _fragments(nal)]
        time = round(pts_s * RTP_HZ) & 0xFFFFFFFF
        return [self._packet(part, time, last=at == len(payloads) - 1) for at, part in enumerate(payloads)]

    def _packet(self, payload: bytes, time: int, *, last: bool) -> bytes:
        self._sequence = (self._sequence + 1) & 0xFFFF
        return struct.pack("!BBHII", 0x80, 96 | (0x80 if last else 0), self._sequence, time, self._ssrc) + payload


def _fragments(nal: bytes) -> Iterator[bytes]:
    """A NAL unit as it is, or cut into FU-A fragments."""
    if len(nal) <= MAX_PAYLOAD_BYTES:
        yield nal
        return
    indicator = (nal[0] & 0xE0) | _FU_A
    kind, body = nal[0] & 31, nal[1:]
    step = MAX_PAYLOAD_BYTES - 2
    for at in range(0, len(body), step):
        edge = (0x80 if at == 0 else 0) | (0x40 if at + step >= len(body) else 0)
        yield bytes((indicator, kind | edge)) + body[at : at + step]


def _nals(packet: bytes, extradata: bytes) -> Iterator[bytes]:
    """The NAL units of a packet: length-prefixed as in MP4, or with start codes as in a raw stream."""
    if extradata[:1] != b"\x01":
        yield from _split_start_codes(packet)
        return
    size = (extradata[4] & 3) + 1
    at = 0
    while at + size < len(packet):
        length = int.from_bytes(packet[at : at + size], "big")
        at += size
        if length:
            yield packet[at : at + length]
        at += length


def _split_start_codes(data: bytes) -> Iterator[bytes]:
    for part in data.split(b"\x00\x00\x01")[1:]:
        if nal := part.rstrip(b"\x00"):
            yield nal


def _parameter_sets(extradata: bytes, units: tuple[Unit, ...]) -> tuple[bytes, ...]:
    """SPS and PPS from the file's header (avcC or start codes), else from the stream itself."""
    if extradata[:1] == b"\x01":
        return tuple(_avcc(extradata))
    inband = [nal for unit in units[:1] for nal in unit.nals]
    return tuple(nal for nal in [*_split_start_codes(extradata), *inband] if nal[0] & 31 in (_SPS, _PPS))


def _avcc(extradata: bytes) -> Iterator[bytes]:
    """Parameter sets of an avcC record (ISO/IEC 14496-15, 5.3.3.1)."""
    at = 5
    for mask in (0x1F, 0xFF):  # number of SPS in five bits, then of PPS in eight
        count = extradata[at] & mask
        at += 1
        for _ in range(count):
            length = int.from_bytes(extradata[at : at + 2], "big")
            yield extradata[at + 2 : at + 2 + length]
            at += 2 + length
