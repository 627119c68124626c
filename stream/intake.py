"""Decoded picture -> scaled, stamped, judged Frame. The part of a camera that needs no thread and no network.

`Source` runs it in a camera's thread; `read_file` runs it over a file as fast as it goes, with time taken from the
file, so that a replay gives the same frames every time.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stream.capture import Capture, CaptureConfig, Opener, Picture, open_capture
from stream.clock import Clock, Stamp, SystemClock
from stream.doze import OFF, Doze, Thrift, moved
from stream.errors import NoVideo
from stream.gate import Chain, Gate
from stream.hold import Hold, Item, Unseen
from stream.mask import Polygon
from stream.picture import Scaler
from stream.sight import Sight
from stream.stages import OFF as UNMEASURED
from stream.stages import Stages
from stream.types import Frame, Verdict

CORRUPT = "corrupt"  # reason under which damaged frames are counted
PACKETS = "packets"  # reason under which frames are counted that were never decoded

Stamper = Callable[[float | None, float | None], Stamp]  # from a picture's own pts, and when it came: see Picture

_NO_IMAGE = np.empty((0, 0, 3), np.uint8)


@dataclass(frozen=True, slots=True)
class Privacy:
    """What nobody may see of a camera. `pictures` False: no evidence picture is made, so none is stored or shown."""

    masks: Sequence[Polygon] = ()
    pictures: bool = True


OPEN = Privacy()


class Intake:
    """Turns one camera's pictures into frames. Always: `frames_in == kept + sum(skipped.values())`.

    Not thread-safe: it belongs to whoever reads the camera. `size` is (H, W) of the model's picture. `sight`, where
    there is one, looks at the pictures that are scaled: those that a gate has to look at, and some more (`Thrift`).
    """

    def __init__(
        self,
        camera: str,
        size: tuple[int, int],
        gate: Gate,
        sight: Sight | None = None,
        thrift: Thrift = OFF,
        privacy: Privacy = OPEN,
    ) -> None:
        self.camera = camera
        self.first_index = 0  # a camera's frames are counted over its whole life: a new reader goes on with the count
        self.frames_in = 0
        self.kept = 0
        self.skipped: Counter[str] = Counter()  # by reason
        self.picture_size = (0, 0)  # height and width the source sends now, px
        self.last_wall_s: float | None = None  # stamp of the newest intact frame
        self._last_pts_s: float | None = None  # its own
        self.stages: Stages = UNMEASURED  # whoever wants to know puts in theirs
        self._scaler = Scaler(size, privacy.masks)
        self._pictures = privacy.pictures
        self._gate = gate if isinstance(gate, Chain) else Chain([gate])
        self._sight = sight
        self._looked_s = -math.inf  # stamp of the picture that `sight` saw last
        self._look_s = 1 / thrift.look_fps if thrift.look_fps else 0.0
        self._thrift = thrift
        self._doze = Doze(thrift)
        self._compared: tuple[Picture, np.ndarray] | None = None  # the last key frame that was looked at while dozing

    def items(self, capture: Capture, clock: Clock | None = None) -> Iterator[Item]:
        """What comes of `capture`: pictures for `judge` or `accept`, packets that are held, and those left undecoded.

        The last are counted already. Raises CameraError.
        """
        hold = Hold(capture, self._doze, self._differs, (clock or SystemClock()).monotonic_s)
        for item in hold.items():
            if isinstance(item, Unseen):
                self.frames_in += item.count
                self.skipped[PACKETS] += item.count
            yield item

    def judge(self, picture: Picture, stamp: Stamper) -> tuple[Frame, Verdict] | None:
        """The frame without evidence picture and what the gate says of it; None when it is damaged.

        Its image is [0, 0, 3] where a gate skipped it that needs no picture. Raises CameraError when the picture
        cannot be scaled; it is counted as damaged then.
        """
        self.frames_in += 1
        if picture.frame is None:
            self.skipped[CORRUPT] += 1
            return None
        at = stamp(picture.pts_s, picture.arrived_s)
        index = self.first_index + self.frames_in - 1
        frame = _told(picture, Frame(self.camera, index, at.segment, at.pts_s, at.wall_s, _NO_IMAGE))
        with self.stages.span("gate"):
            verdict = self._gate.before(frame)
        self._doze.timed(verdict.keep)
        if verdict.keep or (self._sight is not None and at.wall_s - self._looked_s >= self._look_s):
            with self.stages.span("scale"):
                image = self._scaled(picture)
            if self._sight is not None and (shown := self._scaler.shown(image, picture.frame)) is not None:
                self._sight.look(shown, at.wall_s)
            self._looked_s = at.wall_s
            if verdict.keep:
                frame = dataclasses.replace(frame, image=image)
                with self.stages.span("gate"):
                    verdict = self._gate.after(frame, verdict)
                self._doze.judged(verdict, at.wall_s)
        self.picture_size = (picture.frame.height, picture.frame.width)
        self.last_wall_s, self._last_pts_s = at.wall_s, picture.pts_s
        if verdict.keep:
            self.kept += 1
        else:
            self.skipped[verdict.reason] += 1
        return frame, verdict

    def accept(self, picture: Picture, stamp: Stamper) -> Frame | None:
        """The finished frame, or None when it was skipped. With its evidence picture, where there may be one.

        Raises CameraError.
        """
        judged = self.judge(picture, stamp)
        if judged is None or picture.frame is None or not judged[1].keep:
            return None
        frame, verdict = judged
        if not self._pictures:
            return dataclasses.replace(frame, score=verdict.score)
        with self.stages.span("thumbnail"):
            thumbnail = self._scaler.thumbnail(picture.frame)
            if not self._thrift.lazy_thumbnails:
                thumbnail.read()
        return dataclasses.replace(frame, thumbnail=thumbnail, score=verdict.score)

    def _scaled(self, picture: Picture) -> np.ndarray:
        assert picture.frame is not None
        compared, self._compared = self._compared, None
        if compared is not None and compared[0] is picture:
            return compared[1]
        try:
            return self._scaler.rgb(picture.frame)
        except BaseException:
            self.skipped[CORRUPT] += 1
            raise

    def _differs(self, picture: Picture) -> bool:
        """Whether the gates would keep `picture` for what it shows. They are asked on a copy: it is not its turn."""
        if self.last_wall_s is None or picture.frame is None:
            return True
        step_s = 0.0 if picture.pts_s is None or self._last_pts_s is None else picture.pts_s - self._last_pts_s
        wall_s = self.last_wall_s + max(0.0, step_s)
        index, image = self.first_index + self.frames_in, self._scaler.rgb(picture.frame)
        frame = _told(picture, Frame(self.camera, index, 0, wall_s, wall_s, image))
        return moved(copy.deepcopy(self._gate).judge(frame))


def _told(picture: Picture, frame: Frame) -> Frame:
    """`frame` with what the codec says of it."""
    return dataclasses.replace(frame, key_frame=picture.key_frame, packet_bytes=picture.packet_bytes)


class FileTime:
    """Stamps from a file's own time: wall = start + pts. Strictly increasing, whatever the pts do."""

    def __init__(self, start_wall_s: float, frame_s: float) -> None:
        self._start_wall_s = start_wall_s
        self._frame_s = frame_s  # step where pts say nothing
        self._base_s: float | None = None
        self._last_s = -math.inf

    def stamp(self, pts_s: float | None, arrived_s: float | None = None) -> Stamp:  # noqa: ARG002
        """The next stamp; segment is always 0. When it was read says nothing."""
        if pts_s is None or not math.isfinite(pts_s):
            at_s = max(0.0, self._last_s + self._frame_s)
        else:
            self._base_s = pts_s if self._base_s is None else self._base_s
            at_s = pts_s - self._base_s
        if self._start_wall_s + at_s <= self._start_wall_s + self._last_s:  # less than a wall time can tell as well
            at_s = self._last_s + self._frame_s
        self._last_s = at_s
        return Stamp(0, at_s, self._start_wall_s + at_s)


