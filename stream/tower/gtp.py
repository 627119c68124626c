"""Patches that matter least pass what they hold on to their neighbours on a graph, then leave (GTP-ViT)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from stream.ops import cosines, strongest, top
from stream.policy import Paper
from stream.tap import Tap
from stream.tower import Patches, Thinning, Tower
from stream.tower.cut import corners, only, portion

Kind = Literal["spatial", "semantic", "mixed"]


@dataclass(frozen=True)
class Gtp(Tower):
    """The same number of patches leaves after each block from `first` on.

    `keep`: share of the patches that is left at the end.
    `first`: the first such block, a share of the tower's depth.
    `alpha`: how much of what it holds a patch passes on.
    `share`: of the attention weights of a head that are used, the largest; 1 is all, and the fastest here.
    `graph`: `spatial` (the 8 around), `semantic` (those most alike) or `mixed` (both).
    `neighbours`: how many are most alike.
    """

    keep: float = 0.5
    first: float = 0.15
    alpha: float = 0.3
    share: float = 1.0
    graph: Kind = "mixed"
    neighbours: int = 8
    paper: ClassVar[Paper] = Paper(
        "GTP-ViT: Efficient Vision Transformers via Graph-based Token Propagation",
        "https://arxiv.org/abs/2311.03035",
        "parity",
        "Rows keep their order and no propagation is the identity. The count per block follows from the share that is "
        "to be left. A patch that left is given the nearest on the grid for the pooling; the authors have no pooling.",
    )

    def __post_init__(self) -> None:
        if not (0 < self.keep <= 1 and 0 <= self.first < 1 and 0 < self.share <= 1):
            raise ValueError(f"keep, share in (0, 1] and first in [0, 1), got {self.keep}, {self.share}, {self.first}")
        if self.graph not in get_args(Kind):
            raise ValueError(f"graph is one of {', '.join(get_args(Kind))}, got {self.graph!r}")
        if self.neighbours < 1 or self.alpha < 0:
            raise ValueError(f"neighbours >= 1 and alpha >= 0, got {self.neighbours} and {self.alpha}")

    def start(self, embeddings: Tensor, grid: tuple[int, int], blocks: int) -> Thinning | None:
        """See Tower."""
        left = portion(len(embeddings), self.keep)
        if left == len(embeddings) and self.share == 1:
            return None
        first = int(self.first * blocks)
        counts = torch.linspace(len(embeddings), left, blocks - first + 1).round().int().tolist()
        made = {"semantic": lambda: semantic(embeddings, self.neighbours), "spatial": lambda: spatial(grid)}
        parts = [made[kind]().to(embeddings.device) for kind in made if self.graph in (kind, "mixed")]
        graph = normalised(torch.stack(parts).amax(0))
        return Propagation(self, [len(embeddings)] * first + counts[1:], [corners(grid, embeddings.device), graph])


@dataclass(frozen=True)
class Propagation:
    """See Thinning."""

    method: Gtp
    counts: list[int]  # rows that are left after each block
    state: list[Tensor] = field(default_factory=list)  # places on the grid [n, 2], the graph [n, n]

    def thin(self, block: int, patches: Patches, tap: Tap) -> Patches:
        """See Thinning. Sizes are the authors' scales."""
        if self.counts[block] == len(patches.feats):
            return patches
        where, graph = self.state
        maps = (strongest(own[None], self.method.share)[0] for own in tap.maps(patches.sizes.log()))
        places = top(mixed_max(maps), self.counts[block])
        feats, sizes = (
            propagate(own, graph, places, self.method.alpha) for own in (patches.feats, patches.sizes[:, None])
        )
        kept, where = only(patches, places, where)
        self.state[:] = [where, graph[places][:, places]]
        return replace(kept, feats=feats, sizes=sizes[:, 0])


def spatial(grid: tuple[int, int]) -> Tensor:
    """float32 [P, P]: 1 between patches that touch, corners too; 0 for itself."""
    where = corners(grid, torch.device("cpu"))
    return (torch.cdist(where, where, p=torch.inf).round() == 1).float()


def semantic(embeddings: Tensor, neighbours: int) -> Tensor:
    """float32 [P, P]: row i is 1 at the `neighbours` + 1 patches most alike to i by cosine, and at all that equal the
    last of them; 0 for itself. Not symmetric. One more than asked for, as the authors' code has it without CLS."""
    alike = cosines(embeddings)
    count = len(alike)
    least = alike.kthvalue(max(1, count - 1 - neighbours), dim=1, keepdim=True).values
    return (alike >= least).float().fill_diagonal_(0)


def normalised(graph: Tensor) -> Tensor:
    """D^-1/2 G D^-1/2 of a graph [P, P], with the row sums as degrees; 0 where a row has no neighbour."""
    scale = graph.sum(1).rsqrt()
    scale = torch.where(scale.isfinite(), scale, 0.0)
    return scale[:, None] * graph * scale


def mixed_max(maps: Iterable[Tensor]) -> Tensor:
    """MixedAttnMax [n] of attention weights, [n, n] for each head: the most that any head lets a token read of itself,
    times the most that any head lets all tokens read of it."""
    parts = [torch.stack((own.diagonal(), own.sum(0))) for own in maps]
    return torch.stack(parts).amax(0).prod(0)


def propagate(x: Tensor, graph: Tensor, places: Tensor, alpha: float) -> Tensor:
    """Rows `places` [m] of `x` [n, C], and on top of each `alpha` of what the others pass on along `graph` [n, n]."""
    gone = torch.ones(len(x), dtype=torch.bool, device=x.device)
    gone[places] = False
    passed = graph[places][:, gone] @ x[gone].float()
    return (x[places].float() + alpha * passed).to(x.dtype)
