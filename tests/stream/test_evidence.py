"""What the codec says of a picture reaches its frame: type and packet size, as PyAV tells them of a real file."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from av.video.frame import PictureType

from stream.capture import CaptureConfig, open_capture, pictures
from stream.doze import Thrift
from stream.gate import make
from stream.intake import Intake, judged_file
from stream.types import Frame
from tests.fakes import picture
from tests.stream.footage import ENCODERS, record

SIZE = (48, 48)


def truth(path: Path) -> dict[int, tuple[bool, int]]:
    """Milliseconds -> (picture type is I, bytes of the packet), read in two passes that know nothing of each other."""
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        sizes = {packet.pts: packet.size for packet in file.demux(stream) if packet.pts is not None}
    with av.open(str(path)) as file:
        return {
            round(1000 * frame.time): (frame.pict_type == PictureType.I, sizes[frame.pts])
            for frame in file.decode(video=0)
            if frame.pts is not None and frame.time is not None
        }


@pytest.mark.parametrize("kind", ["h264", "h264 with B-frames", "mpeg4 with B-frames"])
def test_frames_carry_what_the_codec_says(kind: str, tmp_path: Path) -> None:
    path = record(tmp_path / "clip", ENCODERS[kind], 4.0)
    expected = truth(path)
    frames = [frame for frame, _ in judged_file(path, Intake("cam", SIZE, make([{"all": {}}])))]
    first_ms = min(expected)
    found = {first_ms + round(1000 * frame.pts_s): (frame.key_frame, frame.packet_bytes) for frame in frames}
    assert found == expected
    assert 1 < sum(key for key, _ in found.values()) < len(found) / 2  # both types are there: this could fail
    assert all(size > 0 for _, size in found.values())


def test_frames_that_were_held_undecoded_carry_it_too(tmp_path: Path) -> None:
    path = record(tmp_path / "clip", ENCODERS["h264 with B-frames"], 8.0)
    expected = set(truth(path).values())
    thrift = Thrift(doze_after_s=0.5, skip_nonref=False)
    intake = Intake("cam", SIZE, make([{"still": {}}]), thrift=thrift)
    frames = [frame for frame, _ in judged_file(path, intake)]
    assert {(frame.key_frame, frame.packet_bytes) for frame in frames} <= expected
    assert len(frames) > 10


def test_a_drained_decoder_forgets_the_sizes(tmp_path: Path) -> None:
    path = record(tmp_path / "clip", ENCODERS["h264 with B-frames"], 1.0)
    capture = open_capture(CaptureConfig(str(path)))
    packet = next(capture.packets())
    (alone,) = capture.decode(packet) + capture.drain()
    assert alone.key_frame
    assert alone.packet_bytes == packet.size_bytes
    (again,) = capture.decode(packet) + capture.drain()
    assert again.packet_bytes == packet.size_bytes
    capture.close()


def test_nothing_is_claimed_of_what_is_not_known() -> None:
    made = picture(0)
    assert (made.packet_bytes, made.key_frame) == (0, False)
    frame = Frame("cam", 0, 0, 0.0, 0.0, made.frame.to_ndarray() if made.frame else None)  # type: ignore[arg-type]
    assert (frame.packet_bytes, frame.key_frame) == (0, False)


def test_a_damaged_picture_is_no_key_frame(tmp_path: Path) -> None:
    path = record(tmp_path / "clip", ENCODERS["h264"], 2.0)
    data = bytearray(path.read_bytes())
    data[len(data) // 3 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
    path.write_bytes(bytes(data))
    capture = open_capture(CaptureConfig(str(path)))
    seen = list(pictures(capture))
    capture.close()
    assert not any(item.key_frame for item in seen if item.frame is None)