def judged_file(
    path: str | Path, intake: Intake, start_wall_s: float = 0.0, opener: Opener = open_capture
) -> Iterator[tuple[Frame, Verdict]]:
    """Every decoded frame of a video file with its gate's verdict, as fast as it goes and the same every time.

    Raises CameraError (missing, not a video, too large) or NoVideo (empty, audio only, nothing decodable).
    """
    for picture, stamp in _timed(path, intake, start_wall_s, opener):
        judged = intake.judge(picture, stamp)
        if judged is not None:
            yield judged


def read_file(
    path: str | Path, intake: Intake, start_wall_s: float = 0.0, opener: Opener = open_capture
) -> Iterator[Frame]:
    """The frames of a video file that the gate keeps, with evidence pictures; time and errors as `judged_file`."""
    for frame in walk_file(path, intake, start_wall_s, opener):
        if frame is not None:
            yield frame


def walk_file(
    path: str | Path, intake: Intake, start_wall_s: float = 0.0, opener: Opener = open_capture
) -> Iterator[Frame | None]:
    """As `read_file`, with a None for all that was skipped: `intake.last_wall_s` says how far the file is."""
    for picture, stamp in _timed(path, intake, start_wall_s, opener):
        yield intake.accept(picture, stamp)


def _timed(path: str | Path, intake: Intake, start_wall_s: float, opener: Opener) -> Iterator[tuple[Picture, Stamper]]:
    damaged = intake.skipped[CORRUPT]
    seen = intake.frames_in
    with closing(opener(CaptureConfig(f"file://{path}"))) as capture:
        time = FileTime(start_wall_s, 1 / (capture.info.fps or 25.0))
        for item in intake.items(capture):
            if isinstance(item, Picture):
                yield item, time.stamp
    if intake.frames_in - seen == intake.skipped[CORRUPT] - damaged:
        raise NoVideo(f"{path}: not one frame could be decoded; is it damaged?")
