"""The outbox under every order of put, take, done and restore."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from daemon.ledger import Ledger
from daemon.messages import Answer, Evidence, Query
from daemon.outbox import Outbox, Outgoing, Rank, Ticket
from stream.types import Span

LIMIT, BYTES = 6, 40


def message(text: str, rank: Rank = Rank.KEEP) -> Outgoing:
    return Outgoing("t", text.encode(), rank=rank)


def drain(box: Outbox) -> list[str]:
    out = []
    while (ticket := box.take()) is not None:
        out.append(ticket.message.payload.decode())
        box.done(ticket)
    return out


def test_oldest_chunks_leave_first_then_pictures_then_answers() -> None:
    box = Outbox(3)
    for text, rank in [
        ("c1", Rank.LIVE),
        ("a1", Rank.KEEP),
        ("p1", Rank.PICTURE),
        ("c2", Rank.LIVE),
        ("a2", Rank.KEEP),
    ]:
        box.put(message(text, rank))
    assert (box.dropped, box.lost) == (2, 0)
    box.put(message("a3"))
    assert (box.dropped, box.lost) == (3, 0)
    box.put(message("a4"))
    assert (box.dropped, box.lost) == (3, 1)
    assert drain(box) == ["a2", "a3", "a4"]


def test_bytes_are_bounded_too() -> None:
    box = Outbox(100, max_bytes=10)
    box.put(message("1234", Rank.PICTURE))
    box.put(message("12345"))
    box.put(message("x" * 11))
    assert (box.dropped, box.lost, box.size_bytes) == (1, 1, 6)


def test_a_retained_message_of_once_is_sent_in_order_and_not_again() -> None:
    box = Outbox(4)
    for text in ("1", "2"):
        box.put(Outgoing("set", text.encode(), retain=True, once=True))
    box.take()
    box.restore()
    assert drain(box) == ["1", "2"]
    box.restore()
    assert drain(box) == []


def test_only_the_latest_of_a_retained_topic() -> None:
    box = Outbox(4)
    for text in ("1", "2", "3"):
        box.put(Outgoing("state", text.encode(), retain=True))
    box.put(message("a"))
    assert drain(box) == ["3", "a"]
    assert box.dropped == 0


def test_a_new_connection_sends_retained_first_and_what_was_in_flight_again() -> None:
    box = Outbox(10)
    box.put(Outgoing("available", b"online", retain=True))
    box.put(message("a1"))
    box.put(message("a2"))
    assert box.take() is not None
    flying = box.take()
    assert flying is not None
    box.restore()
    box.done(flying)  # a late acknowledgement of the broken connection
    assert drain(box) == ["online", "a1", "a2"]
    box.restore()
    assert drain(box) == ["online"]


class Model(RuleBasedStateMachine):
    """Against a plain list of the answers that were put."""

    def __init__(self) -> None:
        super().__init__()
        self.box = Outbox(LIMIT, BYTES)
        self.flying: list[Ticket] = []
        self.put_count = self.done_count = 0
        self.sent: list[int] = []
        self.state: dict[str, bytes] = {}
        self.delivered: dict[str, bytes] = {}

    @rule(rank=st.sampled_from(Rank), size=st.integers(1, 12))
    def put(self, rank: Rank, size: int) -> None:
        self.put_count += 1
        self.box.put(Outgoing("", f"{self.put_count:0{size}d}".encode(), rank=rank))

    @rule(topic=st.sampled_from("abc"), value=st.binary(max_size=2))
    def put_retained(self, topic: str, value: bytes) -> None:
        self.state[topic] = value
        self.box.put(Outgoing(topic, value, retain=True))

    @precondition(lambda self: len(self.flying) < 3)
    @rule()
    def take(self) -> None:
        if (ticket := self.box.take()) is not None:
            self.flying.append(ticket)

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        ticket = self.flying.pop(data.draw(st.integers(0, len(self.flying) - 1)))
        self.box.done(ticket)
        if ticket.message.retain:
            self.delivered[ticket.message.topic] = ticket.message.payload
        else:
            self.done_count += 1

    @rule()
    def restore(self) -> None:
        self.box.restore()
        self.flying.clear()

    @invariant()
    def bounded(self) -> None:
        assert self.box._held() <= LIMIT
        assert self.box.size_bytes <= BYTES
        assert len(self.box._latest) <= LIMIT

    @invariant()
    def oldest_first(self) -> None:
        plain = [int(ticket.message.payload) for ticket in self.flying if not ticket.message.retain]
        assert plain == sorted(plain)

    def teardown(self) -> None:
        self.restore()
        rest = []
        while (ticket := self.box.take()) is not None:
            self.box.done(ticket)
            if ticket.message.retain:
                assert self.state[ticket.message.topic] == ticket.message.payload
            else:
                rest.append(int(ticket.message.payload))
        assert rest == sorted(rest)
        assert len(self.box) == self.box.size_bytes == 0
        given_up = self.put_count - self.done_count - len(rest)
        assert self.box.lost <= given_up <= self.box.lost + self.box.dropped


Model.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestModel = Model.TestCase


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(Rank), max_size=40))
def test_no_answer_is_lost_while_there_are_other_things_to_give_up(ranks: list[Rank]) -> None:
    box = Outbox(10)
    for index, rank in enumerate(ranks):
        box.put(message(str(index), rank))
    answers = [str(index) for index, rank in enumerate(ranks) if rank is Rank.KEEP]
    kept = [text for text in drain(box) if text in answers]
    assert kept == answers[-10:]


def ask(query_id: str, text: str = "who?", at_s: float = 0.0) -> Query:
    return Query(query_id, text, received_s=at_s)


def test_an_id_is_answered_once() -> None:
    ledger = Ledger()
    assert ledger.open(ask("a")) == "new"
    assert ledger.open(ask("a")) == "pending"
    answer = Answer("a", "ok", "yes")
    ledger.close("a", answer)
    ledger.close("a", Answer("a", "ok", "no"))
    assert ledger.open(ask("a")) is answer
    assert ledger.open(ask("a", "something else")) == "other"


def test_an_answer_that_is_repeated_shows_no_hidden_picture() -> None:
    ledger = Ledger()
    shown = (
        Evidence("door", Span(10.0, 20.0), 0.5, b"jpeg"),
        Evidence("yard", Span(10.0, 20.0), 0.3, b"jpeg"),
        Evidence("door", Span(40.0, 50.0), 0.2, b"jpeg"),
    )
    ledger.open(ask("a"))
    ledger.close("a", Answer("a", "ok", "yes", evidence=shown))
    ledger.hide("door")
    again = ledger.open(ask("a"))
    assert isinstance(again, Answer)
    assert [item.jpeg for item in again.evidence] == [b"", b"jpeg", b""]


@pytest.mark.parametrize(
    ("erased", "goes"),
    [
        (("door", 20.0, 30.0), True),  # touches its evidence
        (("door", 21.0, 30.0), True),  # was read for it
        (("door", 45.0, 60.0), False),  # lies after what was asked for
        (("yard", 0.0, 100.0), False),  # was not asked
        ((None, 0.0, 5.0), False),  # lies before what memory held
        ((None, 0.0, 10.0), True),
    ],
)
def test_an_answer_that_rests_on_an_erased_time_is_not_repeated(
    erased: tuple[str | None, float, float], goes: bool
) -> None:
    ledger, query = Ledger(), Query("a", "who?", ("door",))
    ledger.open(query)
    ledger.open(ask("pending"))
    shown = (Evidence("door", Span(10.0, 20.0), 0.5, b"jpeg"),)
    answer = Answer("a", "ok", "yes", evidence=shown, memory_from_s=8.0, memory_to_s=50.0, asked_to_s=40.0)
    ledger.close("a", answer)
    ledger.forget(*erased)
    assert ledger.open(ask("pending")) == "pending"
    assert ledger.open(query) == ("new" if goes else answer)


def test_a_busy_id_may_try_again() -> None:
    ledger = Ledger()
    ledger.open(ask("a"))
    ledger.close("a", Answer("a", "busy", "later"))
    assert ledger.open(ask("a")) == "new"


def test_the_ledger_is_bounded_in_number_and_time() -> None:
    ledger = Ledger(max_kept=4, kept_s=10.0)
    ledger.open(ask("pending"))
    for index in range(20):
        ledger.open(ask(f"q{index}"))
        ledger.close(f"q{index}", Answer(f"q{index}", "ok", "yes"))
        assert len(ledger) <= 4
    assert ledger.open(ask("pending")) == "pending"
    assert ledger.open(ask("q19", at_s=11.0)) == "new"
