"""Training sees what the daemon does: a clip unrolled in one forward gives what the real bank gives, frame by frame."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from memory.bank import MemoryBank
from memory.rules import Reader
from memory.rules.prompt_cache import PromptCache
from stream.attention import Mass
from stream.model.llava_onevision import LlavaOnevision
from stream.train.rehearsal import Keeping, Rehearsal, Shape, Shelf
from stream.train.unroll import Detail, Script, Shelves, Unrolled, sequence
from stream.types import Frame
from tests.models import absorb, make_bank, make_encoder, random_frames, random_model

QUESTION = "what is visible now?"
ASKED_AFTER = (0, 4, 10)


def shelves(rows: list[Shelf]) -> Shelves:
    mix, where, valid = (torch.stack([getattr(row, name) for row in rows])[None] for name in ("mix", "where", "valid"))
    return Shelves(mix, where, valid)


def unrolled(
    model: LlavaOnevision, frames: list[Frame], keeping: Keeping, bank: MemoryBank, module: bool = False
) -> tuple[Unrolled, Tensor]:
    """One forward over the clip with the question asked at three moments; the plan and hidden states [Q, L, D].
    `module`: of the question only the last token reads what is remembered."""
    feats = torch.stack([model.encode(frame.image[None])[0].feats for frame in frames])
    shape = Shape(model.geometry.grid, len(model.system_ids()), model.geometry.width)
    life = Rehearsal(feats.mean(1), [frame.wall_s for frame in frames], keeping, shape)
    lived, asked = [], []
    for step in range(len(frames)):
        lived.append(life.frame(step))
        if step in ASKED_AFTER:
            asked.append(life.question())
    ids = model.question_ids(QUESTION)
    scheme = bank.policy.positions
    script = Script(
        system=shape.system,
        visual=shape.visual,
        frames=shelves(lived),
        frames_where=torch.stack([shelf.own for shelf in lived])[None],
        questions=shelves(asked),
        detail=Detail(
            torch.stack([shelf.detail for shelf in asked])[None],
            torch.stack([shelf.detail_where for shelf in asked])[None],
            torch.stack([shelf.detail_slot for shelf in asked])[None],
        ),
        text_where=torch.stack([scheme.text(shelf.text, len(ids) + 2) for shelf in asked])[None],
        text_real=(torch.arange(len(ids) + 2) < len(ids)).expand(1, len(asked), -1),
        module=(torch.arange(len(ids) + 2) < len(ids) - 1).expand(1, len(asked), -1) if module else None,
    )
    text = torch.tensor([*ids, 0, 0]).expand(1, len(asked), -1)
    embeds = sequence(model, feats[None], text, script.text_real)
    plan = Unrolled.of(script, model.rope, embeds, model.geometry.pointer)
    with torch.inference_mode():
        hidden = model.run(embeds, plan)
    return plan, hidden[0, -int(script.text_real.sum()) :].unflatten(0, (len(asked), -1))


def relative(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


@pytest.mark.parametrize("positions", ["compact", "spaced", "time"])
@pytest.mark.parametrize(
    ("carriers", "detail", "retain"),
    [
        (16, 0, {"adjacent": {}}),
        (5, 2, {"adjacent": {}}),
        (5, 0, {"adjacent": {"when_full": "drop"}}),
        (4, 3, {"adjacent": {"when_full": "merge"}}),
        (4, 11, {"fifo": {}}),
        (3, 1, {"uniform": {}}),
    ],
)
def test_unrolled_equals_the_bank(positions: str, carriers: int, detail: int, retain: dict[str, Any]) -> None:
    model = random_model()
    bank = make_bank(model, carriers, detail, retain, positions)
    frames = random_frames(11)
    plan, hidden = unrolled(model, frames, Keeping(carriers, detail, retain, positions), bank)
    assert plan.pointed is not None
    encoder, ids = make_encoder(model), model.question_ids(QUESTION)
    for step, frame in enumerate(frames):
        absorb(encoder, bank, frame)
        if step not in ASKED_AFTER:
            continue
        number = ASKED_AFTER.index(step)
        view = bank.fork(now_s=frame.wall_s)
        mass = Mass(model.geometry.pointer)
        where = bank.policy.positions.text(view.count, len(ids))[None]
        theirs = model.forward(model.embed(torch.tensor([ids])), where, model.slab([view.past], len(ids)), mass)
        assert relative(model.logits(hidden[number, -1]), model.logits(theirs[0, -1])) < 1e-4
        assert mass.total is not None
        past = mass.total[0, len(model.system()) : len(model.system()) + len(view.past)]
        by_slot = torch.zeros(carriers).index_add(0, view.source, past)
        assert torch.allclose(plan.pointed[0, number, len(ids) - 1], by_slot, atol=1e-5)


@pytest.mark.parametrize("positions", ["compact", "time"])
@pytest.mark.parametrize(("carriers", "detail"), [(16, 0), (4, 3)])
def test_words_that_read_nothing_equal_those_that_were_read_once(positions: str, carriers: int, detail: int) -> None:
    model, method = random_model(), PromptCache()
    bank = make_bank(model, carriers, detail, positions=positions)
    frames = random_frames(11)
    _, hidden = unrolled(model, frames, Keeping(carriers, detail, {"adjacent": {}}, positions), bank, module=True)
    _, reading = unrolled(model, frames, Keeping(carriers, detail, {"adjacent": {}}, positions), bank)
    encoder, ids = make_encoder(model), model.question_ids(QUESTION)
    reader = Reader(model, bank.policy.positions)
    for step, frame in enumerate(frames):
        absorb(encoder, bank, frame)
        if step in ASKED_AFTER:
            number = ASKED_AFTER.index(step)
            theirs = method.scores(reader, bank.fork(now_s=frame.wall_s), [ids])[0]
            ours, other = (model.logits(states[number, len(ids) - 1]).log_softmax(-1) for states in (hidden, reading))
            assert relative(ours, theirs) < 1e-4
            assert relative(other, theirs) > 1e-3, "words that read what is remembered say something else"


def test_the_comparison_can_fail() -> None:
    """Rehearsed with another retention, the logits are off by far more than the tolerance."""
    model = random_model()
    bank = make_bank(model, 4, 0, {"fifo": {}})
    frames = random_frames(11)
    _, hidden = unrolled(model, frames, Keeping(4, 0, {"uniform": {}}), bank)
    encoder, ids = make_encoder(model), model.question_ids(QUESTION)
    for frame in frames:
        absorb(encoder, bank, frame)
    view = bank.fork(now_s=frames[-1].wall_s)
    where = bank.policy.positions.text(view.count, len(ids))[None]
    theirs = model.forward(model.embed(torch.tensor([ids])), where, model.slab([view.past], len(ids)))
    assert relative(model.logits(hidden[-1, -1]), model.logits(theirs[0, -1])) > 1e-3
