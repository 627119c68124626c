"""A question over HTTP: the same rules, ids and answers as at the broker's desk; the caller waits or reads pieces.

body -> parse_query -> ledger (shared with MQTT) -> engine -> Pending: pieces as they come, then the answer
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable

from daemon.desk import Desk
from daemon.job import Sinks
from daemon.messages import Answer, Query
from daemon.payloads import Arrival, BadQuery, encode_answer, encode_chunk, is_id, parse_query
from daemon.web.errors import ApiError


class Pending:
    """A question that is being answered. Pieces that nobody fetched yet are joined: it never holds more than the
    answer's text."""

    def __init__(self, query: Query) -> None:
        self.query = query
        self.answer: Answer | None = None
        self._text = ""
        self._sent = 0
        self._news = asyncio.Event()

    def chunk(self, text: str) -> None:
        """The next piece."""
        if self.answer is None and self.query.stream:
            self._text += text
            self._news.set()

    def finish(self, answer: Answer) -> None:
        """The whole."""
        self.answer = answer
        self._news.set()

    async def pieces(self) -> AsyncIterator[bytes]:
        """Encoded chunks until the answer is there."""
        while True:
            await self._news.wait()
            self._news.clear()
            if self._text:
                text, self._text = self._text, ""
                self._sent += 1
                yield encode_chunk(self.query.id, self._sent - 1, text)
            if self.answer is not None:
                return

    async def wait(self) -> Answer:
        """The answer, when it is there."""
        while self.answer is None:
            await self._news.wait()
            self._news.clear()
        return self.answer


class Asking:
    """Takes questions for `ask`, which hands them to the engine and calls its sinks on the event loop."""

    def __init__(self, desk: Desk, ask: Callable[[Query, Sinks], None]) -> None:
        self._desk, self._ask = desk, ask
        self._rng = random.Random()

    def take(self, body: bytes, is_json: bool = False) -> Pending:
        """Take one question over; what is said to be JSON has to be an object.

        Raises ApiError: 400 for what parse_query refuses, 409 for an id that is in use.
        """
        if is_json and not body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
            self._desk.counts.refused += 1
            raise ApiError(400, "a question in JSON is an object with `question`; send a plain one as text/plain")
        arrival = Arrival(None, time.time(), f"{self._rng.getrandbits(64):016x}")
        try:
            request = parse_query(body, arrival, self._desk.rules)
        except BadQuery as error:
            self._desk.counts.refused += 1
            raise ApiError(400, str(error)) from error
        query, ledger = request.query, self._desk.ledger
        pending = Pending(query)
        known = ledger.open(query)
        if known == "other":
            raise ApiError(409, f"id {query.id!r} was used for another question; choose a new one")
        if known == "pending":
            raise ApiError(409, f"id {query.id!r} is being answered; ask again soon for the same answer")
        if isinstance(known, Answer):
            self._desk.counts.repeated += 1
            pending.finish(known)
            return pending
        self._desk.counts.asked += 1

        def finish(answer: Answer) -> None:
            ledger.close(query.id, answer)
            pending.finish(answer)

        self._ask(query, Sinks(pending.chunk, finish))
        return pending

    def encode(self, answer: Answer) -> bytes:
        """As at the broker; pictures are numbered the same."""
        return encode_answer(answer, self._desk.topics)

    def picture(self, query_id: str, number: int) -> bytes:
        """The JPEG of an answer that is remembered. Raises ApiError."""
        if not is_id(query_id):
            raise ApiError(400, "id: must be 1 to 64 of A-Z a-z 0-9 _ . -")
        answer = self._desk.ledger.answer(query_id)
        if answer is None:
            raise ApiError(404, f"no answer {query_id!r}; the newest 256 are kept, for an hour")
        if not 0 <= number < len(answer.evidence) or not answer.evidence[number].jpeg:
            raise ApiError(404, f"answer {query_id!r} has no picture {number}")
        return answer.evidence[number].jpeg
