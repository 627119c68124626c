"""Forwards that repeat, captured as CUDA graphs: the GPU replays them without Python between two kernels.

    absorbing   the lanes of the same cameras again        lanes never move, and read as much at every frame
    one word    the boards of the same answers again       a board is as wide as its bucket; what is free is masked

A forward is captured when it comes for the third time; the least used captures leave. Where capturing fails, forwards
run as they are from then on: only slower.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable

import structlog
import torch
from torch import Tensor

from stream.attention import Side

Work = Callable[[], None]
AFTER = 3  # times that a forward comes before it is captured
LIMIT = 16  # captures held; each keeps the memory of its activations
COUNTED = 64  # kinds of forwards that are counted


def cuda(work: Work) -> Work:
    """Capture `work` on the current device; what is returned replays it. It must have run before."""
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        work()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


class Graphs:
    """Runs sides through `run`, or by replaying what `capture` made of such a run. One thread owns it."""

    def __init__(self, run: Callable[[Side], Tensor], capture: Callable[[Work], Work] = cuda) -> None:
        self._run, self._capture = run, capture
        self._known: OrderedDict[Hashable, _Captured] = OrderedDict()
        self._seen: Counter[Hashable] = Counter()
        self._works = True
        self._log = structlog.get_logger("longwatch.graphs")

    def __len__(self) -> int:
        return len(self._known)

    def forward(self, side: Side) -> Tensor:
        """Hidden states [1, tokens, D]; those of a replay are overwritten by the next one."""
        key = side.key if self._works else None
        if key is None:
            return self._run(side)
        if key not in self._known:
            self._seen[key] += 1
            if self._seen[key] < AFTER:
                if len(self._seen) > COUNTED:
                    self._seen.clear()  # they hold the memory that they name
                return self._run(side)
            if not self._take(key, side):
                return self._run(side)
        self._known.move_to_end(key)
        return self._known[key](side)

    def _take(self, key: Hashable, side: Side) -> bool:
        """Capture `side`; whether that worked."""
        try:
            self._known[key] = _Captured(side, self._run, self._capture)
        except RuntimeError as error:
            self._works = False
            self._known.clear()
            self._log.warning("CUDA graphs cannot be captured here; steps run without", reason=str(error))
            return False
        if len(self._known) > LIMIT:
            self._known.popitem(last=False)
        del self._seen[key]
        return True


class _Captured:
    """One captured forward, with inputs and outputs of its own."""

    def __init__(self, side: Side, run: Callable[[Side], Tensor], capture: Callable[[Work], Work]) -> None:
        self._side = side.still()
        self._hidden: Tensor | None = None

        def work() -> None:
            self._side.renew()
            self._hidden = run(self._side)

        self._replay = capture(work)

    def __call__(self, side: Side) -> Tensor:
        self._side.load(side)
        self._replay()
        side.adopt(self._side)
        assert self._hidden is not None
        return self._hidden
