"""The hand-off from a camera's thread to the engine: bounded, and the newest frame wins.

A camera must never wait for the model, and the model must never work through old frames. So `put` never blocks:
when the box is full, the OLDEST item goes and is counted. Always: in == taken + dropped + held.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Condition
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class MailboxCounts:
    """One consistent reading: `put == taken + dropped + held`."""

    put: int
    taken: int
    dropped: int
    held: int


class Mailbox(Generic[T]):
    """Thread-safe queue of at most `capacity` items that drops its oldest.

    `notify` is called after each put, in the putting thread and without the lock, so it may take other locks; it
    must return fast and must not raise.
    """

    def __init__(self, capacity: int = 2, notify: Callable[[], None] | None = None) -> None:
        if capacity < 1:
            raise ValueError(f"mailbox capacity must be at least 1, got {capacity}")
        self.capacity = capacity
        self._notify = notify
        self._items: deque[T] = deque()
        self._filled = Condition()
        self._put = self._taken = self._dropped = 0

    def put(self, item: T) -> bool:
        """Add `item`; False when an older one had to go for it."""
        with self._filled:
            fits = len(self._items) < self.capacity
            if not fits:
                self._items.popleft()
                self._dropped += 1
            self._items.append(item)
            self._put += 1
            self._filled.notify()
        if self._notify is not None:
            self._notify()
        return fits

    def take(self, timeout_s: float | None = None) -> T | None:
        """The oldest held item; waits at most `timeout_s` (None: for ever) and gives None when it stayed empty."""
        with self._filled:
            if not self._filled.wait_for(lambda: bool(self._items), timeout_s):
                return None
            return self._pop()

    def take_nowait(self) -> T | None:
        """The oldest held item, or None."""
        with self._filled:
            return self._pop() if self._items else None

    def drain(self) -> list[T]:
        """All held items, oldest first; the box is empty afterwards. They count as taken."""
        with self._filled:
            items = list(self._items)
            self._items.clear()
            self._taken += len(items)
            return items

    def counts(self) -> MailboxCounts:
        """The counters, read together."""
        with self._filled:
            return MailboxCounts(self._put, self._taken, self._dropped, len(self._items))

    def __len__(self) -> int:
        with self._filled:
            return len(self._items)

    def _pop(self) -> T:
        self._taken += 1
        return self._items.popleft()
