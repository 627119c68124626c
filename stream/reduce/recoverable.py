"""Recoverable Compression, its visual half: as many tokens as stand out, and the rest merged instead of dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from stream.ops import cosines, outliers, top
from stream.policy import Paper
from stream.reduce import ATTENTION, GRID, Seen
from stream.reduce.dull import Dull, last
from stream.tap import Tap
from stream.types import VisualTokens

STAND_OUT, CENTRES = 20, 10  # neighbours of the local outlier factor, for tokens that stay and for those that take in
PARTNERS = 32  # tokens that a centre takes in
TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class Recoverable(Dull):
    """The number adapts: tokens whose attention is an outlier stay, a few more take in what is like them, one the rest.

    `dull`: most tokens of a frame whose gate score is below `below`; 0 is all of them.
    `keen`: most tokens of every other frame; 0 is all of them.
    `below`: a frame with a lower score is dull.
    `least`: share of the tokens that stay where fewer stand out.
    `sums`: weighted sums as published, whose lengths are not those of tokens; else weighted means.
    """

    least: float = 0.02
    sums: bool = False

    paper: ClassVar[Paper] = Paper(
        title="Recoverable Compression: A Multimodal Vision Token Recovery Mechanism Guided by Text Information",
        link="https://arxiv.org/abs/2409.01179",
        fidelity="parity",
        differs="the visual half: no question exists when a frame is absorbed, the text half is the recall method of "
        "this name. Received attention stands for SigLIP's missing CLS row and is pooled as the features are; the "
        "tokens' own cosine chooses partners, with indices put right that the release mixes up; means unless `sums`; "
        "a least number and a hard limit; the order of the picture",
    )
    needs: ClassVar[frozenset[str]] = frozenset({GRID, ATTENTION})

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.least <= 1:
            raise ValueError(f"least is a share in [0, 1], got {self.least}")

    def blocks(self, depth: int) -> tuple[int, ...]:
        """See Reduce: the last."""
        return (depth - 1,)

    def shrink(self, seen: Sequence[Seen], budget: int) -> VisualTokens:
        """See Dull: tokens that stay and centres as they stood, then the one for the rest."""
        tokens = seen[-1].tokens
        tap = last(tokens)
        scores = tap.pool(received_whole(tap))
        least = max(1, round(self.least * len(scores)))
        stay, centres = split(scores, tokens.feats.shape[1], least, budget)
        feats = merge(tokens.feats, scores, tokens.feats, stay, centres, self.sums)
        order = torch.argsort(torch.cat((stay, centres)))
        feats = torch.cat((feats[order], feats[len(order) :]))
        return VisualTokens(feats, (1, len(feats)))


def received_whole(tap: Tap) -> Tensor:
    """[P]: attention received, mean over query rows; one softmax over the full width, not one a head, as published."""
    queries, keys = (states.transpose(0, 1).flatten(1) for states in (tap.queries, tap.keys))
    logits: Tensor = queries @ keys.T * keys.shape[1] ** -0.5
    return logits.softmax(-1).mean(0)


def split(scores: Tensor, of: int | None = None, least: int = 0, most: int | None = None) -> tuple[Tensor, Tensor]:
    """Tokens that stay, int64 rising, and centres among the others, int64 in falling order of `scores` [N].

    As many stay as there are outliers among the scores, `least` at least. There are as many centres as the share of
    outliers among the other scores is of `of`: the paper's number that stay where it is None, the features' width D in
    the release. With `most`, both and the one more for the rest are no more than that, those that stay first.
    Source: token_recycling_with_text_in_vision_and_clustring of llava/model/multimodal_encoder/clip_encoder.py in
    banjiuyufen/Recoverable-Compression, its text without a say.
    """
    limit = len(scores) if most is None else min(most, len(scores))
    stay = top(scores, min(max(_share(scores, STAND_OUT, len(scores)), least), limit))
    others = torch.ones(len(scores), dtype=torch.bool, device=scores.device).index_fill(0, stay, False)
    rest = others.nonzero()[:, 0]
    centres = min(_share(scores[rest], CENTRES, len(stay) if of is None else of), limit - len(stay) - 1)
    order = torch.argsort(scores[rest], descending=True, stable=True)
    return stay, rest[order[: max(0, centres)]]


def _share(scores: Tensor, neighbours: int, of: int) -> int:
    """The share of outliers among `scores`, of `of` tokens: cut, in the authors' order of the floating point."""
    return int(of * (int(outliers(scores, neighbours).sum()) / max(1, len(scores))))


def merge(feats: Tensor, scores: Tensor, keys: Tensor, stay: Tensor, centres: Tensor, sums: bool = True) -> Tensor:
    """[s + c + 1, D]: rows of `feats` [N, D] that `stay` [s], `centres` [c] with what they took in, one for the rest.

    A centre adds its 32 nearest of all that do not stay, by the cosine of `keys` [N, C], each times its score of
    `scores` [N]; they may be taken in by several, and are as they were before. The last row is the sum over all that
    neither stay nor are centres. As published there is no such row where there are no centres. Not `sums`: the mean,
    where a centre too weighs its score.
    """
    x, weights = feats.float(), scores.float()
    if not len(centres):
        return feats[stay]
    others = torch.ones(len(feats), dtype=torch.bool, device=feats.device).index_fill(0, stay, False)
    alike = cosines(keys[centres], keys).masked_fill(~others, -torch.inf)
    alike[torch.arange(len(centres)), centres] = -torch.inf
    partners = alike.topk(min(PARTNERS, int(others.sum()) - 1)).indices  # [c, p]
    share = weights[partners]
    taken = (x[partners] * share[:, :, None]).sum(1)
    rest = others.index_fill(0, centres, False)
    left = (x[rest] * weights[rest, None]).sum(0, keepdim=True)
    own = x[centres]
    if not sums:
        taken = (taken + own * weights[centres, None]) / (share.sum(1) + weights[centres]).clamp_min(TINY)[
            :, None
        ] - own
        left = left / weights[rest].sum().clamp_min(TINY)
    return torch.cat((feats[stay], (own + taken).to(feats.dtype), left.to(feats.dtype)))
