"""What waits to be published: bounded in messages and bytes, outlives connections. Pure data: no clock, no tasks.

    put ----> waiting, by rank ----take----> in flight ----done----> gone
                  ^                              |
                  +----------- restore ----------+   (the connection broke: nothing acknowledged is lost)

Retained messages are different: only the latest of a topic counts, and all of them are due again on a new connection;
but those that are sent `once`, as answers are.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

MAX_OUTBOX_BYTES = 64 * 2**20


class Rank(IntEnum):
    """What is given up first when the box is full: the lowest."""

    LIVE = 0  # chunks: worth nothing when late
    PICTURE = 1  # evidence pictures
    KEEP = 2  # answers


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message. `retain` messages replace each other per topic."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    rank: Rank = Rank.KEEP
    content_type: str | None = None  # MQTT 5 only, like the next one
    correlation: bytes | None = None
    once: bool = False  # retained by the broker, but not brought again: others write there too

    @property
    def lasting(self) -> bool:
        """Whether it is due again on each new connection."""
        return self.retain and not self.once

    @property
    def size_bytes(self) -> int:
        """What the message costs to hold."""
        return len(self.payload) + len(self.topic) + len(self.correlation or b"")


@dataclass(frozen=True, slots=True)
class Ticket:
    """A message in flight; give it back with `done`."""

    seq: int
    message: Outgoing


class Outbox:
    """Messages for the broker. `len()` counts all that wait or are in flight."""

    def __init__(self, max_messages: int, max_bytes: int = MAX_OUTBOX_BYTES) -> None:
        self.max_messages = max_messages
        self.max_bytes = max_bytes
        self.size_bytes = 0  # of messages that are not retained; retained ones are bounded by their topics
        self.dropped = 0  # chunks and pictures given up; a retained state that a newer one replaced is no loss
        self.lost = 0  # answers given up: only when the box is full of answers
        self._seq = 0
        self._front = 0
        self._waiting: dict[Rank, deque[Ticket]] = {rank: deque() for rank in Rank}
        self._flying: OrderedDict[int, Ticket] = OrderedDict()
        self._latest: dict[str, Outgoing] = {}
        self._due: OrderedDict[str, int] = OrderedDict()  # retained topic -> its place in the order

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values())) + len(self._due) + len(self._flying)

    @property
    def urgent(self) -> bool:
        """Whether an answer waits or is in flight."""
        flying = any(
            ticket.message.rank is Rank.KEEP and not ticket.message.lasting for ticket in self._flying.values()
        )
        return flying or bool(self._waiting[Rank.KEEP])

    def put(self, message: Outgoing) -> None:
        """Take over `message`; when full, the oldest of the lowest rank is given up."""
        self._seq += 1
        if message.lasting:
            self._put_retained(message)
            return
        if message.size_bytes > self.max_bytes:
            self._give_up(message)
            return
        self._waiting[message.rank].append(Ticket(self._seq, message))
        self.size_bytes += message.size_bytes
        while self.size_bytes > self.max_bytes or self._held() > self.max_messages:
            if not self._evict():
                return  # all in flight: at most the sender's window, and it is about to shrink

    def take(self) -> Ticket | None:
        """The oldest waiting message, now in flight; None when nothing waits."""
        heads = [queue[0].seq for queue in self._waiting.values() if queue]
        due = next(iter(self._due.items()), None)
        if due is not None and (not heads or due[1] < min(heads)):
            del self._due[due[0]]
            ticket = Ticket(due[1], self._latest[due[0]])
        elif heads:
            queue = next(queue for queue in self._waiting.values() if queue and queue[0].seq == min(heads))
            ticket = queue.popleft()
        else:
            return None
        self._flying[ticket.seq] = ticket
        return ticket

    def done(self, ticket: Ticket) -> None:
        """The broker has it. A ticket that was restored meanwhile is ignored: it will be sent again."""
        if self._flying.pop(ticket.seq, None) is not None and not ticket.message.lasting:
            self.size_bytes -= ticket.message.size_bytes

    def restore(self) -> None:
        """The connection broke: what was in flight waits again in its old place; all retained ones are due first."""
        for ticket in reversed(self._flying.values()):  # taken oldest first, so each goes before what still waits
            if not ticket.message.lasting:
                self._waiting[ticket.message.rank].appendleft(ticket)
        self._flying.clear()
        self._front -= len(self._latest)
        self._due = OrderedDict((topic, self._front + place) for place, topic in enumerate(self._latest))

    def retained(self) -> Iterator[Outgoing]:
        """The latest message of every retained topic, in the order the topics were first used."""
        return iter(tuple(self._latest.values()))

    def _put_retained(self, message: Outgoing) -> None:
        if message.topic not in self._latest and len(self._latest) >= self.max_messages:
            self.dropped += 1
            return
        self._latest[message.topic] = message
        self._due.setdefault(message.topic, self._seq)

    def _held(self) -> int:
        return sum(map(len, self._waiting.values())) + sum(not t.message.lasting for t in self._flying.values())

    def _evict(self) -> bool:
        for queue in self._waiting.values():  # lowest rank first
            if queue:
                gone = queue.popleft().message
                self.size_bytes -= gone.size_bytes
                self._give_up(gone)
                return True
        return False

    def _give_up(self, message: Outgoing) -> None:
        if message.rank is Rank.KEEP:
            self.lost += 1
        else:
            self.dropped += 1
