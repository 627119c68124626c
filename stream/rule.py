"""Who may read whom: the one attention rule, shared by training, inference and the exactness tests.

    allow(q, k) = k not after q
                  and (k is system, or k is a carrier still remembered,
                       or k is visual and in q's own frame,
                       or k is visual in one of the last `detail` frames and q is text,
                       or q and k are text of the same question)

A step is one absorbed frame. A question asked after frame f has step f, so it sees frames 0..f; questions of one
sequence never see each other, which lets training put many on one clip. A carrier is evicted when a frame joins a
full bank: that frame has still read it, a question after that frame does not. VideoScan (arXiv 2503.09387) section 3.2,
with eviction, recent detail and several questions added. Words of standing questions may be read once for all frames:
then they read text of their own question alone (`Script.module`, `memory/rules/prompt_cache.py`).

             system  visual(own)  visual(other)  carrier            text
    visual     yes     <= self        no         earlier, kept       no
    carrier    yes      all           no         earlier, kept, self no
    text       yes       -       last `detail`   <= step, kept       own question, <= self
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SYSTEM, VISUAL, CARRIER, TEXT = 0, 1, 2, 3
NEVER = 2**30  # the step at which a carrier that stays is evicted


@dataclass(frozen=True, slots=True)
class Layout:
    """One sequence, or a batch of them, described token by token. All fields are int64 [T] or [B, T]."""

    kind: Tensor  # SYSTEM, VISUAL, CARRIER or TEXT
    step: Tensor  # the step that computes the token; -1 for system
    owner: Tensor  # text: number of the question; else 0
    gone: Tensor  # carriers: the step whose frame pushed it out; else NEVER

    def __len__(self) -> int:
        return int(self.kind.shape[-1])


def allow(layout: Layout, detail: int | Tensor = 0) -> Tensor:
    """The rule as a boolean matrix [.., T, T], rows are queries.

    `detail`: how many newest frames text sees at full detail; one number, or one a sequence as [B, 1, 1].
    """
    q_kind, k_kind = layout.kind[..., :, None], layout.kind[..., None, :]
    q_step, k_step = layout.step[..., :, None], layout.step[..., None, :]
    place = torch.arange(len(layout), device=layout.kind.device)
    past = (k_step < q_step) | ((k_step == q_step) & (place[None, :] <= place[:, None]))
    gone = layout.gone[..., None, :]
    carrier = (k_kind == CARRIER) & torch.where(q_kind == TEXT, q_step < gone, q_step <= gone)
    own_frame = (k_kind == VISUAL) & (q_kind != TEXT) & (k_step == q_step)
    recent = (k_kind == VISUAL) & (q_kind == TEXT) & (q_step - k_step < detail)
    same_question = (k_kind == TEXT) & (q_kind == TEXT) & (layout.owner[..., None, :] == layout.owner[..., :, None])
    return past & ((k_kind == SYSTEM) | carrier | own_frame | recent | same_question)


def frames(count: int, visual: int, system: int, questions: list[tuple[int, int]] | None = None) -> Layout:
    """The usual sequence: system, then `count` frames of `visual` tokens and a carrier, then questions.

    `questions` lists (step asked after, number of tokens).
    """
    kinds = [SYSTEM] * system + ([VISUAL] * visual + [CARRIER]) * count
    steps = [-1] * system + [frame for frame in range(count) for _ in range(visual + 1)]
    owners = [0] * len(kinds)
    for number, (step, length) in enumerate(questions or []):
        kinds += [TEXT] * length
        steps += [step] * length
        owners += [number] * length
    return Layout(torch.tensor(kinds), torch.tensor(steps), torch.tensor(owners), torch.full((len(kinds),), NEVER))


def causal(length: int) -> Tensor:
    """What a block sees of itself, [T, T]: a frame's tokens and its carrier, or a question's text."""
    return torch.ones(length, length, dtype=torch.bool).tril()
