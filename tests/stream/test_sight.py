"""What is called black and frozen, and, above all, what is not."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.picture import Scaler
from stream.sight import BLACK, FROZEN, Sight, black
from stream.train.script import Style
from stream.train.world import Street
from tests.fakes import CLIPS, make_video, needs_clips

SIDE = 96
RNG = np.random.default_rng(5)


def flat(level: float, spread: float = 0.0, side: int = SIDE) -> np.ndarray:
    """One level all over, with a sensor's noise."""
    image = np.full((side, side, 3), level) + spread * RNG.standard_normal((side, side, 3))
    return image.clip(0, 255).astype(np.uint8)


def noisy(count: int) -> Iterator[np.ndarray]:
    """A still scene of which no two pictures are the same."""
    return (flat(90.0, 3.0) for _ in range(count))


def told(sight: Sight, images: Iterable[np.ndarray], fps: float = 5.0, from_s: float = 0.0) -> list[tuple[float, str]]:
    """When the state changed, and to what, for pictures that come `fps` times a second."""
    changes, before = [], sight.state
    for number, image in enumerate(images):
        if (state := sight.look(image, from_s + number / fps)) != before:
            changes.append((sight.since_s, state))
            before = state
    return changes


def clip(path: Path, side: int = SIDE) -> tuple[list[np.ndarray], float]:
    """The pictures of a file as the model gets them, and their rate."""
    scaler = Scaler((side, side))
    with av.open(str(path)) as file:
        fps = float(file.streams.video[0].average_rate or 10)
        return [scaler.rgb(picture) for picture in itertools.islice(file.decode(video=0), 600)], fps


@pytest.mark.parametrize("side", [96, 224, 384])
@pytest.mark.parametrize(("level", "spread"), [(0, 0), (3, 0), (16, 0), (16, 2), (5, 8), (18, 4)])
def test_a_picture_without_light_is_black(level: float, spread: float, side: int) -> None:
    assert black(flat(level, spread, side))


def test_the_least_that_can_be_seen_is_not_black() -> None:
    lamp = flat(3, 2)
    lamp[40:42, 70:72] = 120
    outline = flat(4, 3)
    outline[48:] = flat(12, 3)[48:]
    grey = flat(40, 2)
    for image in (lamp, outline, grey, flat(255)):
        assert not black(image)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (7, 300), (97, 131), (385, 383)])
def test_any_size_of_picture_is_judged(size: tuple[int, int]) -> None:
    assert black(np.zeros((*size, 3), np.uint8))
    assert not black(np.full((*size, 3), 60, np.uint8))


def test_a_covered_lens_is_told_from_its_first_picture_to_the_first_good_one() -> None:
    covered = [flat(4, 3) for _ in range(30)]
    images = [*noisy(20), *covered, *noisy(20)]
    assert told(Sight(), images) == [(4.0, BLACK), (10.0, "")]
    assert told(Sight(black_after_s=0), images) == []
    assert told(Sight(black_after_s=20), images) == []


def test_a_lit_moment_shorter_than_the_limit_is_no_black() -> None:
    blinks = [flat(2, 1) if number % 10 else flat(90, 3) for number in range(100)]
    assert told(Sight(), blinks) == []


def test_a_picture_at_the_limit_does_not_come_and_go() -> None:
    dusk = [flat(20 + 2 * np.sin(number), 1) for number in range(300)]
    assert len(told(Sight(), [*noisy(5), *dusk])) <= 1


def test_a_dead_sensor_is_black_and_not_frozen() -> None:
    assert told(Sight(), [*noisy(200), *[flat(0)] * 1000]) == [(40.0, BLACK)]


def test_an_encoder_that_hangs_is_told_soon_where_there_is_noise() -> None:
    stuck = flat(90, 3)
    images = [*noisy(200), stuck, *[stuck] * 100, *noisy(20)]
    assert told(Sight(), images) == [(pytest.approx(40.2), FROZEN), (pytest.approx(60.2), "")]
    again = [*images, *noisy(200), *[stuck] * 150]
    assert told(Sight(), again)[2:] == [(pytest.approx(104.4), FROZEN)]
    assert told(Sight(frozen_after_s=0), images) == []
    assert told(Sight(frozen_after_s=600), images) == []


def test_a_stop_of_a_few_pictures_is_not_frozen() -> None:
    assert told(Sight(), itertools.chain.from_iterable([image] * 20 for image in noisy(60))) == []


@pytest.mark.parametrize("fps", [0.2, 1.0, 30.0])
def test_a_picture_that_never_changed_is_not_frozen(fps: float) -> None:
    card = flat(90, 30)
    assert told(Sight(), [card] * 3000, fps) == []


def test_pages_that_are_turned_are_not_frozen() -> None:
    pages = itertools.cycle(list(noisy(4)))
    shown = itertools.chain.from_iterable([next(pages)] * 100 for _ in range(20))  # 10 s each
    assert told(Sight(), [*shown, *[next(pages)] * 3000], 10.0) == []


