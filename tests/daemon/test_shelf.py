"""Every method, switched on by its name alone in the settings: frames are absorbed, and a question is answered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from daemon import core
from daemon.core import Core, build
from daemon.session import Session
from daemon.settings import parse
from memory import focus, recall, retain
from memory.recall import Asked
from memory.recall.search import EVER
from memory.view import MemoryView
from stream import carrier, gate, prefill, reduce, tower
from stream.model.llava_onevision import LlavaOnevision
from stream.policy import build as make
from stream.types import Frame
from tests.models import random_frames, random_model

FRAMES, CARRIERS, DETAIL = 9, 5, 2
STAGES: dict[str, dict[str, str]] = {
    "tower": tower.TABLE,
    "reduce": reduce.TABLE,
    "carrier": carrier.TABLE,
    "prefill": prefill.TABLE,
    "retain": retain.TABLE,
    "recall": recall.TABLE,
    "focus": focus.TABLE,
}
EVERY = [(stage, name) for stage, table in STAGES.items() for name in table]
MODEL = ("tower", "reduce", "carrier", "prefill")


@pytest.fixture(scope="module")
def model() -> LlavaOnevision:
    return random_model()


@pytest.fixture(autouse=True)
def known(model: LlavaOnevision, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Building a core takes the model that is there."""
    threads = torch.get_num_threads()
    monkeypatch.setattr(core, "open_model", lambda *_args, **_options: model)
    yield
    torch.set_num_threads(threads)


def built(**stages: Any) -> Core:
    """The core of a configuration with these stages."""
    memory: dict[str, Any] = {"carriers": CARRIERS, "detail_frames": DETAIL}
    own: dict[str, Any] = {}
    for stage, spec in stages.items():
        (own if stage in (*MODEL, "reuse_below") else memory)[stage] = spec
    return build(parse({"cameras": {"door": {"url": "file.mp4"}}, "model": own, "memory": memory}, "test"))


def judged(frames: list[Frame], score: float = 0.5) -> list[Frame]:
    """Every other frame is dull, so that reducers have something to do."""
    return [replace(frame, score=score if number % 2 else 2.0) for number, frame in enumerate(frames)]


def watch(made: Core, cameras: tuple[str, ...] = ("door",), score: float = 0.5) -> list[MemoryView]:
    """What is remembered of some frames; all cameras in one batch."""
    banks = [made.bank(camera) for camera in cameras]
    streams = [judged(random_frames(FRAMES, seed, camera), score) for seed, camera in enumerate(cameras)]
    for frames in zip(*streams, strict=True):
        works = [bank.work(frame) for bank, frame in zip(banks, frames, strict=True)]
        for bank, item in zip(banks, made.encoder.absorb(works), strict=True):
            bank.add(item)
            bank.check_integrity()
    return [bank.fork(now_s=1000.0 + FRAMES) for bank in banks]


def answer(made: Core, view: MemoryView) -> tuple[int, torch.Tensor]:
    """How many keys the question reads in the end, and the scores of the answer's first token."""
    ids = made.model.question_ids("what is visible now?")
    recaller, asked = made.recaller(), Asked("what was visible?")
    if recaller.looks:
        session = Session(made.model, made.policy.positions, [view], ids, 1)
        session.step()
        asked = replace(asked, look=session.look(0))
    view = recaller.submit([view], [asked], EVER).result()[0]
    slab = made.model.slab([view.past], len(ids))
    where = made.policy.positions.text(view.count, len(ids))
    hidden = made.model.forward(made.model.embed(torch.tensor([ids])), where[None], slab)
    return len(view.past), made.model.logits(hidden[:, -1])[0]


@pytest.mark.parametrize(("stage", "name"), EVERY)
def test_every_method_watches_and_answers(stage: str, name: str) -> None:
    room = {"focus_tokens": 5} if stage == "focus" and name != "all" else {}
    made = built(**{stage: {name: {}}}, **room)
    view = watch(made)[0]
    keys, scores = answer(made, view)
    assert scores.isfinite().all()
    assert view.count == CARRIERS
    assert len(view.source) == len(view.places) == len(view.past)
    assert not room or keys <= CARRIERS + 5
    again = watch(built(**{stage: {name: {}}}, **room))[0]
    assert torch.equal(again.past.keys, view.past.keys), "the same frames, the same memory"


