"""Published gates: what each one's description names, by hand-made pictures, brute force and real files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.errors import ConfigError
from stream.gate import MAX_GAP, Gate, make
from stream.gate.codes import Codes, distances, grow
from stream.gate.grt import Grt, Patches, l2_change, pixels, ssim_change
from stream.gate.kffocus import KfFocus, growth
from stream.gate.novelty import Novelty, describe, remember
from stream.intake import Intake, judged_file
from stream.types import Frame
from tests.fakes import as_frame
from tests.stream.footage import ENCODERS, record

SIDE = 56  # 4 x 4 patches


def plain(grey: float, side: int = SIDE) -> np.ndarray:
    return np.full((side, side, 3), round(grey), np.uint8)


def textured(seed: int, side: int = 96, cells: int = 8) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(20, 230, (cells, cells, 3))
    return np.kron(coarse, np.ones((side // cells, side // cells, 1))).astype(np.uint8)


def ratio(gate: Grt, images: list[np.ndarray]) -> list[float]:
    """Share of patches that are read anew, frame by frame."""
    shares = []
    for at, image in enumerate(images):
        gate.judge(as_frame(image, float(at), at))
        assert gate.moving is not None
        shares.append(float(gate.moving.mean()))
    return shares


def kept(gate: Gate, images: list[np.ndarray], step_s: float = 1.0) -> list[int]:
    return [at for at, image in enumerate(images) if gate.judge(as_frame(image, at * step_s, at)).keep]


# --- grt: the authors' own invariants (policy all, equal frames, drift, refresh), and the formula


def test_grt_policy_all_reads_everything() -> None:
    images = [textured(seed, SIDE) for seed in range(4)]
    assert ratio(Grt(policy="all"), images) == [1.0] * 4
    assert ratio(Grt(threshold=-1.0), [images[0]] * 4) == [1.0] * 4


def test_grt_equal_frames_are_read_once() -> None:
    assert ratio(Grt(), [textured(0, SIDE)] * 4) == [1.0, 0.0, 0.0, 0.0]  # 0.25 of all


def test_grt_drift_is_measured_from_what_was_read() -> None:
    """Each step is under the threshold, two of them are over it: every other frame is read."""
    images = [plain(100 + 4 * at) for at in range(5)]
    step = 4 / 127.5 * 588**0.5
    assert ratio(Grt(metric="l2", threshold=1.5 * step, share=0.0), images) == [1.0, 0.0, 1.0, 0.0, 1.0]


def test_grt_refreshes_every_nth_frame() -> None:
    gate = Grt(refresh_every=3)
    assert ratio(gate, [textured(0, SIDE)] * 8) == [1.0, 0, 0, 1.0, 0, 0, 1.0, 0]


def test_grt_only_the_patches_under_a_moving_square_move() -> None:
    gate, before, after = Grt(share=0.0), plain(90), plain(90)
    after[14:28, 28:42] = 200
    assert ratio(gate, [before, after]) == [1.0, 1 / 16]
    assert gate.moving is not None
    assert gate.moving.nonzero()[0].tolist() == [6]
    after[14:28, 20:34] = 200  # back over two patches
    gate.judge(as_frame(after, 2.0, 2))
    assert gate.moving.nonzero()[0].tolist() == [5]


def test_grt_a_frame_that_is_skipped_is_no_source() -> None:
    """One patch after the other changes for good: each alone is too little, the third makes it enough."""
    images = [plain(90)]
    for patch in range(4):
        image = images[-1].copy()
        image[:14, 14 * patch : 14 * patch + 14] = 200
        images.append(image)
    assert kept(Grt(share=3 / 16), images) == [0, 3]


def by_hand(now: np.ndarray, before: np.ndarray) -> float:
    """1 - SSIM of two patches of pixels in [-1, 1], in double precision, as the formula is printed."""
    x, y = now.astype(np.float64), before.astype(np.float64)
    reach = max(x.max() - x.min(), y.max() - y.min(), 1.0)
    small, large = (0.01 * reach) ** 2, (0.03 * reach) ** 2
    covariance = ((x - x.mean()) * (y - y.mean())).mean()
    top = (2 * x.mean() * y.mean() + small) * (2 * covariance + large)
    return float(min(2, max(0, 1 - top / ((x.mean() ** 2 + y.mean() ** 2 + small) * (x.var() + y.var() + large)))))


@given(st.integers(0, 10_000), st.sampled_from([1.0, 5.0, 60.0]))
@settings(max_examples=30, deadline=None)
def test_grt_differences_are_the_formulas(seed: int, noise: float) -> None:
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 256, (28, 42, 3)).astype(float) * rng.uniform(0, 1)
    first, second = (np.clip(base + rng.normal(0, noise, base.shape), 0, 255).astype(np.uint8) for _ in range(2))
    now, before = pixels(second), pixels(first)
    assert now.shape == (6, 588)
    row, column = 1, 2
    cut = second[14 * row : 14 * row + 14, 14 * column : 14 * column + 14] / 127.5 - 1
    assert np.allclose(now[3 * row + column], cut.reshape(-1), atol=1e-6)
    expected = [by_hand(x, y) for x, y in zip(now, before, strict=True)]
    assert np.allclose(ssim_change(Patches.of(now), Patches.of(before)), expected, atol=1e-4)
    norms = np.linalg.norm(now.astype(np.float64) - before, axis=1)
    assert np.allclose(l2_change(Patches.of(now), Patches.of(before)), norms, rtol=1e-4)


# --- kffocus


def packets(frames: list[tuple[np.ndarray, bool, int]]) -> list[str]:
    """The verdicts' reasons over (picture, is it I, bytes), ten a second."""
    gate = KfFocus(max_gap_s=6.0)
    return [
        gate.judge(replace(as_frame(image, at / 10, at), key_frame=key, packet_bytes=size)).reason
        for at, (image, key, size) in enumerate(frames)
    ]


