"""A camera url, opened: from rtsp://, a file or a device to decoded pictures, without threads, gates or clocks.

FFmpeg (PyAV) reports one and the same fault under many names, and puts the url with its password into the text.
Here every such fault becomes a CameraError with a `reason` word, and nothing of FFmpeg's own text goes on:

    unreachable   no answer in time, no route, or not RTSP      frozen      no packet for `timeout_s`
    refused       nothing listens there                         ended       a live source closed
    unauthorized  user or password is wrong                     no_video    opened, nothing to decode
    not_found     no such path, file or device                  unreadable  not a video, damaged, or too large
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import av
import av.error
import av.logging
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from stream.errors import CameraError, CameraTimeout, NoVideo, redact

Kind = Literal["live", "file", "device"]

MAX_PICTURE_PX = 8192 * 8192  # 8K is 33 Mpx; a broken header can ask for gigabytes
LIVE_OPTIONS = {"rtsp_transport": "tcp", "fflags": "nobuffer", "allowed_media_types": "video"}
_HEADERS = 4096  # bytes: a picture's first slice begins within these, or nothing is said of it
_INSIDE = 64  # packets whose pictures may still come out of the decoder: H.264 and H.265 reorder at most 16
_LOW_US = 1_000_000  # analyse at most one second of a live stream before the first frame


@dataclass(frozen=True, slots=True)
class Picture:
    """One decoded frame, not scaled yet; `frame` is None where the decoder reported damage."""

    pts_s: float | None  # the source's own time, seconds; starts anywhere
    frame: VideoFrame | None
    arrived_s: float | None = None  # monotonic, of its packet, where that was held undecoded; None: it came just now
    packet_bytes: int = 0  # compressed size; 0: unknown

    @property
    def key_frame(self) -> bool:
        """Whether the codec's picture type is I: coded by itself. Not of a damaged picture."""
        return self.frame is not None and self.frame.pict_type == PictureType.I


