"""One training step: pictures and text through the checkpoint's own modules under the shared attention rule."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from stream.attention import Block, Plan
from stream.model.llava_onevision import LlavaOnevision
from stream.rule import allow
from stream.train.data import IGNORE, Batch


def sequence(model: LlavaOnevision, batch: Batch) -> Tensor:
    """Embeddings [B, T, D] of a batch: system, frames with their carriers, questions."""
    rows, count = batch.images.shape[:2]
    feats = model.features(model.pixels(batch.images.flatten(0, 1)))  # [B*F, N, D]
    carriers = feats.mean(1, keepdim=True)  # the carrier's input: the mean of its frame (VideoScan 3.1)
    body = torch.cat((feats, carriers), 1).view(rows, -1, feats.shape[-1])
    table = model.net.get_input_embeddings()
    system = table(torch.tensor(model.system_ids())).expand(rows, -1, -1)
    return torch.cat((system, body, table(batch.text)), 1)


def answer_loss(model: LlavaOnevision, batch: Batch) -> tuple[Tensor, Tensor]:
    """Mean cross entropy over answer tokens, and the share of whole answers that are right (teacher forced)."""
    embeds = sequence(model, batch)
    rotation = model.rope.at(batch.positions, embeds)
    mask = allow(batch.layout, batch.detail)[:, None]
    plan = Plan((Block(0, embeds.shape[1], rotation, rotation, mask),))
    hidden = model.run(embeds, plan)[:, -batch.text.shape[1] :]
    learn = batch.target != IGNORE
    scores = model.net.lm_head(hidden[learn]).float()
    target = batch.target[learn]
    loss = F.cross_entropy(scores, target)
    with torch.no_grad():
        wrong = torch.zeros_like(batch.target)
        wrong[learn] = (scores.argmax(-1) != target).long()
        slots = wrong.view(*wrong.shape[:1], -1, _slot(batch))
        asked = learn.view(slots.shape).any(-1)
        right = (slots.sum(-1) == 0) & asked
    return loss, right.sum() / asked.sum()


def _slot(batch: Batch) -> int:
    questions = int((batch.layout.owner[0]).max()) + 1
    return batch.text.shape[1] // questions
