"""Recall finds what was planted, spreads what it does not look for, and answers as from memory."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from memory import recall
from memory.recall import Asked, Look
from memory.recall.search import How, Limits, search
from memory.view import MemoryView
from stream.model.llava_onevision import LlavaOnevision
from stream.positions import TABLE as SCHEMES
from stream.types import Pointer
from tests.memory import archives
from tests.memory.archives import opened
from tests.memory.worlds import NOW_S, POINTER, SHAPE, T0, Picks, asked, entry, frames, made, new_bank, without_detail
from tests.models import absorb, make_bank, make_encoder, random_frames, random_model


@pytest.mark.parametrize("scan", [1024, 400])
@pytest.mark.parametrize("pointer", [None, POINTER])
def test_relevance_finds_eight_planted_keys_among_five_hundred(
    tmp_path: Path, pointer: Pointer | None, scan: int
) -> None:
    """Also where pools narrow first: eight are in five of nine minutes."""
    question = asked(pointer)
    assert question.look is not None
    hidden = {17, 18, 101, 230, 231, 232, 377, 444}
    items = [made(frame, "street", T0 + frame) for frame in range(500)]
    for frame in hidden:
        if pointer is None:  # four query heads ask two key heads, at every layer
            items[frame].keys[:] = _towards(question.look.mean.view(2, 2, 2, -1).sum(2))
        else:
            items[frame].keys[1] = _towards(question.look.newest[1, [1, 2]])
    if pointer is not None:
        for frame in (5, 55, 155, 255):  # only the pointer's layer counts
            items[frame].keys[0] = 3 * _towards(question.look.newest[0, [1, 2]])
    bank = new_bank(4, 0, "compact", "street")
    for item in items[-4:]:
        bank.add(item)
    with opened(tmp_path / "archive.sqlite", shape=SHAPE, dtype="float32", thumbnail_px=0) as archive:
        archives.fill(archive, [entry(item, item.span.first_s) for item in items])
        reader = archive.reader()
        while len(list(reader.select("SELECT 1 FROM stale", ()))) > 1:  # what pools do not know yet is read anyhow
            time.sleep(0.01)

        def find(room: int, **spec: dict[str, Any]) -> list[int]:
            how = How(bank.policy.positions, Limits(room, scan))
            return frames(search(recall.make(spec), bank.fork(now_s=NOW_S), question, reader, how))

        assert set(find(8, relevance={"bank": False})) == hidden
        assert set(find(8, diverse={"bank": False, "weight": 0.0})) == hidden
        assert set(find(12, relevance={})) == hidden | {496, 497, 498, 499}, "the bank, and what there is room for"
        clip = find(3, clips={"bank": False})
        assert clip[2] - clip[0] == 2, "a frame and its neighbours"
        assert clip[1] in hidden
        reader.close()


def _towards(queries: torch.Tensor) -> torch.Tensor:
    """Keys [..., Dh] that answer `queries` [..., Dh] strongly."""
    return 12 * queries / queries.norm(dim=-1, keepdim=True)


def test_uniform_spreads_evenly_in_time_however_much_there_is(tmp_path: Path) -> None:
    items = [made(frame, "long", T0 + 20.0 * frame) for frame in range(700)]
    bank = new_bank(4, 0, "compact", "long")
    for item in items[-4:]:
        bank.add(item)
    with opened(tmp_path / "archive.sqlite", shape=SHAPE, dtype="float32", thumbnail_px=0) as archive:
        archives.fill(archive, [entry(item, item.span.first_s) for item in items])
        reader = archive.reader()
        for scan in (40, 1024):
            how = How(bank.policy.positions, Limits(20, scan))
            found = frames(search(recall.make({"uniform": {}}), bank.fork(now_s=NOW_S), Asked("?"), reader, how))
            assert len(found) == 20
            assert (found[0], found[-1]) == (0, 699)
            assert max(np.diff(found)) <= 2.2 * 700 / 20
        reader.close()


# -- answers


@pytest.fixture(scope="module")
def model() -> LlavaOnevision:
    return random_model()


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_an_answer_from_bank_and_archive_is_that_of_a_bank_with_these_carriers(
    model: LlavaOnevision, tmp_path: Path, scheme: str
) -> None:
    geo, encoder = model.geometry, make_encoder(model)
    whole = make_bank(model, 64, 2, {"fifo": {}}, scheme)
    small, exact = make_bank(model, 4, 2, {"fifo": {}}, scheme), make_bank(model, 64, 2, {"fifo": {}}, scheme)
    chosen = [1, 2, 5, 8, 9, 11]
    shape = archives.Shape(geo.layers, geo.kv_heads, geo.head_width, geo.width)
    with opened(tmp_path / "archive.sqlite", shape=shape, dtype="float32", thumbnail_px=0) as archive:
        for frame in random_frames(12):
            item = absorb(encoder, whole, frame)
            small.add(item)
            archives.fill(archive, [entry(item, item.span.last_s)])
            if item.frame in chosen:
                fresh = item.frame >= 10
                exact.add(item if fresh else without_detail(item))
        how = How(small.policy.positions, Limits(64))
        bits = sum(1 << frame for frame in chosen)
        reader = archive.reader()
        found = search(Picks(bits), small.fork(now_s=1012.0), Asked("?", _look(model)), reader, how)
        reader.close()
    assert found.recalled == 3
    got, wanted = (_logits(model, view, how) for view in (found, exact.fork(now_s=1012.0)))
    assert float((got - wanted).abs().max() / wanted.abs().max()) < 1e-5
    other = _logits(model, small.fork(now_s=1012.0), how)
    assert float((other - wanted).abs().max() / wanted.abs().max()) > 1e-4, "and what is read does matter"


def _look(model: LlavaOnevision) -> Look:
    geo = model.geometry
    queries = torch.randn(geo.layers, 4, geo.head_width)
    return Look(queries, queries, torch.randn(geo.width), 0.0, geo.pointer)


@torch.inference_mode()
def _logits(model: LlavaOnevision, view: MemoryView, how: How) -> torch.Tensor:
    ids = model.question_ids("what is visible now?")
    slab = model.slab([view.past], len(ids))
    where = how.positions.text(view.count, len(ids))[None]
    return model.logits(model.forward(model.embed(torch.tensor([ids])), where, slab)[:, -1])
