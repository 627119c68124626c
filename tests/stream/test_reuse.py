"""Tokens are made again only for pictures that look different; every camera has its own, and there is an end to it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stream.reuse import Reuse
from stream.types import Frame, VisualTokens


class Tower:
    """Makes tokens that tell pictures apart, and notes what it was shown."""

    def __init__(self) -> None:
        self.shown: list[int] = []  # pictures a call

    def encode(self, images: np.ndarray) -> list[VisualTokens]:
        self.shown.append(len(images))
        return [VisualTokens(torch.full((9, 4), float(image.mean())), (3, 3)) for image in images]


def frame(camera: str, grey: int, index: int = 0, spot: int | None = None) -> Frame:
    """A grey picture, with a small bright or dark `spot` on it."""
    image = np.full((96, 96, 3), grey, np.uint8)
    if spot is not None:
        image[40:44, 40:44] = spot
    return Frame(camera, index, 0, 0.0, 0.0, image)


def test_a_picture_that_is_the_same_is_not_encoded_again() -> None:
    tower, reuse = Tower(), Reuse(below=4.0)
    first = reuse.encode([frame("door", 90)], tower.encode)
    again = reuse.encode([frame("door", 93, 1)], tower.encode)
    assert torch.equal(first[0].feats, again[0].feats)
    assert tower.shown == [1]
    assert (reuse.encoded, reuse.reused) == (1, 1)


def test_slow_change_adds_up_until_it_is_seen() -> None:
    tower, reuse = Tower(), Reuse(below=4.0)
    for grey in range(90, 100):
        reuse.encode([frame("door", grey)], tower.encode)
    assert tower.shown == [1, 1, 1]  # at 90, 94 and 98


@pytest.mark.parametrize("changed", [frame("door", 90, spot=140), frame("door", 60)])
def test_a_small_thing_and_a_lamp_are_change(changed: Frame) -> None:
    tower, reuse = Tower(), Reuse(below=4.0)
    reuse.encode([frame("door", 90)], tower.encode)
    reuse.encode([changed], tower.encode)
    assert tower.shown == [1, 1]


def test_a_batch_gives_what_its_frames_give_one_by_one() -> None:
    batch = [frame("door", 90), frame("yard", 90), frame("door2", 30)]
    later = [frame("door", 90), frame("yard", 120), frame("door2", 31)]
    one, many, tower = Reuse(4.0), Reuse(4.0), Tower()
    for frames in (batch, later):
        together = many.encode(frames, tower.encode)
        alone = [one.encode([item], tower.encode)[0] for item in frames]
        assert all(torch.equal(a.feats, b.feats) for a, b in zip(together, alone, strict=True))
    assert (many.encoded, many.reused) == (one.encoded, one.reused) == (4, 2)


def test_only_the_cameras_seen_last_are_remembered() -> None:
    tower, reuse = Tower(), Reuse(below=4.0, cameras=2)
    for camera in ("a", "b", "a", "c", "a", "b"):
        reuse.encode([frame(camera, 90)], tower.encode)
    assert (reuse.encoded, reuse.reused) == (4, 2)  # `b` left for `c`


def test_what_is_forgotten_is_encoded_again() -> None:
    tower, reuse = Tower(), Reuse(below=4.0)
    reuse.encode([frame("door", 90)], tower.encode)
    reuse.forget()
    reuse.encode([frame("door", 90)], tower.encode)
    assert tower.shown == [1, 1]


def test_values_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="below 0"):
        Reuse(below=0.0)
