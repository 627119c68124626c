"""What a mask hides is in no picture that leaves a camera: not one bit of them depends on it."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from stream.capture import Picture
from stream.clock import Stamp
from stream.doze import OFF
from stream.gate import make
from stream.intake import Intake, Privacy, read_file, walk_file
from stream.mask import GREY, Masks, Polygon
from stream.sight import Sight
from stream.source import Source, SourceConfig
from stream.types import Frame
from tests.fakes import make_video
from tests.stream.footage import ENCODERS, record
from tests.stream.test_source import Watch, until

FORMATS = ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv410p", "yuv411p", "nv12", "gray", "rgb24"]
FINE = 4  # times finer than the source: how the reference draws
PATH = Polygon(((0.0, 0.36), (1.0, 0.36), (1.0, 0.6), (0.0, 0.6)))  # where the person of `footage` walks

shares = st.floats(0, 1, width=32)
polygons = st.builds(
    Polygon, st.lists(st.tuples(shares, shares), min_size=3, max_size=7, unique=True).map(tuple), st.booleans()
)


def drawn(polygon: Polygon, height: int, width: int) -> np.ndarray:
    """By Pillow: bool [H, W], the pixels that are inside in part."""
    image = Image.new("1", (width * FINE, height * FINE))
    ImageDraw.Draw(image).polygon([(x * width * FINE - 0.5, y * height * FINE - 0.5) for x, y in polygon.points], 1)
    fine = np.asarray(image).reshape(height, FINE, width, FINE)
    return fine.any(axis=(1, 3))


def secret(masks: list[Polygon], height: int, width: int) -> np.ndarray:
    """bool [H, W] of the source: what nobody may see."""
    kept = [drawn(mask, height, width) for mask in masks if mask.keep]
    hidden = ~np.any(kept, axis=0) if kept else np.zeros((height, width), bool)
    for mask in masks:
        if not mask.keep:
            hidden |= drawn(mask, height, width)
    return hidden


def noise(kind: str, height: int, width: int, rng: np.random.Generator) -> av.VideoFrame:
    frame = av.VideoFrame(width, height, kind)
    for plane in frame.planes:
        plane.update(rng.integers(0, 256, plane.buffer_size, dtype=np.uint8).tobytes())
    return frame


def otherwise(frame: av.VideoFrame, where: np.ndarray, rng: np.random.Generator) -> av.VideoFrame:
    """`frame` with another content in every sample that reaches into `where`."""
    other = av.VideoFrame(frame.width, frame.height, frame.format.name)
    for number, (old, new) in enumerate(zip(frame.planes, other.planes, strict=True)):
        values = np.frombuffer(old, np.uint8).copy().reshape(-1, old.line_size)
        high, wide = -(-frame.height // old.height), -(-frame.width // old.width)
        touched = np.zeros((old.height * high, old.width * wide), bool)
        touched[: frame.height, : frame.width] = where
        touched = touched.reshape(old.height, high, old.width, wide).any(axis=(1, 3))
        depth = {"rgb24": 3, "nv12": 1 + number}.get(frame.format.name, 1)
        touched = np.repeat(touched, depth, axis=1)
        rows, columns = touched.shape
        part = values[:rows, :columns]
        part[touched] = rng.integers(0, 256, int(touched.sum()), dtype=np.uint8)
        new.update(values.tobytes())
    return other


def taken(frame: av.VideoFrame, masks: list[Polygon], size: tuple[int, int]) -> Frame:
    intake = Intake("cam", size, make([{"all": {}}]), thrift=OFF, privacy=Privacy(masks))
    found = intake.accept(Picture(0.0, frame), lambda *_: Stamp(0, 0.0, 0.0))
    assert found is not None
    return found


@settings(max_examples=40, deadline=None)
@given(
    st.lists(polygons, min_size=1, max_size=3),
    st.sampled_from(FORMATS),
    st.tuples(st.integers(16, 400), st.integers(16, 400)),
    st.tuples(st.integers(4, 120), st.integers(4, 120)),
    st.integers(0, 99),
)
def test_no_bit_of_any_picture_depends_on_what_is_masked(
    masks: list[Polygon], kind: str, source: tuple[int, int], size: tuple[int, int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    one = noise(kind, *source, rng)
    other = otherwise(one, secret(masks, *source), rng)
    first, second = taken(one, masks, size), taken(other, masks, size)
    assert np.array_equal(first.image, second.image)
    assert first.jpeg == second.jpeg
    hidden = secret(masks, *size)
    assert (first.image[hidden] == GREY).all()


@settings(deadline=None)
@given(st.lists(polygons, min_size=1, max_size=3), st.tuples(st.integers(1, 90), st.integers(1, 90)))
def test_the_judge_gets_the_shown_pixels_and_no_others(masks: list[Polygon], size: tuple[int, int]) -> None:
    rasters, source = Masks(masks), (480, 640)
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    visible, shown = image[~rasters.hidden(image, source)], rasters.shown(image, source)
    if shown is None:
        assert not len(visible)
        return
    flat = shown.reshape(-1, 3)
    assert np.array_equal(flat[: len(visible)], visible)
    assert np.array_equal(flat[len(visible) :], visible[: len(flat) - len(visible)])


def test_a_hole_is_shown_and_a_mask_hides_of_what_is_kept_too() -> None:
    image = np.zeros((200, 200, 3), np.uint8)
    ring = Polygon(((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9), (0.1, 0.1), (0.3, 0.3), (0.3, 0.7), (0.7, 0.7)))
    ring = replace(ring, points=(*ring.points, (0.7, 0.3), (0.3, 0.3)))
    hidden = Masks([ring]).hidden(image, (1000, 1000))
    assert hidden[30, 100]
    assert not hidden[100, 100]
    assert not hidden[5, 5]
    kept = Polygon(((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)), keep=True)
    hidden = Masks([kept, Polygon(((0.0, 0.0), (1.0, 0.0), (1.0, 0.4), (0.0, 0.4)))]).hidden(image, (1000, 1000))
    assert hidden[:, 100:].all()
    assert hidden[:80].all()
    assert not hidden[90:, 10:90].any()


def test_without_masks_nothing_is_copied() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    assert Masks().cover(image, (8, 8)) is image
    assert Masks().shown(image, (8, 8)) is image


# -- real files --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def walker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """H.264: a wall, and from second 1 to 5 a person who walks along `PATH`."""
    return record(tmp_path_factory.mktemp("walker") / "walker", ENCODERS["h264"], 6.0, (1.0, 5.0), noise=0.0)


def seen(path: Path, masks: list[Polygon]) -> list[Frame]:
    gate = make([{"still": {"max_gap_s": 60}}])
    return list(read_file(path, Intake("cam", (96, 96), gate, thrift=OFF, privacy=Privacy(masks))))


def test_what_moves_behind_a_mask_wakes_no_gate_and_is_in_no_picture(walker: Path) -> None:
    assert len(seen(walker, [])) > 5
    assert len(seen(walker, [PATH])) == 1
    assert len(seen(walker, [Polygon(PATH.points, keep=True)])) > 5  # the other way round


def test_a_source_hands_out_masked_frames_only(walker: Path) -> None:
    watch = Watch()
    config = SourceConfig("cam", str(walker), (96, 96), loop=False, realtime=False, privacy=Privacy([PATH]))
    source = Source(config, make([{"all": {}}]), watch.frames.append, watch.changes.append)
    source.start()
    until(watch.seen(("offline", "finished")))
    assert source.stop()
    assert len(watch.frames) == 60
    for frame in watch.frames:
        assert (frame.image[35:58] == GREY).all()
        evidence = np.asarray(Image.open(BytesIO(frame.jpeg)).convert("RGB")).astype(int)
        assert np.abs(evidence[72:112] - GREY).max() <= 2  # it is a JPEG
        assert np.ptp(frame.image[:25]) > 50  # the rest is there


def test_a_camera_without_pictures_hands_out_frames_without_evidence(walker: Path) -> None:
    intake = Intake("cam", (96, 96), make([{"all": {}}]), thrift=OFF, privacy=Privacy(pictures=False))
    frames = list(read_file(walker, intake))
    assert len(frames) == 60
    assert not any(frame.thumbnail or frame.jpeg for frame in frames)
    assert all(frame.image.any() for frame in frames)


def test_black_is_judged_by_what_is_shown(tmp_path: Path) -> None:
    """Neither the grey nor a lamp behind the mask makes a dark camera a seeing one."""

    def night(index: int, size: tuple[int, int]) -> np.ndarray:
        image = np.zeros((*size, 3), np.uint8)
        image[: size[0] // 4] = 255 * (index % 2)
        return image

    path = make_video(tmp_path / "night.mp4", 60, draw=night)
    for masks, state in (([], ""), ([Polygon(((0, 0), (1, 0), (1, 0.3), (0, 0.3)))], "black")):
        sight = Sight(2.0, 0.0)
        intake = Intake("cam", (48, 48), make([{"all": {}}]), sight, OFF, Privacy(masks))
        assert len(list(walk_file(path, intake))) == 60
        assert sight.state == state
