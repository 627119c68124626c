"""Nothing is lost without being counted, the newest wins, and `put` never waits."""

from __future__ import annotations

import threading

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from stream.mailbox import Mailbox


class MailboxMachine(RuleBasedStateMachine):
    """The mailbox against a plain list."""

    @initialize(capacity=st.integers(1, 4))
    def create(self, capacity: int) -> None:
        self.notified = 0
        self.box: Mailbox[int] = Mailbox(capacity, self.notify)
        self.model: list[int] = []
        self.put_count = self.taken = 0

    def notify(self) -> None:
        self.notified += 1

    @rule()
    def put(self) -> None:
        fits = len(self.model) < self.box.capacity
        assert self.box.put(self.put_count) is fits
        self.model = [*self.model, self.put_count][-self.box.capacity :]
        self.put_count += 1

    @rule(wait=st.booleans())
    def take(self, wait: bool) -> None:
        expected = self.model.pop(0) if self.model else None
        self.taken += expected is not None
        assert (self.box.take(0.0) if wait else self.box.take_nowait()) == expected

    @rule()
    def drain(self) -> None:
        assert self.box.drain() == self.model
        self.taken += len(self.model)
        self.model = []

    @invariant()
    def counts_add_up(self) -> None:
        counts = self.box.counts()
        assert counts.put == counts.taken + counts.dropped + counts.held == self.put_count == self.notified
        assert (counts.taken, counts.held) == (self.taken, len(self.model)) == (self.taken, len(self.box))


TestMailbox = MailboxMachine.TestCase
TestMailbox.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)


def test_threads_lose_nothing() -> None:
    box: Mailbox[int] = Mailbox(3)
    threads = [threading.Thread(target=lambda: [box.put(i) for i in range(2000)]) for _ in range(3)]
    got = []
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        got += [item for item in [box.take(0.01)] if item is not None]
    counts = box.counts()
    assert counts.put == 6000 == counts.dropped + counts.taken + counts.held
    assert counts.taken == len(got)


def test_take_wakes_up_on_put() -> None:
    box: Mailbox[str] = Mailbox()
    timer = threading.Timer(0.05, lambda: box.put("frame"))
    timer.start()
    assert box.take(5.0) == "frame"
    timer.join()


def test_capacity_is_checked() -> None:
    with pytest.raises(ValueError, match="got 0"):
        Mailbox(0)
