"""The attention of one tower block, computed again beside the forward: the tower itself never leaves its fast kernel.

What the block read is kept; queries, keys and values are projected from it when a method asks. Scores live on the
tower's own patches; `pool` brings them to the token grid as the features were brought there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property

from torch import Tensor

Project = Callable[[], tuple[Tensor, Tensor, Tensor]]


def as_is(scores: Tensor) -> Tensor:
    """Where patches are the tokens, nothing is pooled."""
    return scores


class Tap:
    """One block over one frame's n rows. Results are float32."""

    def __init__(self, project: Project, pool: Callable[[Tensor], Tensor] = as_is) -> None:
        """`project` gives the block's queries, keys and values [heads, n, Dh]; `pool` takes [P] scores to [N]."""
        self._project = project
        self.pool = pool

    @classmethod
    def of(cls, queries: Tensor, keys: Tensor, values: Tensor, pool: Callable[[Tensor], Tensor] = as_is) -> Tap:
        """Of tensors that are known, [heads, n, Dh] each."""
        return cls(lambda: (queries, keys, values), pool)

    @cached_property
    def _states(self) -> tuple[Tensor, Tensor, Tensor]:
        queries, keys, values = self._project()
        return queries.float(), keys.float(), values.float()

    @property
    def queries(self) -> Tensor:
        """[heads, n, Dh]."""
        return self._states[0]

    @property
    def keys(self) -> Tensor:
        """[heads, n, Dh]."""
        return self._states[1]

    @property
    def values(self) -> Tensor:
        """[heads, n, Dh]."""
        return self._states[2]

    def attend(self, queries: Tensor, bias: Tensor | None = None) -> Tensor:
        """Weights [heads, q, n] of `queries` [heads, q, Dh] over the block's keys; `bias` [n] joins the logits."""
        logits = queries @ self.keys.transpose(1, 2) * self.keys.shape[2] ** -0.5
        return (logits if bias is None else logits + bias).softmax(-1)  # type: ignore[no-any-return]

    def weights(self, bias: Tensor | None = None) -> Tensor:
        """The whole map [heads, n, n]: rows are queries. `maps` needs less memory."""
        return self.attend(self.queries, bias)

    def maps(self, bias: Tensor | None = None) -> Iterator[Tensor]:
        """The map [n, n] of each head."""
        queries = self.queries * self.keys.shape[2] ** -0.5
        for query, key in zip(queries, self.keys, strict=True):
            logits = query @ key.T
            yield (logits if bias is None else logits.add_(bias)).softmax(-1)

    def mean(self, bias: Tensor | None = None) -> Tensor:
        """The map [n, n], mean over heads."""
        return sum(self.maps(bias)) / len(self.keys)  # type: ignore[return-value]

    def only(self, rows: Tensor) -> Tap:
        """Of `rows` [m] alone, as if there were no others. Nothing is pooled."""
        return Tap.of(self.queries[:, rows], self.keys[:, rows], self.values[:, rows])

    def received(self, bias: Tensor | None = None) -> Tensor:
        """Attention that each row gets [n]: mean over heads and query rows. Sums to 1: the substitute for a CLS row."""
        return self.mean(bias).mean(0)
