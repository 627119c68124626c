"""Stage 2: fewer patches inside the vision tower, so that its later blocks cost less. What comes out is a whole grid.

patches [P, C] --block, thin, block, thin, ..--> rows [n, C] --back to their places--> [P, C] --project, pool--> [N, D]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from stream.policy import Paper, one
from stream.tap import Tap


@dataclass(frozen=True, slots=True)
class Patches:
    """One frame between two blocks. Read only: `thin` gives a new one, or the same where nothing leaves."""

    feats: Tensor  # [n, C]
    sizes: Tensor  # float32 [n]: how many patches each row stands for; log(size) joins the logits of its key
    back: Tensor  # int64 [P]: the row that stands for each patch of the grid; or float32 [P, n], weights that mix rows

    @classmethod
    def whole(cls, feats: Tensor) -> Patches:
        """Every patch [P, C] stands for itself."""
        count = len(feats)
        return cls(feats, torch.ones(count, device=feats.device), torch.arange(count, device=feats.device))

    def kept(self, places: Tensor, owner: Tensor) -> Patches:
        """Only rows `places` [m], rising; `owner` [n] says which row (one of `places`) stands for each from now on."""
        rank = torch.zeros(len(self.feats), dtype=torch.long, device=places.device)
        rank[places] = torch.arange(len(places), device=places.device)
        return Patches(self.feats[places], self.sizes[places], self.send(rank[owner]))

    def send(self, where: Tensor) -> Tensor:
        """`back` after row i became row `where[i]` (int64 [n])."""
        if self.back.dtype == torch.int64:
            return where[self.back]
        width = int(where.max()) + 1
        return torch.zeros(len(self.back), width, device=self.back.device).index_add(1, where, self.back)

    def restored(self) -> Tensor:
        """The whole grid again, [P, C]."""
        return self.feats[self.back] if self.back.dtype == torch.int64 else self.back.to(self.feats) @ self.feats


class Thinning(Protocol):
    """One frame's way through the tower. Made for each frame, and gone after it."""

    def thin(self, block: int, patches: Patches, tap: Tap) -> Patches:
        """After attention and residual of `block`, before its MLP. Rows of `tap` are those of `patches`.

        Rows stay in raster order, of a patch that each stands for.
        """
        ...


class Tower(Protocol):
    """Makes rows fewer on the way. One object serves all cameras; frames are thinned one by one, so a batch is equal to
    its frames."""

    paper: ClassVar[Paper]

    @property
    def share(self) -> float:
        """Of the attention weights of a head that are used, the largest; 1.0 is all, and the fast kernel."""
        ...

    def start(self, embeddings: Tensor, grid: tuple[int, int], blocks: int) -> Thinning | None:
        """A frame begins: patch `embeddings` [P, C] before the first of `blocks` blocks. None: it is left whole."""
        ...


TABLE: dict[str, str] = {
    "none": "stream.tower.none:Nothing",
    "uniform": "stream.tower.uniform:Uniform",
    "random": "stream.tower.random:Random",
    "gtp": "stream.tower.gtp:Gtp",
    "flowcut": "stream.tower.flowcut:FlowCut",
    "zerotprune": "stream.tower.zerotprune:ZeroTPrune",
    "transforming": "stream.tower.transforming:Transforming",
    "tempme": "stream.tower.tempme:TempMe",
    "stvit": "stream.tower.stvit:Stvit",
}


def make(spec: Mapping[str, Mapping[str, Any]]) -> Tower:
    """From a one-key map, e.g. `{"gtp": {"keep": 0.5}}`."""
    method: Tower = one("model.tower", TABLE, spec)
    return method
