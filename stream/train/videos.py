"""Real videos: questions and answers in the layout of LLaVA-Video-178K, and a few frames out of each video.

    [{"id": "...", "video": "part/name.mp4", "conversations": [{"from": "human", "value": "<image>\\nWhat ...?"},
                                                               {"from": "gpt", "value": "A red car."}, ...]}, ...]

as one JSON list, or one object a line; `video` counts from a folder. Data of this size is never whole: what cannot
be used is named, skipped and counted (`Ledger`), and ends the training only above a set share.

    json        a line that is not JSON                 missing     there is no such file
    layout      not the fields above                    unreadable  not a video, or damaged
    empty       no question, no answer, 0 bytes         no_video    opened, nothing to decode
    too_long    the video, or every text in it          size        a picture too small or too large
"""

from __future__ import annotations

import bisect
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from tqdm import tqdm

from stream.capture import MAX_PICTURE_PX
from stream.errors import CameraError, ConfigError, LongwatchError
from stream.picture import Scaler

PLACEHOLDER = re.compile(r"\s*<(?:image|video)>\s*")  # where the layout says that the frames stand
SMALLEST_PX = 16
SHOWN = 20  # broken items named on the screen; the file names them all
ENOUGH = 20  # items opened before a share of them means anything


class BrokenData(LongwatchError):
    """Too large a share of the training data cannot be used."""


class Unusable(LongwatchError):
    """One video or one item cannot be used; `reason` is the word it is counted under."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Item:
    """One video with its questions."""

    name: str  # file, line or number, id: as messages name it
    path: Path
    turns: tuple[tuple[str, str], ...]  # (question, answer)


@dataclass(frozen=True, slots=True)
class Broken:
    """An item that was skipped."""

    name: str
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How frames are taken from a video."""

    frames: int  # at most; shorter videos give all they have
    image_px: int
    max_s: float = math.inf


def read(items: Path, folder: Path) -> list[Item | Broken]:
    """Every item of a file in its order. Raises ConfigError when the file is missing, or no list and no lines."""
    try:
        raw = items.read_bytes()
    except OSError as error:
        raise ConfigError(f"{items}: cannot be read: {error.strerror or error}") from error
    if not folder.is_dir():
        raise ConfigError(f"{folder}: is no folder of videos")
    found = [_item(name, value, folder) for name, value in _entries(items, raw)]
    if not found:
        raise ConfigError(f"{items}: holds no items")
    return found


def _entries(items: Path, raw: bytes) -> Iterator[tuple[str, Any]]:
    """(name, parsed value) of each entry; a line that is not JSON comes as an Unusable."""
    if raw.lstrip()[:1] == b"[":
        try:
            listed = json.loads(raw)
        except (ValueError, RecursionError) as error:
            text = "starts as a JSON list but does not go on as one: give a whole list, or one object a line"
            raise ConfigError(f"{items}: {text} ({error})") from error
        yield from ((f"{items} item {number}", value) for number, value in enumerate(listed, 1))
        return
    for number, line in enumerate(raw.splitlines(), 1):
        if not line.strip():
            continue
        name = f"{items} line {number}"
        try:
            value: Any = json.loads(line)
        except (ValueError, RecursionError) as error:
            value = Unusable("json", f"not JSON: {error}")
        yield name, value


def _item(name: str, value: Any, folder: Path) -> Item | Broken:
    if isinstance(value, dict) and isinstance(value.get("id"), str | int):
        name = f"{name} ({value['id']})"
    try:
        if isinstance(value, Unusable):
            raise value
        if not isinstance(value, dict):
            raise Unusable("layout", f"is of type {type(value).__name__}, not an object")
        return Item(name, _path(value.get("video"), folder), _turns(value.get("conversations")))
    except Unusable as fault:
        return Broken(name, fault.reason, str(fault))


def _path(video: Any, folder: Path) -> Path:
    if not isinstance(video, str) or not video:
        raise Unusable("layout", "`video` is not the name of a file")
    inside = PurePosixPath(video)
    if inside.is_absolute() or ".." in inside.parts:
        raise Unusable("layout", f"`video` {video!r} leads out of the folder")
    path = folder / inside
    try:
        if not path.is_file():
            raise Unusable("missing", f"there is no file {path}")
        if path.stat().st_size == 0:
            raise Unusable("empty", f"{path} has 0 bytes")
    except OSError as error:
        raise Unusable("missing", f"{path}: {error.strerror or error}") from error
    return path


