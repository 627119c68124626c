"""One training step: pictures and text through the checkpoint's own modules, every clip's whole life in one forward."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stream.model.llava_onevision import LlavaOnevision
from stream.train.data import FAMILIES, IGNORE, Asked, Batch
from stream.train.truth import FACTS, RECAP, SIGHTS, UNSURE
from stream.train.unroll import Unrolled, sequence

FACTS_SCALE = 10.0  # a frame has few facts among many: the mean over all of them is small


@dataclass(frozen=True, slots=True)
class Found:
    """Losses of a batch, and without gradient how well it did."""

    losses: dict[str, Tensor]  # see, answer, point, recap
    right: Tensor  # share of frames whose one thing is named, or of whole answers that are right, teacher forced
    by_family: dict[str, tuple[int, int]]  # answers right, answers asked


class Eyes(nn.Module):
    """The probe: linear readings of a frame's mean token [.., D] and of each patch [.., P, D]. Training only."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.widths = [*(len(values) for values in SIGHTS.values()), len(FACTS)]
        self.frame = nn.Linear(width, sum(self.widths))
        self.cell = nn.Linear(width, len(SIGHTS["kind"]) + len(SIGHTS["colour"]))

    def forward(self, feats: Tensor, patches: Tensor) -> tuple[Tensor, ...]:
        """`feats` [.., N, D], `patches` [.., P, D] -> scores of each of SIGHTS and of FACTS [.., n]; of each patch's
        kind and colour [.., P, n]."""
        cell = self.cell(patches).float().split([len(SIGHTS["kind"]), len(SIGHTS["colour"])], -1)
        return *self.frame(feats.mean(-2)).float().split(self.widths, -1), *cell


class Recap(nn.Module):
    """The second probe: linear readings of what carriers know of the frames before them. Training only.

    What passed before is read where the pointer heads look, so that "after X" is found in one look: at the carrier
    that knows X came before it. How many passed is read as carriers enter the last layer.
    """

    def __init__(self, model: LlavaOnevision) -> None:
        super().__init__()
        pointer, last = model.geometry.pointer, model.geometry.layers - 1
        self.depths = (pointer.layer if pointer else last, last)
        self.before = nn.Linear(model.geometry.width, RECAP[0] + RECAP[1])
        self.count = nn.Linear(model.geometry.width, RECAP[2])

    def forward(self, at_pointer: Tensor, at_last: Tensor) -> tuple[Tensor, ...]:
        """Carriers [.., D] as they enter the two layers -> scores of each entry of RECAP [.., n]."""
        at_pointer, at_last = (F.rms_norm(states, states.shape[-1:]) for states in (at_pointer, at_last))
        return *self.before(at_pointer).float().split(RECAP[:2], -1), self.count(at_last).float()


def losses(model: LlavaOnevision, eyes: Eyes, batch: Batch, frozen: bool = False, recap: Recap | None = None) -> Found:
    """`see`: naming what a frame shows through the linear probe `eyes`; `answer`: cross
    entropy over answer tokens; `point`: the pointer heads at the evidence, or at no memory where there is none; with
    the probe `recap`, `recap`: what carriers know of what came before them.

    The probe gives the tower a short path to its task: through the language model alone, from nothing, it stays blind.
    `frozen` takes the batch's own features.
    """
    if frozen and batch.feats is not None:
        feats = batch.feats.to(model.net.dtype)
        seen: dict[str, Tensor] = {}
        right = torch.zeros(())
    else:
        patches, found = model.patches(model.pixels(batch.images.flatten(0, 1)))
        feats = found.view(*batch.images.shape[:2], *found.shape[1:])
        patches = patches.view(*batch.images.shape[:2], *patches.shape[1:])
        seen, right = _sight(eyes(feats, patches), batch)
    if batch.asked is None:
        return Found(seen, right, {})
    return _answers(model, batch, feats, seen, recap)