def group(image: np.ndarray, sizes: list[int]) -> list[tuple[np.ndarray, bool, int]]:
    return [(image, True, 20_000), *((image, False, size) for size in sizes)]


USUAL = [900, 1000, 1100, 1000, 950, 1050, 1000, 1000, 980]


def test_kffocus_a_still_stream_has_one_key_frame_a_gap_however_many_i_pictures_it_has() -> None:
    reasons = packets(group(textured(0), USUAL) * 13)  # 13 s
    assert [at for at, reason in enumerate(reasons) if reason != "still"] == [0, 60, 120]
    assert [reasons[at] for at in (0, 60, 120)] == ["kept", MAX_GAP, MAX_GAP]


def test_kffocus_a_large_packet_is_a_key_frame_at_once() -> None:
    frames = group(textured(0), USUAL) * 3
    frames[25] = (frames[25][0], False, 4000)
    assert packets(frames)[25] == "kept"
    assert packets(frames).count("kept") == 2


def test_kffocus_small_b_pictures_do_not_make_p_pictures_large() -> None:
    assert packets(group(textured(0), [200, 180, 1000, 210, 190, 1100, 200, 200, 1000]) * 5).count("kept") == 1


@pytest.mark.parametrize("size", [0, 20_000])
def test_kffocus_a_cut_without_evidence_or_at_an_i_picture_is_seen_in_the_picture(size: int) -> None:
    """No packet is known, or it is an I picture, large as ever: then the pictures are compared."""
    frames = [(textured(0), size > 0, size)] * 10 + [(textured(1), size > 0, size)] * 10
    reasons = packets(frames)
    assert [at for at, reason in enumerate(reasons) if reason == "kept"] == [0, 10]


def test_growth_is_against_the_median_of_the_larger_third() -> None:
    assert growth(600, [100, 100, 100, 100, 200, 300]) == 600 / 250
    assert growth(50, [100]) == 0.5


