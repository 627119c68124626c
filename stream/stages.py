"""Where do the milliseconds go? A stopwatch per stage, handed in like a clock; off by default, and then nearly free.

    with stages.span("tower"):
        with stages.span("patches"): ...     spans nest; the outer one is the parent

`Stages` itself measures nothing: it is the default everywhere (`OFF`). `Recorder` keeps what it measured.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
_END = object()
_NOTHING: AbstractContextManager[None] = nullcontext()  # holds no state, so one serves all threads at once


class Stages:
    """The stopwatch that is off. Every method may be called from any thread."""

    def span(self, name: str) -> AbstractContextManager[None]:  # noqa: ARG002
        """Measures what runs inside `with`, under `name`; also when that raises."""
        return _NOTHING

    def note(self, name: str, began_ns: int, lasted_ns: int) -> None:
        """Something that was measured elsewhere, by `time.perf_counter_ns`."""

    def steps(self, name: str, items: Iterable[T]) -> Iterator[T]:  # noqa: ARG002
        """`items`, each `next` measured under `name`."""
        return iter(items)


OFF = Stages()


@dataclass(frozen=True, slots=True)
class Timed:
    """One measured span. `parent` is the number of the span around it in the same thread, None for an outermost."""

    number: int
    parent: int | None
    name: str
    thread: str
    began_ns: int  # on the recorder's clock
    lasted_ns: int


class Recorder(Stages):
    """Keeps at most `limit` spans, the first ones to end; what comes after is counted in `dropped`.

    `settle` is called before a span ends, e.g. `torch.cuda.synchronize`: work that was only queued until then would
    else be put down to whichever stage waits for it.
    """

    def __init__(
        self,
        limit: int = 200_000,
        settle: Callable[[], None] | None = None,
        clock_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        if limit < 1:
            raise ValueError(f"a recorder needs room for at least one span, got limit {limit}")
        self.limit, self.settle, self.clock_ns = limit, settle, clock_ns
        self.dropped = 0
        self._spans: list[Timed] = []
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._open = threading.local()

    @property
    def spans(self) -> list[Timed]:
        """What was measured so far, in the order of its end."""
        with self._lock:
            return list(self._spans)

    def span(self, name: str) -> AbstractContextManager[None]:
        """See Stages."""
        return _Span(self, name)

    def note(self, name: str, began_ns: int, lasted_ns: int) -> None:
        """See Stages; its parent is the span that is open in this thread."""
        stack = self._stack()
        self._keep(next(self._numbers), stack[-1] if stack else None, name, began_ns, lasted_ns)

    def steps(self, name: str, items: Iterable[T]) -> Iterator[T]:
        """See Stages; the last `next`, which finds only the end, is no step."""
        rest = iter(items)
        while True:
            opened, item = self.begin(), _END
            try:
                item = next(rest, _END)
            finally:
                if item is _END:
                    self._stack().pop()
                else:
                    self.end(name, *opened)
            if item is _END:
                return
            yield item  # type: ignore[misc]

    def begin(self) -> tuple[int, int | None, int]:
        """For `_Span`: its number, its parent, and when it began."""
        stack, number = self._stack(), next(self._numbers)
        parent = stack[-1] if stack else None
        stack.append(number)
        return number, parent, self.clock_ns()

    def end(self, name: str, number: int, parent: int | None, began_ns: int) -> None:
        """For `_Span`: what `begin` gave is over."""
        if self.settle is not None:
            self.settle()
        lasted_ns = self.clock_ns() - began_ns
        self._stack().pop()
        self._keep(number, parent, name, began_ns, lasted_ns)

    def _stack(self) -> list[int]:
        """Numbers of the spans that are open in this thread."""
        stack: list[int] | None = getattr(self._open, "stack", None)
        if stack is None:
            stack = self._open.stack = []
        return stack

    def _keep(self, number: int, parent: int | None, name: str, began_ns: int, lasted_ns: int) -> None:
        timed = Timed(number, parent, name, threading.current_thread().name, began_ns, lasted_ns)
        with self._lock:
            if len(self._spans) < self.limit:
                self._spans.append(timed)
            else:
                self.dropped += 1


class _Span(AbstractContextManager[None]):
    """One use of a recorder's `with`."""

    __slots__ = ("_began", "_name", "_recorder")

    def __init__(self, recorder: Recorder, name: str) -> None:
        self._recorder, self._name = recorder, name

    def __enter__(self) -> None:
        self._began = self._recorder.begin()

    def __exit__(self, *_fault: object) -> None:
        self._recorder.end(self._name, *self._began)
