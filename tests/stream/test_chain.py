"""Several reducers in order, and the frames before that some of them look back at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from stream.errors import UnknownMethod
from stream.policy import Paper
from stream.reduce import ATTENTION, GRID, Seen
from stream.reduce.chain import Chain, chain
from stream.reduce.dull import Dull
from stream.reduce.m3 import M3
from stream.reduce.none import Nothing
from stream.reduce.uniform import Uniform
from stream.tap import Tap
from stream.types import Frame, VisualTokens


def film(camera: str, count: int, seed: int = 0) -> list[Seen]:
    """Dull frames with a tap; each is a view of one batch, as the encoder's are."""
    feats = torch.randn(count, 16, 4, generator=torch.Generator().manual_seed(seed))
    blank = np.zeros((8, 8, 3), np.uint8)
    taps = {3: Tap.of(*torch.zeros(3, 1, 16, 2))}
    frames = [Frame(camera, index, 0, float(index), float(index), blank) for index in range(count)]
    return [Seen(VisualTokens(own, (4, 4), None, taps), frame) for own, frame in zip(feats, frames, strict=True)]


@dataclass(frozen=True)
class Back(Dull):
    """Notes which frames it was shown; gives the newest's rows plus those of the oldest."""

    shown: list[list[tuple[str, int]]] = field(default_factory=list)
    needs_taps: bool = True  # it stands where the tower's taps still are
    window: ClassVar[int] = 3
    needs: ClassVar[frozenset[str]] = frozenset({ATTENTION})
    paper: ClassVar[Paper] = Paper("", "", "baseline")

    def blocks(self, depth: int) -> tuple[int, ...]:
        return (depth - 1,)

    def shrink(self, seen: Sequence[Seen], budget: int) -> VisualTokens:
        self.shown.append([(own.frame.camera, own.frame.index) for own in seen])
        assert [bool(own.tokens.taps) for own in seen] == [False] * (len(seen) - 1) + [self.needs_taps]
        feats: Tensor = seen[-1].tokens.feats[:budget] + seen[0].tokens.feats[:budget]
        return VisualTokens(feats, (1, budget))


def test_a_method_sees_its_window_and_nothing_after() -> None:
    method = Back(dull=2)
    frames = film("door", 6)
    whole = Chain((method,))
    made = [whole.reduce(own).feats for own in frames]
    assert [[index for _, index in shown] for shown in method.shown] == [
        [0], [0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5],
    ]  # fmt: skip
    other = Chain((Back(dull=2),))
    again = [other.reduce(own).feats for own in frames[:4] + film("door", 2, seed=9)]
    assert all(torch.equal(a, b) for a, b in zip(made[:4], again[:4], strict=True)), "later frames change nothing"
    assert not torch.equal(made[4], again[4])
    assert torch.equal(made[5], frames[5].tokens.feats[:2] + frames[3].tokens.feats[:2])


def test_what_is_kept_of_a_frame_is_a_copy() -> None:
    """A frame's features are a view of its whole batch, and a caller may write over them."""
    frames = film("door", 2)
    whole = Chain((Back(dull=2),))
    before = frames[0].tokens.feats.clone()
    whole.reduce(frames[0])
    frames[0].tokens.feats.zero_()
    assert torch.equal(whole.reduce(frames[1]).feats, frames[1].tokens.feats[:2] + before[:2])


def test_cameras_in_turn_equal_the_cameras_alone() -> None:
    films = [film(camera, 5, seed) for seed, camera in enumerate(("door", "yard"))]
    together = Chain((Back(dull=2), Uniform(dull=1)))
    made = [[together.reduce(own).feats for own in pair] for pair in zip(*films, strict=True)]
    for place, own in enumerate(films):
        alone = Chain((Back(dull=2), Uniform(dull=1)))
        assert all(torch.equal(alone.reduce(one).feats, made[turn][place]) for turn, one in enumerate(own))


def test_the_frames_of_the_camera_seen_longest_ago_are_let_go() -> None:
    method = Back(dull=2)
    whole = Chain((method,), cameras=2)
    for camera in ("door", "yard", "door", "gate", "door", "yard"):
        whole.reduce(film(camera, 1)[0])
    assert [len(shown) for shown in method.shown] == [1, 1, 2, 1, 3, 1], "the gate took the yard's place"


def test_forgetting_forgets_every_camera() -> None:
    method = Back(dull=2)
    whole = Chain((method,))
    for camera in ("door", "yard", "door"):
        whole.reduce(film(camera, 1)[0])
    whole.forget()
    whole.reduce(film("door", 1)[0])
    assert [len(shown) for shown in method.shown] == [1, 1, 2, 1]


def test_reducers_work_in_order_each_over_what_the_one_before_left() -> None:
    (frame,) = film("door", 1)
    both = Chain((M3(dull=4), Uniform(dull=2))).reduce(frame)
    level = M3(dull=4).reduce([frame]).feats
    assert torch.equal(both.feats, level[[1, 3]])
    twice = Chain((Uniform(dull=8), Uniform(dull=2))).reduce(frame)
    assert twice.places is not None
    assert twice.places.tolist() == [5, 13], "places are those of the whole frame"
    assert torch.equal(twice.feats, frame.tokens.feats[twice.places])


def test_a_window_holds_what_the_reducer_before_gave() -> None:
    method = Back(dull=2, needs_taps=False)
    frames = film("door", 2)
    whole = Chain((M3(dull=4), method))
    made = [whole.reduce(own) for own in frames]
    levels = [M3(dull=4).reduce([own]).feats for own in frames]
    assert torch.equal(made[1].feats, levels[1][:2] + levels[0][:2])


def test_no_reducer_and_nothing_keep_a_frame_as_it_is() -> None:
    (frame,) = film("door", 1)
    assert Chain().reduce(frame) is frame.tokens
    assert Chain((Nothing(), M3())).reduce(frame) is not frame.tokens
    assert Chain((Nothing(), M3(dull=0))).reduce(frame) is frame.tokens
    assert Nothing.leaves == {GRID, ATTENTION}


def test_blocks_are_those_of_all_methods_in_order() -> None:
    @dataclass(frozen=True)
    class First(Back):
        def blocks(self, depth: int) -> tuple[int, ...]:
            return (1, 3)

    assert Chain((Back(), First(), Back())).blocks(26) == (1, 3, 25)
    assert Chain((M3(),)).blocks(26) == ()


def test_a_chain_is_made_from_maps() -> None:
    assert chain([{"m3": {"dull": 4}}, {"uniform": {"dull": 2}}]).methods == (M3(dull=4), Uniform(dull=2))
    assert chain([]).methods == ()
    with pytest.raises(UnknownMethod, match="did you mean 'uniform'"):
        chain([{"m3": {}}, {"unifrom": {}}])
