"""`bench/doless.py`: what it calls a loss is one, what it calls reduced was, and rows are what their names say."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stream.encoder import Encoder
from stream.reduce.m3 import M3
from stream.stages import Recorder
from stream.types import Frame
from tests.models import make_encoder, random_model


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).resolve().parents[2] / "bench")
        yield importlib.import_module("doless")
    torch.set_num_threads(1)


def frame(score: float) -> Frame:
    return Frame("street", 0, 0, 0.0, 0.0, np.zeros((4, 4, 3), np.uint8), score=score)


def test_a_loss_counts_the_same_question_under_both(bench: Any) -> None:
    plain, other = [True, True, True, False], [True, False, False, True]
    found = bench.loss(plain, other)
    assert (found["loss"], found["lost"], found["won"]) == (25.0, 2, 1)
    assert bench.loss(plain, plain) == {"loss": 0.0, "within": 0.0, "lost": 0, "won": 0}
    many = bench.loss([True] * 400, [True] * 380 + [False] * 20)
    assert many["loss"] == 5.0
    assert 2.0 < many["within"] < 2.3  # 1.96 sqrt(0.05 * 0.95 / 400)


def test_every_row_has_its_saving_and_names_are_unique(bench: Any) -> None:
    plain = make_encoder(random_model())
    made: dict[str, Encoder] = {item.name: item.encoder(plain) for item in bench.SETTINGS}
    assert len(made) == len(bench.SETTINGS)
    assert made[bench.AS_IS] == plain
    assert made["m3, below 3"].reduce.methods == (M3(dull=1, below=3.0),)
    assert made["reuse, below 6"].reuse is not None
    assert made["reuse, below 6"].reuse is not bench.SETTINGS[1].encoder(plain).reuse, "every row has its own"
    assert {item.kin for item in bench.SETTINGS} <= set(made)
    assert [item.system for item in bench.SETTINGS if item.system] == ["hybrid", "detail2", "detail1", "carriers"]


@pytest.mark.parametrize(
    ("name", "reduced"),
    [("as it is", [False, False, False]), ("m3, below 1", [True, False, False]), ("m3, below 3", [True, True, False])],
)
def test_a_frame_is_reduced_when_its_score_says_so(bench: Any, name: str, reduced: list[bool]) -> None:
    (item,) = (item for item in bench.SETTINGS if item.name == name)
    assert [item.reduces(frame(score)) for score in (0.3, 1.5, 3.0)] == reduced


def test_costs_are_those_of_the_newest_frame(bench: Any) -> None:
    recorder = Recorder()
    for lasted_ms in (5, 7):
        with recorder.span("frame"):
            for stage in ("tower", "language"):
                recorder.note(stage, 0, lasted_ms * 1_000_000)
    found = bench.by_stage(recorder)
    assert (found["tower"], found["language"]) == (7.0, 7.0)


def test_every_other_picture_repeats_the_one_before(bench: Any) -> None:
    made = list(bench.frames(8, 4))
    assert [item.score for item in made] == [10.0, 0.0, 10.0, 0.0]
    assert (made[0].image == made[1].image).all()
    assert (made[1].image != made[2].image).any()
