"""Packets that are held: what comes out is what a full decode gives, and nothing goes uncounted."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.capture import Capture, CaptureConfig, Picture, VideoInfo, VideoPacket, open_capture, pictures
from stream.doze import OFF, Doze, Thrift
from stream.errors import CameraError
from stream.gate import make
from stream.hold import Hold, Unseen
from stream.intake import Intake, walk_file
from stream.sight import Sight
from stream.source import Source, SourceConfig
from stream.types import Frame, Verdict
from tests.fakes import CLIPS, needs_clips
from tests.stream.footage import ENCODERS, Encoder, record

KINDS = sorted(ENCODERS)
ALONE = [kind for kind in KINDS if kind != "h264 refreshed in columns"]  # whose key frames are key frames
GATE = [{"stride": {"fps": 2}}, {"still": {}}]
SIZE = (96, 96)


class Drawn(Doze):
    """Dozes and wakes as it is told, whatever comes."""

    def __init__(self, fates: Iterator[bool]) -> None:
        super().__init__(Thrift())
        self._fates = fates

    def may(self) -> bool:
        return next(self._fates)

    def grown(self, packet: VideoPacket) -> bool:
        return not packet.key and next(self._fates)

    def full(self, packets: int, size_bytes: int, span_s: float) -> bool:
        return next(self._fates) and next(self._fates)


def opened(path: Path) -> Capture:
    return open_capture(CaptureConfig(str(path)))


def digest(picture: Picture) -> bytes:
    assert picture.frame is not None
    return hashlib.sha256(picture.frame.to_ndarray().tobytes()).digest()


@cache
def short(kind: str) -> Path:
    return record(Path(mkdtemp()) / "short", ENCODERS[kind], 4.0, (1.5, 2.5))


@cache
def whole(kind: str) -> dict[float | None, bytes]:
    return {picture.pts_s: digest(picture) for picture in pictures(opened(short(kind)))}


@pytest.mark.parametrize("kind", ALONE)
@settings(max_examples=12, deadline=None)
@given(fates=st.randoms(use_true_random=False), often=st.sampled_from([0.03, 0.2, 0.6]))
def test_pictures_are_those_of_a_full_decode_however_it_wakes(kind: str, fates: random.Random, often: float) -> None:
    draw = iter(lambda: fates.random() < often, None)
    hold = Hold(opened(short(kind)), Drawn(draw), lambda _picture: next(draw))
    shown, unseen = [], 0
    for item in hold.items():
        if isinstance(item, Unseen):
            unseen += item.count
        elif isinstance(item, Picture):
            shown.append((item.pts_s, digest(item)))
    assert len(shown) + unseen == len(whole(kind))
    assert [at for at, _ in shown] == sorted({at for at, _ in shown if at is not None})
    assert all(whole(kind)[at] == found for at, found in shown)


class Seen:
    """A replay of a film: what was kept, what was decoded, and why it woke."""

    def __init__(self, path: Path, thrift: Thrift, gate: list[dict[str, dict[str, float]]] = GATE) -> None:
        self.decoded, self.reasons = 0, []
        self.intake = Intake("cam", SIZE, make(gate), thrift=thrift)
        woke = self.intake._doze.woke
        self.intake._doze.woke = lambda reason: (self.reasons.append(reason), woke(reason))  # type: ignore[method-assign, func-returns-value]
        frames = [frame for frame in walk_file(path, self.intake, opener=self._open) if frame is not None]
        self.kept_s = [frame.wall_s for frame in frames]
        self.indices = [frame.index for frame in frames]
        assert self.intake.frames_in == self.intake.kept + sum(self.intake.skipped.values())
        assert self.intake.kept == len(frames)

    def _open(self, config: CaptureConfig) -> Capture:
        return Counting(open_capture(config), self)


class Counting:
    """A capture that counts what it decodes."""

    def __init__(self, inner: Capture, seen: Seen) -> None:
        self.inner, self.seen = inner, seen
        self.packets, self.drain, self.close = inner.packets, inner.drain, inner.close

    @property
    def info(self) -> VideoInfo:
        return self.inner.info

    def decode(self, packet: VideoPacket) -> list[Picture]:
        self.seen.decoded += packet.size_bytes > 0
        return self.inner.decode(packet)


LONG_S, PASSES = 30.0, (21.3, 23.3)
DOZE = Thrift(doze_after_s=3.0)
NEVER = {"h264 refreshed in columns", "h264 with a key frame a minute"}  # no key frame, or none soon


@pytest.mark.parametrize("kind", KINDS)
def test_a_far_person_in_a_still_scene_wakes_every_camera(kind: str, tmp_path: Path) -> None:
    path = record(tmp_path / "long", ENCODERS[kind], LONG_S, PASSES)
    full, less = Seen(path, OFF), Seen(path, DOZE)
    frames = round(LONG_S * 10)
    assert full.decoded == full.intake.frames_in == less.intake.frames_in == frames
    assert full.reasons == []
    seen = [[at for at in run.kept_s if PASSES[0] <= at <= PASSES[1]] for run in (full, less)]
    assert len(seen[1]) >= len(seen[0]) - 1 >= 2
    assert seen[1][0] - PASSES[0] < 0.6  # what was held is shown: not only what came after the key frame
    assert less.indices == sorted(set(less.indices))
    if kind in NEVER:
        assert less.reasons == []
        assert less.decoded == frames
    else:
        assert set(less.reasons) <= {"key", "packets"}
        assert less.reasons
        assert less.decoded < 0.7 * frames
        assert less.intake.skipped["packets"] > 0.3 * frames
    assert Seen(path, DOZE).kept_s == less.kept_s  # a replay is the same every time


def test_something_large_is_told_by_its_packets(tmp_path: Path) -> None:
    """At once, and not at the next key frame, which comes every 3 s."""
    how = ENCODERS["h264"]
    how = type(how)(how.codec, {**how.options, "g": "30"})
    path = record(tmp_path / "large", how, 30.0, (22.0, 24.5), noise=0.0)
    seen = Seen(path, Thrift(doze_after_s=3.0))
    assert seen.reasons == ["packets"]
    assert 22.0 <= next(at for at in seen.kept_s if at > 1) < 22.6


def test_without_a_gate_that_looks_nothing_is_left_undecoded(tmp_path: Path) -> None:
    path = record(tmp_path / "still", ENCODERS["h264"], 15.0)
    for gate in ([{"stride": {"fps": 1.0}}], [{"all": {}}], [{"random": {"share": 0.5}}]):
        seen = Seen(path, DOZE, gate)  # type: ignore[arg-type]
        assert seen.decoded == seen.intake.frames_in == 150


def test_pictures_that_no_other_needs_are_not_decoded_where_few_are_taken(tmp_path: Path) -> None:
    path = record(tmp_path / "b", ENCODERS["h264 with B-frames"], LONG_S, (5.0, 25.0))
    full, less = Seen(path, OFF), Seen(path, replace(OFF, skip_nonref=True), [{"stride": {"fps": 1.0}}, {"still": {}}])
    assert less.decoded < 0.75 * full.decoded  # two of five are such, and it takes some seconds to know the gate
    assert {at for at, packet in enumerate(opened(path).packets()) if packet.spare}
    assert len([at for at in less.kept_s if 5.0 <= at <= 25.0]) >= 19
    assert Seen(path, replace(OFF, skip_nonref=True), [{"stride": {"fps": 5.0}}]).decoded == full.decoded
    assert not any(packet.spare for packet in opened(short("h264")).packets())


def test_the_hold_is_bounded(tmp_path: Path) -> None:
    path = record(tmp_path / "still", ENCODERS["h264"], 20.0)
    largest = max(packet.size_bytes for packet in opened(path).packets())
    tight = Seen(path, Thrift(doze_after_s=3.0, hold_mb=3 * largest / 1e6))
    assert tight.decoded == 200  # a group of pictures does not fit
    assert Seen(path, Thrift(doze_after_s=3.0, hold_s=0.5)).decoded == 200  # nor into this time
    assert Seen(path, DOZE).decoded < 140


@pytest.mark.parametrize(("fault", "within_s"), [("black", 5.0), ("frozen", 14.0)])
@pytest.mark.parametrize("kind", ["h264", "h264 with B-frames", "mjpeg"])
def test_a_camera_that_shows_nothing_any_more_is_noticed_while_it_dozes(
    kind: str, fault: str, within_s: float, tmp_path: Path
) -> None:
    path = record(tmp_path / fault, ENCODERS[kind], 45.0, noise=4.0, fault=(fault, 25.0))
    sight, states = Sight(3.0, 24.0), []
    intake = Intake("cam", SIZE, make([{"stride": {"fps": 2}}, {"still": {}}]), sight=sight, thrift=DOZE)
    for _ in walk_file(path, intake):
        states.append((intake.last_wall_s, sight.state))
    assert intake.skipped["packets"] > 100
    assert {state for at_s, state in states if at_s is not None and at_s < 25.0} == {""}
    assert next(at_s for at_s, state in states if at_s is not None and state == fault) < 25.0 + within_s


class Breaking:
    """A capture whose connection breaks after so many packets."""

    def __init__(self, inner: Capture, packets: int) -> None:
        self.inner, self.count = inner, packets
        self.decode, self.drain, self.close = inner.decode, inner.drain, inner.close

    @property
    def info(self) -> VideoInfo:
        return self.inner.info

    def packets(self) -> Iterator[VideoPacket]:
        for number, packet in enumerate(self.inner.packets()):
            if number == self.count:
                raise CameraError("the connection broke", "ended")
            yield packet


@pytest.mark.parametrize("count", [137, 140, 141, 149])
def test_what_is_held_when_the_camera_breaks_is_looked_at(count: int, tmp_path: Path) -> None:
    path = record(tmp_path / "still", ENCODERS["h264"], 15.0)
    intake = Intake("cam", SIZE, make(GATE), thrift=DOZE)
    with pytest.raises(CameraError, match="broke"):
        list(walk_file(path, intake, opener=lambda config: Breaking(open_capture(config), count)))
    assert intake.frames_in == count == intake.kept + sum(intake.skipped.values())
    assert intake.last_wall_s == pytest.approx((count - 1) / 10)


def quiet(doze: Doze, growth: bool, from_s: float, groups: int) -> list[str]:
    """Feeds still groups of ten packets a second; where `growth`, the last packets of each are large."""
    said = []
    for second in range(groups):
        at_s = from_s + second
        doze.came(VideoPacket(at_s, 5000, key=True))
        for number in range(1, 10):
            packet = VideoPacket(at_s + number / 10, 400 if growth and number > 6 else 100 + number, key=False)
            said.append(doze.growth.grown(packet.size_bytes, learn=not growth))
    return [word for word in said if word]


def test_growth_is_told_from_what_the_camera_usually_sends() -> None:
    doze = Doze(Thrift())
    assert quiet(doze, False, 0.0, 20) == []
    assert quiet(doze, True, 20.0, 1) != []
    assert quiet(doze, False, 21.0, 20) == []


def test_a_camera_whose_packets_told_nothing_three_times_is_decoded_in_full_for_a_while() -> None:
    doze = Doze(Thrift(doze_after_s=2.0))
    still = Verdict(keep=False, score=0.1, reason="still")

    def may(at_s: float) -> bool:
        """Everything is calm from `at_s` on."""
        quiet(doze, False, at_s, 5)
        doze.key_picture(True)
        for step in range(5):
            doze.judged(still, at_s + step)
        return doze.may()

    assert may(0.0)
    doze.woke("key")
    assert may(10.0)
    doze.woke("packets")
    doze.judged(Verdict(keep=True, score=2.0, reason="kept"), 15.0)  # which was right: the first miss is forgotten
    for at_s in (20.0, 30.0, 40.0):
        assert may(at_s)
        doze.woke("key")
    assert not may(50.0)
    assert not may(600.0)
    assert may(700.0)
    doze.woke("key")  # once more is enough
    assert not may(720.0)


def test_a_camera_that_dozes_is_alive_and_counted(tmp_path: Path) -> None:
    path = record(tmp_path / "still", Encoder("libx264", {**ENCODERS["h264"].options, "g": "25"}), 7.0, fps=25)
    frames: list[Frame] = []
    config = SourceConfig("cam", str(path), SIZE, loop=False, stale_after_s=1.0, thrift=Thrift(doze_after_s=1.0))
    source = Source(config, make([{"still": {}}]), frames.append)
    source.start()
    held = 0.0
    while source.alive:
        time.sleep(0.1)
        stats = source.stats()
        assert not source.watchdog()
        assert stats.frames_in == stats.kept + sum(stats.skipped.values())
        if stats.alive_wall_s is not None and stats.last_wall_s is not None and stats.state == "online":
            held = max(held, stats.alive_wall_s - stats.last_wall_s)
            assert stats.fps > 0
    stats = source.stats()
    assert held > 0.5  # packets came, pictures did not
    assert stats.frames_in == 175 == stats.kept + sum(stats.skipped.values())
    assert stats.skipped["packets"] > 40
    assert (stats.reason, stats.crashes, len(frames)) == ("finished", 0, stats.kept)


@needs_clips
@pytest.mark.parametrize("name", ["night_ir_grass.mp4", "cctv_empty_street.mp4", "road_overhead_cars.mp4"])
def test_real_cameras_show_what_a_full_decode_shows(name: str) -> None:
    full, less = Seen(CLIPS / name, Thrift(doze_after_s=0.0)), Seen(CLIPS / name, Thrift(doze_after_s=2.0))
    missed = [at for at in full.kept_s if not any(abs(at - other) <= 1.0 for other in less.kept_s)]
    assert missed == []
    assert less.decoded <= full.decoded