def moving(count: int, step: int = 1) -> Iterator[np.ndarray]:
    """A block that moves over a drawn scene: most of it is the same all the time."""
    for number in range(count):
        image = np.full((SIDE, SIDE, 3), 90, np.uint8)
        at = number * step % (SIDE - 8)
        image[40:48, at : at + 8] = 200
        yield image


def test_a_clean_scene_is_given_a_minute() -> None:
    images = list(moving(600))
    assert told(Sight(), [*images, *[images[-1]] * 290]) == []  # 58 s
    assert told(Sight(), [*images, *[images[-1]] * 310]) == [(120.0, FROZEN)]


def test_a_quiet_clean_scene_may_stay_still_for_ever() -> None:
    pulse = list(moving(10))
    quiet = itertools.chain.from_iterable([*pulse, *[pulse[-1]] * 240] for _ in range(20))  # 2 s in 50
    assert told(Sight(), [*quiet, *[pulse[-1]] * 3000]) == []


def test_the_clock_may_be_set_while_a_picture_repeats() -> None:
    sight = Sight()
    told(sight, noisy(200))
    stuck = flat(90, 3)
    assert [sight.look(stuck, at_s) for at_s in (40.0, 40.2, 7240.0, 7240.2)] == [""] * 4


def test_after_a_time_without_pictures_it_starts_anew_and_knows_the_camera() -> None:
    sight = Sight()
    stuck = flat(90, 3)
    assert told(sight, [*noisy(200), *[stuck] * 40])[-1][1] == FROZEN
    sight.restart()
    assert sight.state == ""
    assert told(sight, [*noisy(100), *[stuck] * 40], from_s=100.0) == [(pytest.approx(120.2), FROZEN)]


def test_a_limit_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="black_after_s"):
        Sight(black_after_s=-1)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.floats(0.0, 40.0)), max_size=60),
    st.sampled_from([0.0, 3.0]),
    st.sampled_from([0.0, 6.0, 60.0]),
)
def test_what_is_said_is_true_of_the_newest_picture(
    shown: list[tuple[int, float]], black_after_s: float, frozen_after_s: float
) -> None:
    images = [flat(3), flat(18), *noisy(3), flat(255)]
    sight, at_s, before, since_s = Sight(black_after_s, frozen_after_s), 0.0, None, -np.inf
    for number, step_s in shown:
        at_s += step_s + 0.001
        state = sight.look(images[number], at_s)
        assert state != BLACK or (black_after_s and black(images[number]))
        assert state != FROZEN or (frozen_after_s and number == before)
        assert since_s <= sight.since_s <= at_s
        before, since_s = number, sight.since_s


# -- film --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "weather"), [(3, True), (4, True), (5, False)])
def test_a_rendered_street_sees(seed: int, weather: bool) -> None:
    street = Street(seed, 400.0, Style(weather=weather))
    assert told(Sight(), (street.render(at / 2, 48, 48) for at in range(800)), 2.0) == []


def test_a_looped_film_sees(tmp_path: Path) -> None:
    images, fps = clip(make_video(tmp_path / "a.mp4", frames=60))
    assert told(Sight(), images * 30, fps) == []


def test_still_parts_that_an_encoder_skips_are_not_frozen(tmp_path: Path) -> None:
    """A noisy, still scene at so low a rate that only key frames, every 8 s, differ."""
    path, scene = tmp_path / "low.mp4", flat(90, 40, 192)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=Fraction(5), options={"preset": "veryfast", "crf": "40", "g": "40"})
        stream.width = stream.height = 192
        for number in range(500):
            noise = np.random.default_rng(number).normal(0, 1.5, scene.shape)
            image = (scene + noise).clip(0, 255).astype(np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode(None))
    images, fps = clip(path)
    assert sum(np.array_equal(a, b) for a, b in itertools.pairwise(images)) > 250, "nothing was skipped"
    assert told(Sight(), images * 3, fps) == []
    into_night = told(Sight(), [*noisy(200), *images], fps)
    assert len([state for _, state in into_night if state]) <= 1  # from a noisy day: it learns from its first mistake


@needs_clips
def test_real_clips_see_and_hang() -> None:
    for path in sorted(CLIPS.glob("*.mp4")):
        images, fps = clip(path)
        loops = 1 + int(90 * fps / len(images))
        assert told(Sight(), images * loops, fps) == [], path.name
        lit = len(images) * loops / fps
        hung = told(Sight(), [*images * loops, *[images[-1]] * int(70 * fps)], fps)
        assert [state for _, state in hung] == [FROZEN], path.name
        assert lit - 1.0 < hung[0][0] < lit + 0.3, path.name  # the last pictures of a clip may be equal themselves


@needs_clips
@pytest.mark.parametrize(
    ("share", "dark"), [(1.0, False), (0.3, False), (0.1, False), (0.06, False), (0.01, True), (0.0, True)]
)
def test_a_night_is_not_black_until_nothing_is_left(share: float, dark: bool) -> None:
    images, fps = clip(CLIPS / "night_ir_grass.mp4")
    found = told(Sight(), ((image * share).astype(np.uint8) for image in images), fps)
    assert bool(found) is dark
