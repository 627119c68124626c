"""DESIGN rule 1: frame by frame through the bank gives what one forward over the whole sequence gives.

The reference knows nothing of banks and caches: it lays the whole stream out as one sequence, masks it by the
attention rule, and rotates keys per query block to where that block would have seen them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor

from memory.bank import MemoryBank
from stream.attention import Block, Plan
from stream.model.llava_onevision import LlavaOnevision
from stream.rule import CARRIER, NEVER, SYSTEM, TEXT, VISUAL, Layout, allow
from stream.types import Frame, Span
from tests.models import absorb, make_bank, make_encoder, random_frames, random_model

QUESTION = "what is visible now?"


@dataclass
class Reference:
    """One forward over everything that was streamed."""

    model: LlavaOnevision
    frames: list[Frame]
    scheme: object
    alive: list[list[int]]  # per step: frames remembered when that step's frame was read
    after: list[int]  # frames remembered when the question came
    gone: dict[int, int]
    detail: int
    keys: list[Tensor] = field(default_factory=list)

    def run(self) -> Tensor:
        """Hidden states [T, D]; un-rotated keys of every layer are left in `keys`."""
        model = self.model
        feats = [item.feats for frame in self.frames for item in model.encode(frame.image[None])]
        ids = model.question_ids(QUESTION)
        parts = [model.embed(torch.tensor(model.system_ids()))]
        for item in feats:
            parts += [item, item.mean(0, keepdim=True)]
        parts.append(model.embed(torch.tensor(ids)))
        layout = self._layout(len(parts[0]), feats[0].shape[0], len(ids))
        embeds = torch.cat(parts)[None]
        mask = allow(layout, self.detail)
        blocks = self._blocks(layout, embeds, mask)
        hooks = [
            layer.self_attn.k_proj.register_forward_hook(lambda _m, _i, out: self.keys.append(out[0]))
            for layer in model.language.layers
        ]
        with torch.inference_mode():
            hidden = model.run(embeds, Plan(blocks))[0]
        for hook in hooks:
            hook.remove()
        return hidden

    def _layout(self, system: int, visual: int, text: int) -> Layout:
        kind, step, gone = [SYSTEM] * system, [-1] * system, [NEVER] * system
        for number in range(len(self.frames)):
            kind += [VISUAL] * visual + [CARRIER]
            step += [number] * (visual + 1)
            gone += [NEVER] * visual + [self.gone.get(number, NEVER)]
        kind += [TEXT] * text
        step += [len(self.frames) - 1] * text
        gone += [NEVER] * text
        return Layout(
            torch.tensor(kind), torch.tensor(step), torch.zeros(len(kind), dtype=torch.long), torch.tensor(gone)
        )

    def _positions(self, layout: Layout, alive: list[int], own: int | None, now_s: float) -> Tensor:
        """Where every token stands for the block of frame `own` (None: the question)."""
        where = torch.full((len(layout),), 7.0)  # what is masked may stand anywhere
        system = layout.kind == SYSTEM
        where[system] = torch.arange(int(system.sum()), dtype=torch.float32)
        spans = [Span(1000.0 + number, 1000.0 + number) for number in alive]
        for place, number in zip(self.scheme.carriers(spans, now_s), alive, strict=True):
            where[(layout.kind == CARRIER) & (layout.step == number)] = place
        for number in range(len(self.frames)):
            rank = sum(1 for other in alive if other < number)
            stretch = self.scheme.frame(rank, Span(1000.0 + number, 1000.0 + number), now_s)
            if number == own:
                where[(layout.kind != TEXT) & (layout.step == number)] = stretch
            elif own is None:
                where[(layout.kind == VISUAL) & (layout.step == number)] = stretch[:-1]
        text = layout.kind == TEXT
        where[text] = self.scheme.text(len(alive), int(text.sum()))
        return where

    def _blocks(self, layout: Layout, embeds: Tensor, mask: Tensor) -> tuple[Block, ...]:
        blocks, first = [], 0
        system, visual = int((layout.kind == SYSTEM).sum()), self.model.geometry.visual
        steps: list[tuple[int, list[int], int | None, float]] = [(system, [], None, 0.0)]
        for number, alive in enumerate(self.alive):
            steps.append((visual + 1, alive, number, 1000.0 + number))
        steps.append((int((layout.kind == TEXT).sum()), self.after, None, 1000.0 + len(self.frames) - 1))
        for length, alive, own, now_s in steps:
            where = self._positions(layout, alive, own, now_s)
            rotation = self.model.rope.at(where[None], embeds)
            queries = rotation.take(torch.arange(first, first + length))
            blocks.append(Block(first, first + length, queries, rotation, mask[None, None, first : first + length]))
            first += length
        return tuple(blocks)


def stream(
    model: LlavaOnevision, bank: MemoryBank, frames: list[Frame]
) -> tuple[list[list[int]], dict[int, int], list]:
    """Absorb one by one; returns who was remembered at each step, who left when, and all carriers made."""
    encoder, alive, gone, made = make_encoder(model), [], {}, []
    for step, frame in enumerate(frames):
        before = bank.frames
        alive.append(before)
        made.append(absorb(encoder, bank, frame))
        for left in set(before) - set(bank.frames):
            gone[left] = step
    return alive, gone, made


def relative(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


@pytest.mark.parametrize("positions", ["compact", "spaced", "time"])
@pytest.mark.parametrize(
    ("carriers", "detail", "retain"),
    [
        (16, 0, {"adjacent": {}}),
        (5, 0, {"adjacent": {"when_full": "drop"}}),
        (5, 3, {"adjacent": {"when_full": "drop"}}),
        (4, 2, {"fifo": {}}),
        (4, 4, {"random": {}}),
        (3, 0, {"uniform": {}}),
        (1, 1, {"fifo": {}}),
    ],
)
def test_streaming_equals_one_shot(positions: str, carriers: int, detail: int, retain: dict) -> None:
    model = random_model()
    bank = make_bank(model, carriers, detail, retain, positions)
    frames = random_frames(11)
    alive, gone, made = stream(model, bank, frames)
    assert len(gone) == max(0, len(frames) - carriers)
    assert len(bank) == min(carriers, len(frames))
    reference = Reference(model, frames, bank.policy.positions, alive, bank.frames, gone, detail)
    hidden = reference.run()

    system, block = len(model.system()), model.geometry.visual + 1
    geo = model.geometry
    for step, carrier in enumerate(made):
        at = system + (step + 1) * block - 1
        for layer in range(geo.layers):
            theirs = reference.keys[layer][at].view(geo.kv_heads, geo.head_width)
            assert relative(carrier.keys[layer], theirs) < 1e-4, (step, layer)

    ids = model.question_ids(QUESTION)
    view = bank.fork(now_s=frames[-1].wall_s)
    slab = model.slab([view.past], len(ids))
    ours = model.forward(model.embed(torch.tensor([ids])), bank.policy.positions.text(view.count, len(ids))[None], slab)
    logits, expected = model.logits(ours[0, -1]), model.logits(hidden[-1])
    assert relative(logits, expected) < 1e-4


def test_the_comparison_can_fail() -> None:
    """A carrier that should be masked but is not changes the logits by far more than the tolerance."""
    model = random_model()
    bank = make_bank(model, 5, 0, {"fifo": {}})
    frames = random_frames(11)
    alive, gone, _ = stream(model, bank, frames)
    right = Reference(model, frames, bank.policy.positions, alive, bank.frames, gone, 0).run()
    wrong = Reference(model, frames, bank.policy.positions, alive, bank.frames, {}, 0).run()
    assert relative(model.logits(wrong[-1]), model.logits(right[-1])) > 1e-3


def test_a_batch_of_cameras_equals_one_by_one_in_bfloat16() -> None:
    """DESIGN rule 6, in the dtype of GPUs and of processors that have it: eight bits of mantissa, four blocks deep."""
    model = random_model(dtype=torch.bfloat16)
    encoder = make_encoder(model)
    banks = [make_bank(model, 3, 1, camera=f"cam{index}") for index in range(3)]
    for index, bank in enumerate(banks):
        for frame in random_frames(1 + 2 * index, seed=index, camera=bank.camera):
            absorb(encoder, bank, frame)
    works = [bank.work(random_frames(9, index, bank.camera)[-1]) for index, bank in enumerate(banks)]
    together = encoder.absorb(works)
    for work, batched in zip(works, together, strict=True):
        alone = encoder.absorb([work])[0]
        assert batched.keys.dtype == torch.bfloat16
        assert relative(batched.keys.float(), alone.keys.float()) < 2e-2
        assert relative(batched.values.float(), alone.values.float()) < 2e-2


def test_a_batch_of_cameras_equals_one_by_one() -> None:
    """DESIGN rule 6: cameras with banks of different fill, absorbed and asked together."""
    model = random_model()
    encoder = make_encoder(model)
    banks = [make_bank(model, 6, 2, camera=f"cam{index}") for index in range(3)]
    for index, bank in enumerate(banks):
        for frame in random_frames(2 + 4 * index, seed=index, camera=bank.camera):
            absorb(encoder, bank, frame)
    nexts = [random_frames(40, seed=index, camera=bank.camera)[-1] for index, bank in enumerate(banks)]
    works = [bank.work(frame) for frame, bank in zip(nexts, banks, strict=True)]
    together = [
        replace(made, detail=replace(made.detail, keys=made.detail.keys.clone())) for made in encoder.absorb(works)
    ]
    for work, batched in zip(works, together, strict=True):
        alone = encoder.absorb([work])[0]
        assert relative(batched.keys, alone.keys) < 1e-4
        assert relative(batched.values, alone.values) < 1e-4
        assert relative(batched.detail.keys, alone.detail.keys) < 1e-4

    from daemon.session import Session

    views = [bank.fork() for bank in banks]
    ids, scheme = model.question_ids(QUESTION), banks[0].policy.positions
    joint = Session(model, scheme, views, ids, 6)
    while not joint.done:
        joint.step()
    for row, view in enumerate(views):
        single = Session(model, scheme, [view], ids, 6)
        while not single.done:
            single.step()
        assert joint.rows[row].ids == single.rows[0].ids
        assert joint.rows[row].confidence == pytest.approx(single.rows[0].confidence, rel=1e-3)
        weights = [weight for _, weight in joint.evidence(row, 3)]
        assert weights == pytest.approx([weight for _, weight in single.evidence(0, 3)], abs=1e-3)
