"""The other end of a question: ask the daemon over the broker and wait for its answer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

import aiomqtt

from daemon.connect import Client, Session, explain, make_client, publish_properties
from daemon.messages import Answer, Query
from daemon.payloads import decode_answer, decode_chunk, encode_query, with_pictures
from daemon.settings import MqttSettings
from daemon.topics import Topics
from stream.errors import LongwatchError

CONNECT_S = 5.0  # at most, for the broker to accept us
PRESENCE_S = 2.0  # at most, for the retained `<p>/available` to arrive


class AskError(LongwatchError):
    """A question got no answer. The message says which part is missing and what to do."""


class NoBroker(AskError):
    """The broker cannot be reached, or refuses us."""


class NoDaemon(AskError):
    """The broker is there, the daemon is not."""


class NoAnswer(AskError):
    """Both are there, but no answer came in time."""


@dataclass(frozen=True, slots=True)
class Question:
    """What to ask. Times in seconds since the epoch."""

    text: str
    cameras: tuple[str, ...] = ()
    since_s: float | None = None
    until_s: float | None = None
    evidence: int | None = None
    timeout_s: float = 30.0


async def ask(
    settings: MqttSettings,
    question: Question,
    rng: random.Random,
    on_chunk: Callable[[str], None] | None = None,
) -> Answer:
    """The daemon's answer, with the pictures that came before it; `on_chunk` gets the text while it is written.

    Uses an MQTT client id of its own. Raises NoBroker, NoDaemon or NoAnswer (all AskError), ConfigError for a bad
    password file, QueryError when the answer is not readable.
    """
    topics = Topics(settings.prefix, settings.reply_prefixes)
    call = _Call(settings, topics, question, f"ask-{rng.getrandbits(64):016x}", on_chunk)
    try:
        client = await make_client(settings, Session(f"{settings.client_id}-{call.query_id}"))
        async with asyncio.timeout(CONNECT_S):
            await client.__aenter__()
    except (aiomqtt.MqttError, OSError) as error:  # TimeoutError is an OSError
        raise NoBroker(f"no broker: {explain(error, settings)}") from error
    try:
        return await call.run(client)
    except aiomqtt.MqttError as error:
        raise NoBroker(f"the broker went away: {explain(error, settings)}") from error
    finally:
        await _leave(client)


async def _leave(client: Client) -> None:
    """Disconnect; a connection that is already gone is no fault any more."""
    try:
        await client.__aexit__(None, None, None)
    except aiomqtt.MqttError:
        return


class _Call:
    """One question on one connection."""

    def __init__(
        self,
        settings: MqttSettings,
        topics: Topics,
        question: Question,
        query_id: str,
        on_chunk: Callable[[str], None] | None,
    ) -> None:
        self.query_id = query_id
        self._settings = settings
        self._topics = topics
        self._question = question
        self._on_chunk = on_chunk
        self._reply_to = topics.answer(query_id)
        self._present = asyncio.Event()
        self._available = ""
        self._jpegs: dict[int, bytes] = {}

    async def run(self, client: Client) -> Answer:
        """Subscribe, see that somebody is there, ask, wait."""
        evidence = self._topics.evidence(self.query_id, 0).removesuffix("0") + "+"
        for topic in (self._reply_to, self._topics.chunk(self._reply_to), evidence, self._topics.available):
            await client.subscribe(topic, qos=1)
        waiting = asyncio.create_task(self._wait(client), name="ask-wait")
        try:
            await self._somebody(waiting)
            await self._publish(client)
            async with asyncio.timeout(self._question.timeout_s):
                return await waiting
        except TimeoutError:
            if self._available != "online":
                raise NoDaemon(self._absent("while it was answering")) from None
            waited = f"no answer within {self._question.timeout_s:g} s"
            raise NoAnswer(f"{waited}; the daemon is online but busy: ask with a longer timeout") from None
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)  # its fault, if any, is told above

    async def _somebody(self, waiting: asyncio.Task[Answer]) -> None:
        """Return when the daemon is online. Raises NoDaemon, or what ended `waiting`."""
        present = asyncio.create_task(self._present.wait(), name="ask-presence")
        try:
            await asyncio.wait([present, waiting], timeout=PRESENCE_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            present.cancel()
        if waiting.done():
            await waiting
        if self._available != "online":
            raise NoDaemon(self._absent("before it was asked" if self._available else ""))

    def _absent(self, when: str) -> str:
        place = f"{self._settings.host}:{self._settings.port}"
        seen = f"is offline ({self._topics.available}, {when})" if when else f"never wrote {self._topics.available}"
        return f"the broker at {place} answers, but the daemon {seen}; start it, or check mqtt.prefix"

    async def _publish(self, client: Client) -> None:
        question = self._question
        query = Query(
            id=self.query_id,
            question=question.text,
            cameras=question.cameras,
            since_s=question.since_s,
            until_s=question.until_s,
            stream=self._on_chunk is not None,
            evidence=question.evidence,
            deadline_s=question.timeout_s,  # relative to received_s, which is 0 here: only the difference travels
        )
        properties = None
        if self._settings.protocol == "5":
            properties = publish_properties(ResponseTopic=self._reply_to, ContentType="application/json")
        payload = encode_query(query, self._reply_to)
        await client.publish(self._topics.query, payload, 1, properties=properties)

    async def _wait(self, client: Client) -> Answer:
        """Read until the answer. Raises MqttError when the connection ends, QueryError for an unreadable answer."""
        async for message in client.messages:
            client.acknowledge(message)
            topic = str(message.topic)
            if topic == self._reply_to:
                return with_pictures(decode_answer(message.payload), self._jpegs)
            if topic == self._topics.available:
                self._available = message.payload.decode("utf-8", "replace")
                self._present.set()
            elif topic == self._topics.chunk(self._reply_to):
                if self._on_chunk is not None:
                    self._on_chunk(decode_chunk(message.payload).text)
            elif topic.rpartition("/")[2].isdecimal():
                self._jpegs[int(topic.rpartition("/")[2])] = message.payload
        raise aiomqtt.MqttError("the connection ended")