def _sight(scores: tuple[Tensor, ...], batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
    """The probe's loss over SIGHTS, FACTS and cells; `right` is kind and colour of the one thing in view."""
    *heads, facts, kind, colour = scores
    known = batch.facts >= 0
    loss = F.binary_cross_entropy_with_logits(facts, batch.facts.clamp_min(0).float(), reduction="none")
    total = FACTS_SCALE * (loss * known).sum() / known.sum().clamp_min(1)
    truths = (*batch.sights.unbind(-1), *batch.cells.unbind(-1))
    total = total + _told(zip((*heads, kind, colour), truths, strict=True))
    right = torch.ones_like(batch.sights[..., 0], dtype=torch.bool)
    for head, truth in zip(heads[:2], batch.sights.unbind(-1), strict=False):
        right &= (head.argmax(-1) == truth) | (truth == UNSURE)
    return {"see": total}, right[batch.sights[..., 0] != UNSURE].float().mean()


def _answers(model: LlavaOnevision, batch: Batch, feats: Tensor, seen: dict[str, Tensor], recap: Recap | None) -> Found:
    asked, script = batch.asked, batch.script
    assert asked is not None
    assert script is not None
    embeds = sequence(model, feats, asked.text, script.text_real)
    plan = Unrolled.of(script, model.rope, embeds, model.geometry.pointer)
    with _entering(model, recap.depths if recap else ()) as entering:
        hidden = model.run(embeds, plan)[0, embeds.shape[1] - int(script.text_real.sum()) :]
    learn = asked.target != IGNORE  # [B, Q, L]
    scores = model.net.lm_head(hidden[learn[script.text_real]]).float()
    found = {**seen, "answer": F.cross_entropy(scores, asked.target[learn])}
    if plan.pointed is not None:
        found["point"] = pointing(plan.pointed.float(), asked)
    if recap is not None and batch.recap is not None:
        shape = (*feats.shape[:2], script.visual + 1)
        known = recap(*(_carriers(states, script.system, shape) for states in entering))
        found["recap"] = _told(zip(known, batch.recap.unbind(-1), strict=True))
    with torch.no_grad():
        wrong = torch.zeros_like(asked.target)
        wrong[learn] = (scores.argmax(-1) != asked.target[learn]).long()
        good = (wrong.sum(-1) == 0) & (asked.family >= 0)
        told = asked.family >= 0
        counts = {
            name: (int((good & (asked.family == number)).sum()), int((asked.family == number).sum()))
            for number, name in enumerate(FAMILIES)
        }
    return Found(found, good.sum() / told.sum().clamp_min(1), counts)


def _told(pairs: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Sum of the mean cross entropies of scores [.., n] to what is so [..], where that is known."""
    total = torch.zeros(())
    for scores, truth in pairs:
        clear = truth != UNSURE
        total = total + F.cross_entropy(scores[clear], truth[clear]) if clear.any() else total
    return total


@contextmanager
def _entering(model: LlavaOnevision, depths: Sequence[int]) -> Iterator[list[Tensor]]:
    """Hidden states [1, T, D] as they enter the layers `depths`, in their order, once the model ran."""
    found: list[Tensor] = []
    layers = model.language.layers
    hooks = [layers[depth].register_forward_pre_hook(lambda _, given: found.append(given[0])) for depth in depths]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _carriers(states: Tensor, system: int, shape: tuple[int, int, int]) -> Tensor:
    """Of the states [1, T, D] of a `sequence` those of carriers [B, F, D]; `shape` is B, F, N+1."""
    rows, frames, block = shape
    clips = states[0, : rows * (system + frames * block)].view(rows, -1, states.shape[-1])
    return clips[:, system:].reshape(rows, frames, block, -1)[:, :, -1]


def pointing(pointed: Tensor, asked: Asked) -> Tensor:
    """Cross entropy of attention [B, Q, L, M] to the evidence; without evidence, of attention to anything else."""
    total, count = pointed.new_zeros(()), 0
    has = asked.point_to.sum(-1) > 0  # [B, Q]
    for which in range(2):
        at = asked.point_from[..., which]
        real = at >= 0
        index = at.clamp_min(0)[..., None, None].expand(-1, -1, 1, pointed.shape[-1])
        weights = pointed.gather(2, index)[:, :, 0]  # [B, Q, M]
        aimed = -(asked.point_to * (weights + 1e-6).log()).sum(-1)
        away = -(1.0 - weights.sum(-1) + 1e-6).clamp_min(1e-6).log()
        total = total + (torch.where(has, aimed, away) * real).sum()
        count += int(real.sum())
    return total / max(1, count)