def _turns(said: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(said, list) or not said or len(said) % 2:
        raise Unusable("layout", "`conversations` is not a list of questions with their answers")
    texts = []
    for number, turn in enumerate(said):
        who = ("human", "gpt")[number % 2]
        if not isinstance(turn, Mapping) or turn.get("from") != who or not isinstance(turn.get("value"), str):
            raise Unusable("layout", f"turn {number + 1} of `conversations` is not what {who!r} said")
        texts.append(PLACEHOLDER.sub("\n", turn["value"]).strip() if who == "human" else turn["value"].strip())
        if not texts[-1]:
            raise Unusable("empty", f"turn {number + 1} of `conversations` says nothing")
    return tuple(zip(texts[::2], texts[1::2], strict=True))


def sample(path: Path, how: Sampling) -> tuple[np.ndarray, list[float]]:
    """Frames spread evenly over a video, uint8 [F, px, px, 3], and their times from its start. Raises Unusable.

    Two passes: packets without decoding, which finds the true length and every key frame, then only what is needed.
    """
    try:  # `file:` so that no name is taken for a protocol; nor may a playlist name another one
        with av.open(f"file:{path}", options={"protocol_whitelist": "file"}) as container:
            return _sample(path, container, how)
    except (OSError, ValueError, av.error.FFmpegError) as error:
        raise Unusable("unreadable", f"{path}: cannot be read as a video ({error.__class__.__name__})") from error


def _sample(path: Path, container: InputContainer, how: Sampling) -> tuple[np.ndarray, list[float]]:
    stream = container.streams.video[0] if container.streams.video else None
    if stream is None or stream.codec_context is None or stream.time_base is None:
        raise Unusable("no_video", f"{path}: holds no video")
    stream.codec_context.thread_count = 1
    packets = [(packet.pts, packet.is_keyframe) for packet in container.demux(stream) if packet.pts is not None]
    times = sorted({pts for pts, _ in packets})
    if not times:
        raise Unusable("no_video", f"{path}: has no frame with a time")
    second = 1 / float(stream.time_base)
    length_s = (times[-1] - times[0]) / second
    if length_s > how.max_s:
        raise Unusable("too_long", f"{path}: lasts {length_s:.0f} s, more than {how.max_s:g} s")
    wanted = _spread(times, how.frames)
    scaler = Scaler((how.image_px, how.image_px))
    images, at_s = [], []
    for frame in _frames(container, stream, wanted, sorted({pts for pts, key in packets if key})):
        try:
            images.append(scaler.rgb(_checked(path, frame)))
        except CameraError as error:
            raise Unusable("size", f"{path}: {error}") from error
        at_s.append(((frame.pts or 0) - times[0]) / second)
    if len(images) < max(1, len(wanted) / 2):
        raise Unusable("unreadable", f"{path}: {len(images)} of {len(wanted)} frames could be decoded")
    return np.stack(images), at_s


def _spread(times: list[int], count: int) -> list[int]:
    """At most `count` of `times`, one in each of `count` equal stretches."""
    if len(times) <= count:
        return times
    stretch = (times[-1] - times[0]) / count
    middles = [times[0] + (number + 0.5) * stretch for number in range(count)]
    return sorted({times[bisect.bisect_left(times, middle)] for middle in middles})


def _frames(container: InputContainer, stream: VideoStream, wanted: list[int], keys: list[int]) -> Iterator[VideoFrame]:
    """The first good frame at or after each wanted time; jumps where a key frame lies in between."""
    decoded: Iterator[VideoFrame] = iter(())
    here: int | None = None
    for pts in wanted:
        place = bisect.bisect_right(keys, pts)
        key = keys[place - 1] if place else pts
        if here is None or key > here:
            container.seek(key, stream=stream)
            decoded = _decoded(container, stream)
        frame = next((frame for frame in decoded if frame.pts is not None and frame.pts >= pts), None)
        if frame is None:
            return
        here = frame.pts
        yield frame


def _decoded(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    for packet in container.demux(stream):
        try:
            frames = stream.decode(packet)
        except (OSError, ValueError, av.error.FFmpegError):
            continue
        yield from (frame for frame in frames if not frame.is_corrupt)


def _checked(path: Path, frame: VideoFrame) -> VideoFrame:
    if min(frame.width, frame.height) < SMALLEST_PX or frame.width * frame.height > MAX_PICTURE_PX:
        raise Unusable("size", f"{path}: a picture of {frame.width}x{frame.height} px")
    return frame


class Ledger:
    """Names and counts what is skipped; raises BrokenData above `max_share` of all items.

    Some faults show when the file is read, the others when a video is opened. While not all have been opened, their
    share is taken from those that have, from `ENOUGH` on.
    """

    def __init__(self, found: list[Item | Broken], max_share: float, report: Path) -> None:
        self._total, self._max_share, self._report = len(found), max_share, report
        self.opened = 0
        self.counts: Counter[str] = Counter()
        self.left_out = 0  # single questions too long for their slot, in items that are used all the same
        self._late: dict[str, Broken] = {}  # by name: what broke when it was opened
        report.write_text("", encoding="utf-8")
        early = [item for item in found if isinstance(item, Broken)]
        self._early = len(early)
        for broken in early:
            self._write(broken)
        self._judge()

    def used(self, left_out: int) -> None:
        """A video was opened for the first time and can be used but for `left_out` of its questions."""
        self.opened += 1
        self.left_out += left_out

    def skip(self, broken: Broken) -> None:
        """A video was opened and cannot be used; counted once. Raises BrokenData."""
        if broken.name in self._late:
            return
        self.opened += 1
        self._late[broken.name] = broken
        self._write(broken)
        self._judge()

    def state(self) -> dict[str, Any]:
        """What `resume` needs."""
        late = [[item.name, item.reason, item.text] for item in self._late.values()]
        return {"opened": self.opened, "left_out": self.left_out, "late": late}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on where a training was killed: those items are not counted again."""
        self.opened, self.left_out = state["opened"], state["left_out"]
        for broken in (Broken(*item) for item in state["late"]):
            self._late[broken.name] = broken
            self._write(broken)

    def share(self) -> float:
        """The share of all items that is, or by what was opened so far will be, broken."""
        early = self._early / self._total
        enough = max(1, self.opened, min(ENOUGH, self._total - self._early))
        return early + (1.0 - early) * len(self._late) / enough

    def _judge(self) -> None:
        if self.share() > self._max_share:
            told = ", ".join(f"{reason} {count}" for reason, count in self.counts.most_common())
            raise BrokenData(
                f"{self.share():.1%} of {self._total} items cannot be used ({told}), more than max_broken_share "
                f"{self._max_share:.1%}; {self._report} names them"
            )

    def _write(self, broken: Broken) -> None:
        self.counts[broken.reason] += 1
        if sum(self.counts.values()) <= SHOWN:
            tqdm.write(f"skipped {broken.name}: {broken.reason}: {broken.text}", file=sys.stderr)
        with self._report.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"item": broken.name, "reason": broken.reason, "text": broken.text}) + "\n")
