"""What the daemon itself says of a camera that fails: its own reader over a street's faults, without waiting.

    gap     nothing comes
    black   the picture is black
    frozen  the camera goes on sending one and the same picture

A fault is named when the log of gaps holds that time for that reason, both ends within 2 s. The reader
(`stream/source.py`), what it says of pictures (`stream/sight.py`), its time-outs and the log are the daemon's own, with
the defaults of the configuration. Pictures of the street come twice a second.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import av
from tqdm import tqdm

from daemon.gaps import GapLog
from daemon.messages import Gap
from stream import gate
from stream.capture import Capture, CaptureConfig, Picture, VideoInfo, VideoPacket
from stream.errors import CameraError, CameraTimeout
from stream.source import Source, SourceConfig, StateChange, Surroundings
from stream.train.events import Fault
from stream.train.world import Street

EPOCH_S = 1_700_000_000.0
PICTURES_A_S = 2.0
SIDE_PX = 48
WITHIN_S = 2.0
WAIT_S = 60.0  # for a thread that has minutes of street to go through
CAMERA = "street"


@dataclass(slots=True)
class Tally:
    """Faults of one kind, and how many of them the daemon named with the right span."""

    faults: int = 0
    named: int = 0


@dataclass(slots=True)
class RunningClock:
    """Time as the pictures bring it along."""

    now_s: float = 0.0

    def wall_s(self) -> float:
        """Seconds since the epoch."""
        return EPOCH_S + self.now_s

    def monotonic_s(self) -> float:
        """Seconds of street."""
        return self.now_s


@dataclass(slots=True)
class StreetCamera:
    """Opens a street as a live camera: in a gap it neither opens nor sends, and time passes as the reader waits."""

    street: Street
    clock: RunningClock
    tick: Callable[[], object] = lambda: None  # what the daemon does every second
    over: threading.Event = field(default_factory=threading.Event)

    def __call__(self, config: CaptureConfig) -> Capture:
        """Connect. Raises CameraTimeout in a gap, CameraError at the end of the street."""
        if self.clock.now_s >= self.street.seconds:
            self.over.set()
            raise CameraError("the street is over", "ended")
        self._wait(config.timeout_s)
        return _Opened(self, config.timeout_s)

    def pictures(self, timeout_s: float) -> Iterator[Picture]:
        """One picture after the other until the end; CameraTimeout when none came for `timeout_s`."""
        while self.clock.now_s < self.street.seconds:
            self._wait(timeout_s)
            image = self.street.render(self.clock.now_s, SIDE_PX, SIDE_PX)
            yield Picture(self.clock.now_s, av.VideoFrame.from_ndarray(image, format="rgb24"))
            self._pass(1.0 / PICTURES_A_S)

    def _wait(self, timeout_s: float) -> None:
        """Until something comes. Raises CameraTimeout."""
        began_s = self.clock.now_s
        while self.street.fault(self.clock.now_s) == "gap":
            if self.clock.now_s - began_s >= timeout_s:
                raise CameraTimeout(f"no video packet for {timeout_s:g} s")
            self._pass(min(1.0 / PICTURES_A_S, timeout_s))

    def _pass(self, seconds: float) -> None:
        before = int(self.clock.now_s)
        self.clock.now_s += seconds
        if int(self.clock.now_s) > before:
            self.tick()


@dataclass(frozen=True, slots=True)
class _Opened:
    """One connection to a StreetCamera."""

    camera: StreetCamera
    timeout_s: float

    @property
    def info(self) -> VideoInfo:
        """See Capture."""
        return VideoInfo("h264", SIDE_PX, SIDE_PX, PICTURES_A_S)

    def packets(self) -> Iterator[VideoPacket]:
        """See Capture."""
        for picture in self.camera.pictures(self.timeout_s):
            yield VideoPacket(picture.pts_s, 1, key=True, raw=picture)

    def decode(self, packet: VideoPacket) -> list[Picture]:
        """See Capture."""
        assert isinstance(packet.raw, Picture)
        return [packet.raw]

    def drain(self) -> list[Picture]:
        """See Capture."""
        return []

    def close(self) -> None:
        """See Capture."""


def watched(street: Street) -> tuple[Gap, ...]:
    """The gaps that the daemon logs while it watches `street`; times on the street's axis."""
    log, clock = GapLog(), RunningClock()
    camera = StreetCamera(street, clock)

    def on_state(change: StateChange) -> None:  # as `daemon/app.py` does it
        log.follow(change, source.stats().last_wall_s)

    config = SourceConfig(CAMERA, "rtsp://street.example/", (SIDE_PX, SIDE_PX))
    around = Surroundings(clock=clock, opener=camera, first_backoff_s=1e-4)
    source = Source(config, gate.make([{"all": {}}]), lambda _frame: None, on_state, around)
    camera.tick = source.watchdog
    source.start()
    if not camera.over.wait(WAIT_S):
        raise TimeoutError(f"the reader did not come to the end of {street.seconds:.0f} s of street")
    source.stop()
    gaps = log.between(CAMERA, None, None)
    return tuple(
        Gap(gap.camera, gap.since_s - EPOCH_S, gap.until_s - EPOCH_S, gap.reason)
        for gap in gaps
        if gap.until_s is not None
    )


def named(fault: Fault, gaps: Sequence[Gap]) -> bool:
    """Whether one of `gaps` is this fault, both ends within 2 s, and a black picture called black."""
    return any(
        gap.until_s is not None
        and (gap.reason == "black") == (fault.kind == "black")
        and abs(gap.since_s - fault.first_s) <= WITHIN_S
        and abs(gap.until_s - fault.last_s) <= WITHIN_S
        for gap in gaps
    )


def tally(streets: Sequence[Street]) -> tuple[dict[str, Tally], int]:
    """By kind of fault how many there were and how many were named; and the logged gaps that were none."""
    found = {"gap": Tally(), "frozen": Tally(), "black": Tally()}
    invented = 0
    for street in tqdm(streets, desc="streets", delay=2, disable=None):
        gaps = watched(street)
        faults = [fault for fault in street.faults if fault.kind in found and fault.last_s < street.seconds]
        for fault in faults:
            found[fault.kind].faults += 1
            found[fault.kind].named += named(fault, gaps)
        invented += sum(not any(_touches(gap, fault) for fault in faults) for gap in gaps)
    return found, invented


def _touches(gap: Gap, fault: Fault) -> bool:
    return gap.until_s is None or (gap.since_s <= fault.last_s + WITHIN_S and gap.until_s >= fault.first_s - WITHIN_S)
