"""Tokens are made again only for pictures that look different; every camera has its own, and there is an end to it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from stream.reuse import Reuse
from stream.types import Frame, VisualTokens


def see(reuse: Reuse, frames: list[Frame]) -> list[Tensor]:
    """The tokens of `frames`, made by a tower that tells their brightness."""
    found = []
    for item in frames:
        tokens = reuse.find(item)
        if tokens is None:
            tokens = VisualTokens(torch.full((9, 4), float(item.image.mean())), (3, 3))
            reuse.keep(item, tokens)
        found.append(tokens.feats)
    return found


def frame(camera: str, grey: int, index: int = 0, spot: int | None = None) -> Frame:
    """A grey picture, with a small bright or dark `spot` on it."""
    image = np.full((96, 96, 3), grey, np.uint8)
    if spot is not None:
        image[40:44, 40:44] = spot
    return Frame(camera, index, 0, 0.0, 0.0, image)


def test_a_picture_that_is_the_same_is_not_encoded_again() -> None:
    reuse = Reuse(below=4.0)
    first, again = see(reuse, [frame("door", 90), frame("door", 93, 1)])
    assert torch.equal(first, again)
    assert (reuse.encoded, reuse.reused) == (1, 1)


def test_slow_change_adds_up_until_it_is_seen() -> None:
    reuse = Reuse(below=4.0)
    shown = [int(tokens[0, 0]) for tokens in see(reuse, [frame("door", grey) for grey in range(90, 100)])]
    assert shown == [90] * 4 + [94] * 4 + [98] * 2


@pytest.mark.parametrize("changed", [frame("door", 90, spot=140), frame("door", 60)])
def test_a_small_thing_and_a_lamp_are_change(changed: Frame) -> None:
    reuse = Reuse(below=4.0)
    see(reuse, [frame("door", 90), changed])
    assert (reuse.encoded, reuse.reused) == (2, 0)


def test_every_camera_has_its_own() -> None:
    both, door = Reuse(4.0), Reuse(4.0)
    greys = (90, 91, 120, 121)
    mixed = see(both, [frame(name, grey) for grey in greys for name in ("door", "yard")])
    alone = see(door, [frame("door", grey) for grey in greys])
    assert all(torch.equal(one, other) for one, other in zip(mixed[::2], alone, strict=True))
    assert (both.encoded, both.reused) == (4, 4)


def test_only_the_cameras_seen_last_are_remembered() -> None:
    reuse = Reuse(below=4.0, cameras=2)
    see(reuse, [frame(camera, 90) for camera in "abacab"])
    assert (reuse.encoded, reuse.reused) == (4, 2)  # `b` left for `c`


def test_a_batch_of_more_cameras_than_are_remembered_is_encoded() -> None:
    reuse = Reuse(below=4.0, cameras=1)
    batch = [frame("a", 90), frame("b", 90)]
    assert [reuse.find(item) for item in batch] == [None, None]
    for item in batch:
        reuse.keep(item, VisualTokens(torch.zeros(9, 4), (3, 3)))
    assert reuse.find(batch[1]) is not None
    assert reuse.find(batch[0]) is None


def test_a_picture_whose_encoding_failed_has_no_tokens() -> None:
    reuse = Reuse(below=4.0)
    assert reuse.find(frame("door", 90)) is None
    assert reuse.find(frame("door", 90)) is None


def test_what_is_kept_does_not_change_with_what_was_given() -> None:
    reuse, given = Reuse(below=4.0), torch.zeros(2, 9, 4)
    reuse.find(frame("door", 90))
    reuse.keep(frame("door", 90), VisualTokens(given[0], (3, 3)))
    given += 1
    found = reuse.find(frame("door", 90))
    assert found is not None
    assert not found.feats.any()


def test_what_is_forgotten_is_encoded_again() -> None:
    reuse = Reuse(below=4.0)
    see(reuse, [frame("door", 90)])
    reuse.forget()
    see(reuse, [frame("door", 90)])
    assert (reuse.encoded, reuse.reused) == (2, 0)


def test_values_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="below 0"):
        Reuse(below=0.0)