@dataclass(frozen=True, slots=True)
class VideoPacket:
    """One coded frame. The last of a stream that ends has no bytes: it makes the decoder give what it still holds."""

    pts_s: float | None
    size_bytes: int
    key: bool  # can be decoded without any packet before it
    spare: bool = False  # no other packet needs it
    raw: object = None  # for `Capture.decode`


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What the source says it sends; zeros where it says nothing."""

    codec: str
    width: int
    height: int
    fps: float


class Capture(Protocol):
    """An opened source: what `Source` reads, and what a test fakes with a list of pictures.

    Decoding is apart from receiving, so that packets can be held (`hold.py`).
    """

    @property
    def info(self) -> VideoInfo:
        """Codec, size and rate."""
        ...

    def packets(self) -> Iterator[VideoPacket]:
        """Every packet as it comes. Ends when the source ends; raises CameraError for every other fault."""
        ...

    def decode(self, packet: VideoPacket) -> list[Picture]:
        """The pictures that come out of the decoder with `packet`, in order of time; often one packet late."""
        ...

    def drain(self) -> list[Picture]:
        """The pictures still inside the decoder, which then forgets all it knew: feed it a key frame next."""
        ...

    def close(self) -> None:
        """Let go of sockets and memory; may be called twice."""
        ...


@dataclass(frozen=True, slots=True)
class CaptureConfig:
    """What to open, and for how long to wait."""

    url: str
    timeout_s: float = 5.0  # without a packet: live sources only
    options: Mapping[str, str] = field(default_factory=dict)  # for FFmpeg, over ours

    @property
    def kind(self) -> Kind:
        """How the source behaves: a file has an end, a live source only breaks."""
        if self.url.startswith("file:") or "://" not in self.url:
            return "device" if self.url.startswith("/dev/") else "file"
        return "live"

    @property
    def place(self) -> str:
        """The url as it may be shown."""
        return redact(self.url)


Opener = Callable[[CaptureConfig], Capture]


def pictures(capture: Capture) -> Iterator[Picture]:
    """Every picture of `capture`, in order. Raises CameraError."""
    for packet in capture.packets():
        yield from capture.decode(packet)


def open_capture(config: CaptureConfig) -> Capture:
    """Open `config.url`. Blocks for at most about twice `timeout_s` (plus name resolution). Raises CameraError."""
    _silence()
    path = Path(config.url.removeprefix("file://"))
    if config.kind == "file" and path.is_fifo():  # it would block us for ever
        raise CameraError(f"{path}: is a pipe; give a file, a device or a url", "unreadable")
    try:
        container = av.open(
            config.url.removeprefix("file://"),
            "r",
            format="v4l2" if config.kind == "device" else None,
            options=_options(config),
            timeout=(config.timeout_s, config.timeout_s) if config.kind == "live" else None,
        )
    except (OSError, ValueError, av.error.FFmpegError) as error:
        raise _open_fault(config, error) from None  # the cause's text holds the url
    try:
        return _Container(config, container)
    except BaseException:
        container.close()
        raise


class _Container:
    """A PyAV container and its first video stream, decoded with one thread."""

    def __init__(self, config: CaptureConfig, container: InputContainer) -> None:
        self._config = config
        self._container = container
        self._stream = _video_stream(config, container)
        self._context = self._stream.codec_context
        self._context.thread_count = 1  # several threads save no work and add delay
        self._context.thread_type = "NONE"
        extra = self._context.extradata
        self._sizes: dict[int, int] = {}  # bytes, by pts, of packets inside the decoder: a picture has its packet's pts
        self._prefix = 1 + (extra[4] & 3) if extra and len(extra) > 4 and extra[0] == 1 else 0  # avcC; else start codes

    @property
    def info(self) -> VideoInfo:
        rate = self._stream.average_rate or self._stream.guessed_rate
        return VideoInfo(self._context.name, self._context.width, self._context.height, float(rate or 0))

    def packets(self) -> Iterator[VideoPacket]:
        """The flushing one at last. Raises CameraTimeout when none came for `timeout_s`."""
        live = self._config.kind == "live"
        heard_s = time.monotonic()
        try:
            for packet in self._container.demux():
                now_s = time.monotonic()
                if packet.stream.index == self._stream.index:
                    # FFmpeg hands out one held packet at its first timeout and raises at the second: do not wait
                    if live and now_s - heard_s >= self._config.timeout_s:
                        raise self._frozen()
                    at = packet.pts if packet.pts is not None else packet.dts
                    pts_s = None if at is None or packet.time_base is None else float(at * packet.time_base)
                    yield VideoPacket(pts_s, packet.size, packet.is_keyframe, self._spare(packet), packet)
                    heard_s = time.monotonic()
                elif live and now_s - heard_s >= self._config.timeout_s:
                    raise self._frozen()
        except (OSError, av.error.FFmpegError) as error:
            raise self._read_fault(error) from None

    def _spare(self, packet: Packet[Any]) -> bool:
        """H.264 only: H.265 says so of temporal layers one by one, and others do not say it in the open."""
        return self._context.name == "h264" and packet.size > 0 and unreferenced(memoryview(packet), self._prefix)

    def decode(self, packet: VideoPacket) -> list[Picture]:
        """See Capture. A packet that the decoder refuses gives one damaged picture."""
        assert isinstance(packet.raw, Packet)
        return self._decoded(packet.raw)

    def drain(self) -> list[Picture]:
        """See Capture."""
        found = self._decoded(None)
        self._context.flush_buffers()
        self._sizes.clear()
        return found

    def _decoded(self, packet: Packet[VideoStream] | None) -> list[Picture]:
        if packet is not None and packet.pts is not None:
            self._sizes[packet.pts] = packet.size
            if len(self._sizes) > _INSIDE:  # of a packet that never became a picture
                del self._sizes[next(iter(self._sizes))]
        try:
            frames = self._context.decode(packet)
        except (OSError, ValueError, av.error.FFmpegError):
            return [Picture(None, None)]
        return [self._picture(frame) for frame in frames]

    def _picture(self, frame: VideoFrame) -> Picture:
        size_bytes = 0 if frame.pts is None else self._sizes.pop(frame.pts, 0)
        whole = None if frame.is_corrupt else self._checked(frame)
        return Picture(self._time_s(frame), whole, packet_bytes=size_bytes)

    def _time_s(self, frame: VideoFrame) -> float | None:
        """By the stream's time base: a drained frame does not know it."""
        base = self._stream.time_base
        return None if frame.pts is None or base is None else float(frame.pts * base)

    def close(self) -> None:
        self._container.close()

    def _checked(self, frame: VideoFrame) -> VideoFrame:
        if frame.width * frame.height > MAX_PICTURE_PX:
            raise _too_large(self._config, frame.width, frame.height)
        return frame

    def _frozen(self) -> CameraTimeout:
        return CameraTimeout(f"{self._config.place}: no video packet for {self._config.timeout_s:g} s; is it frozen?")

    def _read_fault(self, error: Exception) -> CameraError:
        if isinstance(error, TimeoutError | av.error.ExitError):
            return self._frozen()
        what = error.__class__.__name__
        if self._config.kind == "file":
            return CameraError(f"{self._config.place}: cannot be read on ({what}); is it damaged?", "unreadable")
        return CameraError(f"{self._config.place}: the connection broke ({what})", "ended")


def unreferenced(data: memoryview, prefix: int) -> bool:
    """Whether the H.264 picture in `data` is none that others refer to: `nal_ref_idc` 0 (ISO/IEC 14496-10, 7.4.1).

    NAL units come after `prefix` bytes that hold their length, or after start codes where it is 0.
    """
    at = 0
    while at < min(len(data), _HEADERS):
        if prefix:
            size = int.from_bytes(data[at : at + prefix], "big")
            at += prefix
        else:
            found = bytes(data[at : at + _HEADERS]).find(b"\0\0\1")
            at, size = (at + found + 3, 0) if found >= 0 else (len(data), 0)
        if at < len(data) and 1 <= data[at] & 31 <= 5:  # a slice
            return data[at] >> 5 & 3 == 0
        at += size
    return False


