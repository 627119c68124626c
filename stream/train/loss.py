"""One training step: pictures and text through the checkpoint's own modules under the shared attention rule."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stream.attention import Block, Plan
from stream.model.llava_onevision import LlavaOnevision
from stream.rule import allow
from stream.train.data import IGNORE, Batch


def sequence(model: LlavaOnevision, batch: Batch, feats: Tensor) -> Tensor:
    """Embeddings [B, T, D] of a batch: system, frames with their carriers, questions. `feats` [B*F, N, D]."""
    rows = len(batch.images)
    carriers = feats.mean(1, keepdim=True)  # the carrier's input: the mean of its frame (VideoScan 3.1)
    body = torch.cat((feats, carriers), 1).view(rows, -1, feats.shape[-1])
    table = model.net.get_input_embeddings()
    system = table(torch.tensor(model.system_ids())).expand(rows, -1, -1)
    return torch.cat((system, body, table(batch.text)), 1)


def losses(model: LlavaOnevision, eyes: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """`see`: naming what a frame shows from its mean token alone, through the linear probe `eyes`; `answer`: cross
    entropy over answer tokens; `right`: share of whole answers that are right, teacher forced (no gradient).

    The probe gives the tower a short path to its task: through the language model alone, from nothing, it stays blind.
    """
    feats = model.features(model.pixels(batch.images.flatten(0, 1)))
    named = eyes(feats.mean(1)).float()
    view = batch.view.flatten()
    found = {"see": F.cross_entropy(named, view, ignore_index=IGNORE)}
    if batch.text.shape[1] == 0:
        known = view != IGNORE
        return {**found, "right": (named.argmax(-1) == view)[known].float().mean()}
    return {**found, **_answers(model, batch, sequence(model, batch, feats))}


def _answers(model: LlavaOnevision, batch: Batch, embeds: Tensor) -> dict[str, Tensor]:
    rotation = model.rope.at(batch.positions, embeds)
    mask = allow(batch.layout, batch.detail)[:, None]
    plan = Plan((Block(0, embeds.shape[1], rotation, rotation, mask),))
    hidden = model.run(embeds, plan)[:, -batch.text.shape[1] :]
    learn = batch.target != IGNORE
    scores = model.net.lm_head(hidden[learn]).float()
    target = batch.target[learn]
    with torch.no_grad():
        wrong = torch.zeros_like(batch.target)
        wrong[learn] = (scores.argmax(-1) != target).long()
        questions = int(batch.layout.owner[0].max()) + 1
        slots = wrong.view(len(wrong), questions, -1).sum(-1)
        asked = learn.view(len(wrong), questions, -1).any(-1)
        right = ((slots == 0) & asked).sum() / asked.sum()
    return {"answer": F.cross_entropy(scores, target), "right": right}
