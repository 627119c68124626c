"""Reducers against numbers that the authors' own code gave on the same arrays: tests/golden/parity/model.reduce.json.

The file names each repository and commit. Its arrays are drawn here again; none of the authors' code is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from stream.reduce.fastervlm import attended, vispruner
from stream.reduce.hiprune import hierarchy
from stream.reduce.m3 import pool
from stream.reduce.recoverable import merge, split

FILE = Path(__file__).parents[1] / "golden" / "parity" / "model.reduce.json"


def drawn(start: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(start).standard_normal(shape)).float()


def shares(start: int, *shape: int) -> Tensor:
    return (3 * drawn(start, *shape)).softmax(-1)


def cls_row(start: int, count: int, wide: int) -> tuple[Tensor, Tensor]:
    """A query's attention [count] over keys [count, wide], rising; a CLS key of 0 takes its part of the softmax.

    Rising, because the release looks up keys by the wrong index, but for tokens that stand after all that stay.
    """
    query, keys = 2 * drawn(start, wide), drawn(start + 1, count, wide)
    keys = keys[(keys @ query).argsort()]
    logits = torch.cat((torch.zeros(1), keys @ query * wide**-0.5))
    return logits.softmax(0)[1:], keys


def seed(case: dict[str, Any]) -> str:
    return str(case["seed"])


def cases(name: str) -> list[Any]:
    found: list[Any] = json.loads(FILE.read_text(encoding="utf-8"))[name]["cases"]
    return found


@pytest.mark.parametrize("case", cases("fastervlm"), ids=seed)
def test_fastervlm(case: dict[str, Any]) -> None:
    assert attended(shares(case["seed"], 4, case["n"]), case["count"]).tolist() == case["places"]


@pytest.mark.parametrize("case", cases("vispruner"), ids=seed)
def test_vispruner(case: dict[str, Any]) -> None:
    attention, feats = shares(case["seed"], 4, case["n"]), drawn(case["seed"] + 1, case["n"], 16)
    assert vispruner(attention, feats, case["count"], case["important"]).tolist() == case["places"]


@pytest.mark.parametrize("case", cases("hiprune"), ids=seed)
def test_hiprune(case: dict[str, Any]) -> None:
    middle, deep = shares(case["seed"], 2, 577)[:, 1:]
    assert hierarchy(middle, deep, case["count"], 24, case["alpha"]).tolist() == case["places"]


@pytest.mark.parametrize("case", cases("m3"), ids=seed)
def test_m3(case: dict[str, Any]) -> None:
    found = pool(drawn(case["seed"], case["n"], 2), case["scale"])
    torch.testing.assert_close(found, torch.tensor(case["feats"]), rtol=0, atol=2e-5)


@pytest.mark.parametrize("case", cases("recoverable"), ids=seed)
def test_recoverable(case: dict[str, Any]) -> None:
    wide = 32
    scores, keys = cls_row(case["seed"], 96, wide)
    feats = drawn(case["seed"] + 2, 96, wide)
    stay, centres = split(scores, wide)
    found = merge(feats, scores, keys, stay, centres)
    torch.testing.assert_close(found[:, :4], torch.tensor(case["feats"]), rtol=0, atol=2e-5)
