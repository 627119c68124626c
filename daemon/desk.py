"""Where questions are taken and answers handed out: parse, refuse or ask, answer each id once. No network here.

delivery -> parse_query -> reply topic -> ledger -> on_query(query, reply) -> reply.chunk / reply.answer -> publish
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from daemon.ledger import Ledger
from daemon.messages import Answer, Query
from daemon.outbox import Outgoing, Rank
from daemon.payloads import Arrival, BadQuery, Request, Rules, encode_answer, encode_chunk, error_answer, parse_query
from daemon.settings import RESERVED_CAMERA_NAMES, Settings
from daemon.topics import Topics
from stream.errors import QueryError

JSON = "application/json"
JPEG = "image/jpeg"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message as it came. The last three exist in MQTT 5 only."""

    topic: str
    payload: bytes
    retain: bool = False
    reply_to: str | None = None
    correlation: bytes | None = None
    expiry_s: float | None = None


@dataclass(slots=True)
class DeskCounts:
    """What the desk did since the start."""

    asked: int = 0  # handed to the app
    refused: int = 0  # answered with an error here
    repeated: int = 0  # ids seen again


class Reply:
    """How the app answers one question. Call it on the event loop."""

    def __init__(self, desk: Desk, query: Query, topic: str, correlation: bytes | None) -> None:
        self._desk = desk
        self._correlation = correlation
        self._chunks = 0
        self.query = query
        self.topic = topic
        self.answered = False

    def chunk(self, text: str) -> None:
        """Publish the next piece of the answer. Nothing happens when no stream was asked, or after the answer."""
        if self.answered or not text or not self.query.stream:
            return
        payload = encode_chunk(self.query.id, self._chunks, text)
        self._chunks += 1
        topic = self._desk.topics.chunk(self.topic)
        self._desk.publish(Outgoing(topic, payload, 0, False, Rank.LIVE, JSON, self._correlation))

    def answer(self, answer: Answer) -> None:
        """Publish the answer and its pictures, under the question's id. The first counts; a second is ignored."""
        if self.answered:
            return
        self.answered = True
        self._desk.send(dataclasses.replace(answer, id=self.query.id), self.topic, self._correlation)


OnQuery = Callable[[Query, Reply], None]


class Desk:
    """Takes questions. `publish` must not block or raise; `on_query` may raise QueryError to refuse."""

    def __init__(
        self,
        settings: Settings,
        on_query: OnQuery,
        publish: Callable[[Outgoing], None],
        rng: random.Random,
        wall_s: Callable[[], float],
    ) -> None:
        self.topics = Topics(settings.mqtt.prefix, settings.mqtt.reply_prefixes)
        self.publish = publish
        self.counts = DeskCounts()
        self.configure(settings)
        self._on_query = on_query
        self._rng = rng
        self._wall_s = wall_s
        self.ledger = Ledger()
        self._log = structlog.stdlib.get_logger("longwatch.mqtt")

    def configure(self, settings: Settings) -> None:
        """From now on these are the cameras that can be asked, and the limits of a question."""
        self.rules = Rules(
            topics=self.topics,
            cameras=tuple(name for name, camera in settings.cameras.items() if camera.enabled),
            max_bytes=settings.mqtt.max_payload_bytes,
            max_chars=settings.answer.max_question_chars,
            deadline_s=settings.answer.deadline_s,
        )

    def take(self, delivery: Delivery) -> None:
        """Take one question over: afterwards it is answered, or the app will answer it."""
        camera = self.topics.camera_of(delivery.topic)
        if camera in RESERVED_CAMERA_NAMES:
            return  # our own answer to an id `query` lies on `<p>/answer/query`: answering it would never end
        arrival = Arrival(
            camera=camera,
            received_s=self._wall_s(),
            fresh_id=f"{self._rng.getrandbits(64):016x}",
            expiry_s=delivery.expiry_s,
        )
        try:
            request = parse_query(delivery.payload, arrival, self.rules)
        except BadQuery as error:
            where = self._reply_topic(delivery.reply_to, error.reply_to, error.query_id)[0]
            self._refuse(error.query_id, str(error), where, delivery.correlation)
            return
        where, problem = self._reply_topic(delivery.reply_to, request.reply_to, request.query.id)
        if delivery.retain:
            problem = f"retained question ignored; clear it with an empty retained message on {delivery.topic}"
        if problem is not None:
            self._refuse(request.query.id, problem, where, delivery.correlation)
            return
        self._ask(request, where, delivery.correlation)

    def send(self, answer: Answer, topic: str, correlation: bytes | None) -> None:
        """Publish `answer` on `topic` after its pictures, and remember it for repeats of its id."""
        self.ledger.close(answer.id, answer)
        for index, item in enumerate(answer.evidence):
            if item.jpeg:
                place = self.topics.evidence(answer.id, index)
                self.publish(Outgoing(place, item.jpeg, 1, False, Rank.PICTURE, JPEG))
        self.publish(Outgoing(topic, encode_answer(answer, self.topics), 1, False, Rank.KEEP, JSON, correlation))

    def _reply_topic(self, wanted: str | None, reply_to: str | None, query_id: str) -> tuple[str, str | None]:
        """Where to answer, and what is wrong with the MQTT 5 response topic if we cannot answer there."""
        fallback = reply_to or self.topics.answer(query_id)
        if wanted is None:
            return fallback, None
        try:
            return self.topics.check_reply(wanted), None
        except QueryError as error:
            return fallback, str(error)

    def _refuse(self, query_id: str, text: str, topic: str, correlation: bytes | None) -> None:
        """Answer with an error, past the ledger: a corrected question may use the id again."""
        self.counts.refused += 1
        self._log.warning("question refused", id=query_id, reason=text, topic=topic)
        payload = encode_answer(error_answer(query_id, text, self._wall_s()), self.topics)
        self.publish(Outgoing(topic, payload, 1, False, Rank.KEEP, JSON, correlation))

    def _ask(self, request: Request, topic: str, correlation: bytes | None) -> None:
        query = request.query
        known = self.ledger.open(query) if request.named else "new"
        if known == "other":
            text = f"id {query.id!r} was used for another question; choose a new one"
            self._refuse(query.id, text, topic, correlation)
            return
        if known != "new":
            self.counts.repeated += 1
            self._log.info("question repeated", id=query.id, answered=known != "pending")
            if isinstance(known, Answer):
                self.send(known, topic, correlation)
            return
        self.counts.asked += 1
        reply = Reply(self, query, topic, correlation)
        try:
            self._on_query(query, reply)
        except QueryError as error:
            reply.answer(error_answer(query.id, str(error), self._wall_s()))
        except Exception:
            reply.answer(error_answer(query.id, "internal error; see the daemon's log", self._wall_s()))
            raise