def _options(config: CaptureConfig) -> dict[str, str]:
    if config.kind != "live":
        return dict(config.options)
    timeout = {"timeout": str(round(config.timeout_s * 1e6))} if config.url.startswith("rtsp") else {}
    common = LIVE_OPTIONS if config.url.startswith("rtsp") else {"fflags": "nobuffer"}
    return {**common, "analyzeduration": str(_LOW_US), **timeout, **config.options}


def _video_stream(config: CaptureConfig, container: InputContainer) -> VideoStream:
    if not container.streams.video:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise NoVideo(f"{config.place}: holds no video (it holds {kinds}); give a source with a picture")
    stream = container.streams.video[0]
    context = stream.codec_context
    if context is None:
        raise NoVideo(f"{config.place}: there is no decoder for its video; use H.264, H.265, MJPEG or MPEG-4")
    if context.width * context.height > MAX_PICTURE_PX:
        raise _too_large(config, context.width, context.height)
    return stream


def _too_large(config: CaptureConfig, width_px: int, height_px: int) -> CameraError:
    text = f"{config.place}: picture of {width_px}x{height_px} px is over {MAX_PICTURE_PX} px; use a smaller stream"
    return CameraError(text, "unreadable")


def _open_fault(config: CaptureConfig, error: Exception) -> CameraError:
    place, what = config.place, error.__class__.__name__
    if isinstance(error, ConnectionRefusedError):
        return CameraError(f"{place}: connection refused; is the camera on, and the port right?", "refused")
    if isinstance(error, av.error.HTTPUnauthorizedError | av.error.HTTPForbiddenError):
        return CameraError(f"{place}: the camera refuses user or password; check both", "unauthorized")
    if isinstance(error, FileNotFoundError | av.error.HTTPNotFoundError):
        return CameraError(f"{place}: not found; check the path", "not_found")
    if config.kind == "live":  # a frozen camera gives InvalidDataError here: the type says nothing
        return CameraError(
            f"{place}: no usable answer ({what}, waited up to {config.timeout_s:g} s); check host, port and network",
            "unreachable",
        )
    if config.kind == "file" and _is_empty(config.url.removeprefix("file://")):
        return NoVideo(f"{place}: the file is empty (0 bytes)")
    return CameraError(f"{place}: cannot be opened as a video ({what})", "unreadable")


def _is_empty(path: str) -> bool:
    try:
        return Path(path).stat().st_size == 0
    except OSError:
        return False


def _silence() -> None:
    """FFmpeg's own log lines hold urls. PyAV drops them unless someone switched them on: switch them off."""
    av.logging.set_level(None)
    av.logging.set_libav_level(av.logging.PANIC)


@dataclass(frozen=True, slots=True)
class Probe:
    """What `longwatch doctor` shows of a source."""

    info: VideoInfo
    open_s: float  # until the source answered
    first_frame_s: float  # from the start of opening until the first good picture
    fps: float  # measured
    frames: int
    corrupt: int
    keyframe_s: float | None  # mean distance of key frames; None when fewer than two were seen


def probe(url: str, seconds_s: float = 4.0, timeout_s: float = 5.0, options: Mapping[str, str] | None = None) -> Probe:
    """Open `url`, watch it for `seconds_s` of its own time and tell what it sends. Raises CameraError. Blocks."""
    config = CaptureConfig(url, timeout_s, options or {})
    begin_s = time.monotonic()
    capture = open_capture(config)
    open_s = time.monotonic() - begin_s
    times_s: list[float] = []
    keys_s: list[float] = []
    corrupt, first_frame_s = 0, 0.0
    try:
        for picture in pictures(capture):
            if picture.frame is None:
                corrupt += 1
            else:
                first_frame_s = first_frame_s or time.monotonic() - begin_s
                now_s = time.monotonic() if picture.pts_s is None else picture.pts_s
                times_s.append(now_s)
                if picture.frame.key_frame:
                    keys_s.append(now_s)
            if (
                times_s and times_s[-1] - times_s[0] >= seconds_s
            ) or time.monotonic() - begin_s > open_s + 3 * seconds_s:
                break
        info = capture.info
    finally:
        capture.close()
    if not times_s:
        raise NoVideo(f"{config.place}: no frame could be decoded in {3 * seconds_s:g} s")
    fps, keyframe_s = _rate(times_s), _rate(keys_s)
    return Probe(info, open_s, first_frame_s, fps, len(times_s), corrupt, 1 / keyframe_s if keyframe_s else None)


def _rate(times_s: list[float]) -> float:
    """Events per second; 0 when that cannot be said."""
    span_s = times_s[-1] - times_s[0] if times_s else 0.0
    return (len(times_s) - 1) / span_s if span_s > 0 else 0.0