@pytest.mark.parametrize(("stage", "name"), [(stage, name) for stage, name in EVERY if stage in MODEL])
def test_a_batch_of_cameras_is_the_cameras_one_by_one(stage: str, name: str) -> None:
    together = watch(built(**{stage: {name: {}}}), ("door", "yard"))
    alone = watch(built(**{stage: {name: {}}}))[0]
    torch.testing.assert_close(together[0].past.keys, alone.past.keys, rtol=1e-4, atol=1e-4)
    assert torch.equal(together[0].places, alone.places)


@pytest.mark.parametrize("name", tower.TABLE)
def test_a_thinned_tower_has_attention_for_every_patch(name: str) -> None:
    """Reducers that read the tower's attention read it of the whole grid, whatever left on the way."""
    made = built(tower={name: {}}, reduce=[{"hiprune": {"dull": 5, "keen": 5}}])
    view = watch(made)[0]
    assert view.past.keys.isfinite().all()
    assert len(view.past) == CARRIERS + 5 * DETAIL


@pytest.mark.parametrize("name", gate.TABLE)
def test_every_gate_is_switched_on_by_its_name(name: str) -> None:
    settings = parse({"cameras": {"door": {"url": "file.mp4"}}, "gate": [{name: {}}]}, "test")
    chain = gate.make(settings.gate)
    assert chain.judge(random_frames(1)[0]).keep == make("gate", gate.TABLE, name).judge(random_frames(1)[0]).keep


STACK: dict[str, Any] = {
    "tower": {"uniform": {"keep": 0.8}},
    "reduce": [{"m3": {"dull": 4, "keen": 4}}, {"uniform": {"dull": 2, "keen": 3}}],
    "carrier": {"uniform": {"companions": 2}},
    "prefill": {"uniform": {"keep": [0.5]}},
    "retain": {"uniform": {}},
    "recall": {"uniform": {}},
    "focus": {"uniform": {}},
    "focus_tokens": 3,
}


def test_one_method_of_every_stage_at_once() -> None:
    made = built(**STACK)
    view = watch(made)[0]
    keys, scores = answer(made, view)
    assert keys == CARRIERS + 3
    assert scores.isfinite().all()
    assert made.bank("door").held_bytes > built().bank("door").held_bytes, "companions have room of their own"


@pytest.mark.parametrize("name", [name for name in prefill.TABLE if name not in ("none", "chunks")])
def test_companions_are_among_what_went_through_all_layers(name: str) -> None:
    """`plus` takes the visual tokens with most attention; of those that left on the way nothing is there to keep."""
    made = built(carrier={"plus": {"companions": 2}}, prefill={name: {}})
    view = watch(made)[0]
    old, new = view.places[view.count :][view.source[view.count :] < CARRIERS - DETAIL], view.places
    assert 0 < len(old) <= 2 * (CARRIERS - DETAIL)
    assert (new <= made.model.geometry.visual).all()


def test_everything_at_keep_all_is_the_identity() -> None:
    """Bit for bit: the stack with every budget open answers as the default does."""
    whole: dict[str, Any] = {
        "tower": {"uniform": {"keep": 1.0}},
        "reduce": [{"m3": {"dull": 0}}, {"random": {"dull": 100}}],
        "prefill": {"random": {"keep": [1.0]}},
        "focus": {"random": {}},
        "focus_tokens": 1000,
    }
    plain, other = built(), built(**whole)
    view, same = watch(plain)[0], watch(other)[0]
    assert torch.equal(view.past.keys, same.past.keys)
    assert torch.equal(answer(plain, view)[1], answer(other, same)[1])


def test_asking_with_a_focus_changes_nothing() -> None:
    made = built(focus={"random": {}}, focus_tokens=4)
    view = watch(made)[0]
    before = view.past.keys.clone(), view.places.clone()
    assert answer(made, view)[0] == CARRIERS + 4
    assert torch.equal(view.past.keys, before[0])
    assert torch.equal(view.places, before[1])