@pytest.mark.parametrize(("kind", "ratio"), [("h264", 1.4), ("h264 with B-frames", 2.0)])
def test_kffocus_finds_who_passes_in_a_real_file(kind: str, ratio: float, tmp_path: Path) -> None:
    path = record(tmp_path / "clip", ENCODERS[kind], 9.0, passes=(6.0, 7.5), noise=0.2)
    gate = make([{"kffocus": {"max_gap_s": 1000.0, "ratio": ratio}}])
    times = [frame.pts_s for frame, verdict in judged_file(path, Intake("cam", (96, 96), gate)) if verdict.keep]
    assert times[0] == 0.0
    assert all(5.9 <= at <= 8.0 for at in times[1:])
    assert any(at <= 6.6 for at in times[1:])


# --- codes


def test_codes_equal_frames_change_nothing_and_a_moved_square_only_its_places() -> None:
    gate, before, after = Codes(), textured(0), textured(0)
    after[48:60, 48:60] = 0
    frames = [as_frame(image, float(at), at) for at, image in enumerate([before, before, after])]
    assert [gate.judge(frame).score for frame in frames] == [1.0, 0.0, 9 / 576]


def test_codes_light_and_noise_are_no_change_but_slow_movement_adds_up() -> None:
    rng = np.random.default_rng(0)
    noisy = [np.clip(textured(0) + rng.normal(0, 3, (96, 96, 3)), 0, 255).astype(np.uint8) for _ in range(20)]
    assert kept(Codes(), noisy) == [0]
    darker = [(textured(0) * (1 - 0.004 * at)).astype(np.uint8) for at in range(10)]
    assert kept(Codes(), darker) == [0]
    fading = [plain(200, 96) for _ in range(10)]
    for at, image in enumerate(fading):
        image[40:60, 10:30] = 100 + 5 * at
    assert kept(Codes(reach=12.0), fading) == [0, 3, 6, 9]  # steps of 5 grey levels: the third is over 12


def test_codes_the_book_is_bounded_and_covers_what_it_can() -> None:
    x = np.random.default_rng(0).uniform(0, 255, (300, 12)).astype(np.float32)
    for size in (1, 4, 50, 400):
        book = grow(x[:1], x, 20.0, size, np.zeros(0, np.int64))
        assert len(book) <= size
        if size == 400:
            assert distances(x, book).min(1).max() <= 20.1
    errors = [
        float(distances(x, grow(x[:1], x, 0.0, size, np.zeros(0, np.int64))).min(1).mean()) for size in (2, 8, 32, 128)
    ]
    assert errors == sorted(errors, reverse=True)  # the error falls as the book grows
    few = x[[0, 1, 2] * 20]
    assert {tuple(row) for row in grow(few[:1], few, 1.0, 8, np.zeros(0, np.int64))} == {tuple(row) for row in x[:3]}


def test_codes_in_use_are_not_taken_from_a_full_book() -> None:
    book = np.eye(12, dtype=np.float32)[:3] * 100
    x = np.full((1, 12), 200, np.float32)
    grown = grow(book, x, 10.0, 3, np.array([0, 2]))
    assert np.array_equal(grown[[0, 2]], book[[0, 2]])
    assert np.array_equal(grown[1], x[0])
    assert np.array_equal(grow(book, x, 10.0, 3, np.arange(3)), book)


# --- novelty


def test_novelty_a_view_that_comes_back_is_not_new() -> None:
    views = [textured(seed) for seed in (0, 1, 0, 1, 2, 0, 2, 1)]
    assert kept(Novelty(), views) == [0, 1, 4]


def test_novelty_forgets_with_a_memory_of_one() -> None:
    views = [textured(seed) for seed in (0, 1, 0, 0, 1)]
    assert kept(Novelty(memory=1), views) == [0, 1, 2, 4]


