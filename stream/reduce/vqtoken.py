"""A frame in a few codes, the means of clusters of its tokens by direction: VQToken without its trained part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from stream.policy import Paper
from stream.reduce import Seen
from stream.reduce.dull import Dull
from stream.types import VisualTokens

VQTOKEN = (
    "VQToken: Neural Discrete Token Representation Learning for Extreme Token Reduction in Video Large Language Models"
)
FLOOR = 1e-6  # chance of a row that is a seed already
ROUNDS, SHIFT = 100, 1e-4


class Codes(NamedTuple):
    """A codebook, and which code stands where: enough to say when and where a code was seen."""

    means: Tensor  # [K, C] means of members of length 1, in the dtype of what was coded; 0 of a code without members
    labels: Tensor  # uint8 [T, N]: every token's code


def seeds(x: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """k-means++: int64 [count], rows of `x` [n, C], float32; by Euclidean distance. `rng` draws on the CPU.

    The first by chance, each next one with a chance of its squared distance to the nearest so far plus 1e-6.
    """
    chosen = [int(torch.randint(0, len(x), (1,), generator=rng))]
    near = torch.cdist(x, x[chosen])[:, 0]
    for _ in range(1, count):
        weights = near.square() + FLOOR
        chosen.append(int(torch.multinomial((weights / weights.sum()).cpu(), 1, generator=rng)))
        near = torch.minimum(near, torch.cdist(x, x[chosen[-1:]])[:, 0])
    return torch.tensor(chosen, device=x.device)


def kmeans(x: Tensor, centres: Tensor, rounds: int = ROUNDS) -> Tensor:
    """int64 [n]: the centre that each row of `x` [n, C], length 1, belongs to, by cosine, from `centres` [K, C] on.

    A centre becomes the mean of its rows, and stays where it has none; until all together move by less than 1e-4.
    """
    count = len(centres)
    for _ in range(rounds):
        labels = (1 - F.normalize(x, dim=1) @ F.normalize(centres, dim=1).T).argmin(1)
        members = torch.bincount(labels, minlength=count)[:, None]
        sums = torch.zeros_like(centres).index_add(0, labels, x)
        moved = torch.where(members > 0, sums / members.clamp(min=1), centres)
        if (centres - moved).norm() < SHIFT:
            break
        centres = moved
    return labels


def quantise(x: Tensor, count: int, rng: torch.Generator) -> Codes:
    """`count` codes, 1 to 256, of the tokens `x` [T, N, C]: the authors' arithmetic (Hai-chao-Zhang/VQToken).

    Tokens are brought to length 1, clustered by cosine, and a code is the mean of its members. Their `elbow` tries 12
    to 32 codes and counts wrongly, so that it gives 12 to 22; the number is given here.
    """
    if not 1 <= count <= 256:
        raise ValueError(f"an index in uint8 holds 1 to 256 codes, got {count}")
    flat = F.normalize(x.flatten(0, 1).float(), dim=1)
    labels = kmeans(flat, flat[seeds(flat, count, rng)])
    members = torch.bincount(labels, minlength=count)[:, None]
    means = torch.zeros(count, x.shape[2], device=x.device).index_add(0, labels, flat) / members.clamp(min=1)
    return Codes(means.to(x.dtype), labels.view(x.shape[:2]).to(torch.uint8))


def lengthened(feats: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Codes of `feats` [N, D] as a language model can read them: ([k, D], int64 [k], rising: each one's first token).

    k <= `count`: codes that have members. A code has the direction of its mean and its members' mean length times the
    mean's own, so that tokens that are all the same give themselves.
    """
    means, found = quantise(feats.float()[None], min(count, len(feats), 256), torch.Generator().manual_seed(seed))
    labels = found[0].long()
    members = torch.bincount(labels, minlength=len(means))
    lengths = torch.zeros_like(means[:, 0]).index_add(0, labels, feats.float().norm(dim=1)) / members.clamp(min=1)
    stood = torch.arange(len(feats), device=feats.device)
    first = torch.full_like(members, len(feats)).scatter_reduce(0, labels, stood, "amin")
    order = first.argsort()[: int((members > 0).sum())]
    return (means * lengths[:, None])[order].to(feats.dtype), first[order]


@dataclass(frozen=True)
class VqToken(Dull):
    """K-means by cosine over the frame's tokens; its codes stand where the first of their members stood.

    `dull`: most tokens of a frame whose gate score is below `below`; 0 is all of them. At most 256.
    `keen`: most tokens of every other frame; 0 is all of them.
    `below`: a frame with a lower score is dull.
    `seed`: of the first centres.
    """

    seed: int = 0

    paper: ClassVar[Paper] = Paper(
        title=VQTOKEN,
        link="https://arxiv.org/abs/2503.16980",
        fidelity="style",
        differs="a codebook for each frame, of a number that is given; codes get their members' length back, since no "
        "checkpoint of ours was trained on codes; no trained VQ-Attn. `quantise` gives what the authors' code gives",
    )

    def shrink(self, seen: Sequence[Seen], budget: int) -> VisualTokens:
        """See Dull."""
        newest = seen[-1].tokens
        codes, places = lengthened(newest.feats, budget, self.seed)
        kept = newest.only(places)
        return VisualTokens(codes, kept.grid, kept.places)
