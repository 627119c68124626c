"""FasterVLM keeps what the vision tower attends to most; its later version, VisPruner, what is distinct too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from stream.ops import top
from stream.policy import Paper
from stream.reduce import Seen
from stream.reduce.dull import Attentive, last

STEP = 8  # near duplicates that leave in one round


@dataclass(frozen=True)
class FasterVlm(Attentive):
    """The tokens whose patches get the most attention in the tower's last block.

    `dull`: tokens of a frame whose gate score is below `below`; 0 is all of them.
    `keen`: tokens of every other frame; 0 is all of them.
    `below`: a frame with a lower score is dull.
    `mode`: `plain`, all by attention; `vispruner`, a part by attention, the rest by removing near duplicates.
    `important`: with `vispruner`, the share of the tokens that are kept by attention.
    """

    mode: Literal["plain", "vispruner"] = "plain"
    important: float = 0.5

    paper: ClassVar[Paper] = Paper(
        title="[CLS] Attention is All You Need for Training-Free Visual Token Pruning: Make VLM Inference Faster",
        link="https://arxiv.org/abs/2412.01818",
        fidelity="parity",
        differs="SigLIP has no CLS row: the attention that a patch receives, mean over heads and query rows of the "
        "last used block, stands for it and is pooled as the features are; VisPruner's duplicates are looked for among "
        "the projected tokens, not among the tower's",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mode not in ("plain", "vispruner"):
            raise ValueError(f"mode is plain or vispruner, got {self.mode!r}")
        if not 0 <= self.important <= 1:
            raise ValueError(f"important is a share in [0, 1], got {self.important}")

    def places(self, seen: Sequence[Seen], budget: int) -> Tensor:
        """See Selecting."""
        tokens = seen[-1].tokens
        tap = last(tokens)
        attention = tap.pool(tap.received())[None]
        if self.mode == "plain":
            return attended(attention, budget)
        return vispruner(attention, tokens.feats, budget, self.important)


def attended(attention: Tensor, count: int) -> Tensor:
    """int64 [count], rising: the tokens with the highest `attention` [heads, N], mean over heads.

    Source: encode_images of llava/model/llava_arch.py in Theia-4869/FasterVLM, where it is the CLS row.
    """
    return top(attention.float().mean(0), count)


def vispruner(attention: Tensor, feats: Tensor, count: int, important: float = 0.5) -> Tensor:
    """int64 [count], rising: int(count * important) by `attention` [heads, N]; of the others, those that are distinct.

    The others stand in falling order of attention. Round by round every second one looks for its most alike among the
    rest by the cosine of `feats` [N, D]; the 8 that find the most alike leave, fewer in the last round. Source:
    encode_images in Theia-4869/VisPruner, whose rounds fail where the others are odd in number: ours do not.
    """
    order = torch.argsort(attention.float().mean(0), descending=True, stable=True)
    first = int(count * important)
    kept, others = order[:first], order[first:]
    wanted = count - first
    rows = F.normalize(feats.float(), dim=-1)
    while wanted and len(others) > wanted:
        looking, found = others[::2], others[1::2]
        alike = (rows[looking] @ rows[found].T).amax(1)
        leaving = min(STEP, len(others) - wanted, len(looking))
        distinct = torch.argsort(alike, descending=True, stable=True)[leaving:]
        others = torch.cat((looking[distinct], found))
    return torch.cat((kept, others[:wanted])).sort().values