def test_novelty_ignores_noise_and_brightness() -> None:
    rng = np.random.default_rng(1)
    noisy = [np.clip(plain(90, 96) + rng.normal(0, 4, (96, 96, 3)), 0, 255).astype(np.uint8) for _ in range(10)]
    assert kept(Novelty(), noisy) == [0]
    assert kept(Novelty(), [plain(grey, 96) for grey in (90, 120, 200)]) == [0]
    assert kept(Novelty(), [textured(0), plain(0, 96)]) == [0, 1]  # but the lamp goes out


@given(st.integers(0, 10_000), st.integers(2, 8))
@settings(max_examples=40, deadline=None)
def test_novelty_remembers_the_most_diverse(seed: int, size: int) -> None:
    """Brute force: no other row but the new one could leave a larger least distance behind."""
    rows = np.random.default_rng(seed).normal(size=(size + 1, 4))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    found = remember(rows[:-1], rows[-1], size)
    assert found.shape == (size, 4)
    assert np.array_equal(found[-1], rows[-1])

    def least(chosen: np.ndarray) -> float:
        apart = 1 - chosen @ chosen.T
        np.fill_diagonal(apart, np.inf)
        return float(apart.min())

    best = max(least(np.delete(rows, row, axis=0)) for row in range(size))
    assert least(found) == pytest.approx(best, abs=1e-9)


def test_novelty_memory_never_grows_beyond_its_size() -> None:
    gate = Novelty(memory=5, least=1e-4)
    for at in range(40):
        gate.judge(as_frame(textured(at), float(at), at))
    known = gate._known
    assert known is not None
    assert known.shape == (5, len(describe(textured(0))))


# --- all of them

GATES = ["grt", "kffocus", "codes", "novelty"]


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("size", [(384, 384), (48, 48), (14, 20), (5, 7), (1, 1), (1, 40)])
def test_any_size_and_a_change_of_size(name: str, size: tuple[int, int]) -> None:
    gate = make([{name: {}}])
    verdicts = []
    for at, (height, width) in enumerate([size, size, (96, 96), (96, 96), size]):
        image = np.full((height, width, 3), 77, np.uint8)
        verdicts.append(gate.judge(as_frame(image, float(at), at)))
    assert [verdict.keep for verdict in verdicts[:2]] == [True, False]
    assert not verdicts[3].keep
    assert all(np.isfinite(verdict.score) for verdict in verdicts)


@pytest.mark.parametrize("name", [*GATES, "still"])
@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_no_gap_is_longer_than_it_may_be(name: str, noise: float) -> None:
    rng = np.random.default_rng(0)
    gate, times = make([{name: {"max_gap_s": 3.0}}]), []
    for at in range(100):
        image = np.clip(textured(0) + rng.normal(0, noise, (96, 96, 3)), 0, 255).astype(np.uint8)
        if gate.judge(as_frame(image, at * 0.25, at)).keep:
            times.append(at * 0.25)
    assert max(np.diff(times)) <= 3.0
    if not noise:
        assert times == [3.0 * number for number in range(9)]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("grt", {"metric": "l3"}), ("grt", {"policy": "some"}), ("grt", {"share": 2.0}), ("grt", {"refresh_every": -1}),
        ("kffocus", {"ratio": 1.0}), ("kffocus", {"window": 2}), ("codes", {"codes": 0}), ("codes", {"reach": 0.0}),
        ("novelty", {"least": 0.0}), ("novelty", {"memory": 0}), ("novelty", {"max_gap_s": 0.0}),
    ],
)  # fmt: skip
def test_values_that_make_no_sense_are_refused(name: str, options: dict[str, Any]) -> None:
    (option,) = options
    with pytest.raises(ConfigError, match=option):
        make([{name: options}])


def test_a_frame_is_not_looked_at_before_its_turn() -> None:
    """A chain of a stride and a picture's gate: the second sees only what the first lets through."""
    gate = make([{"stride": {"fps": 1}}, {"grt": {}}])
    frames: list[Frame] = [as_frame(textured(at % 2), at / 10, at) for at in range(21)]
    assert [at for at, frame in enumerate(frames) if gate.judge(frame).keep] == [0]  # 0, 10, 20 show the same
