"""Topic names, and which topics a reply may go to.

<p>/available, <p>/status                      retained, ours
<p>/<cam>/available, /state, /snapshot         retained, ours
<p>/query, <p>/<cam>/query                     questions in
<p>/watch/<name>/set, /state                   standing questions in, their states out (both retained)
<p>/events                                     what standing questions tell, and answers about events of Frigate
<p>/answer/<id>, <p>/answer/<id>/chunk         answers out, unless the question names another topic
<p>/evidence/<id>/<n>                          JPEG pictures of an answer
<p>/<cam>/enabled/set, /state                  switch of a camera: in, and retained out
<p>/last_answer, <p>/last_evidence             retained, for Home Assistant
<p>/diary, <p>/diary/<id>                      questions about the diary in, its lines out
<p>/<cam>/diary                                new lines, where that is asked for
<p>/forget, <p>/forget/state                   a time to erase in, what became of it out
"""

from __future__ import annotations

from dataclasses import dataclass

from stream.errors import QueryError

MAX_TOPIC_BYTES = 256  # MQTT allows 65535; nobody needs that for a reply, and it is copied into every message


@dataclass(frozen=True, slots=True)
class Topics:
    """All topic names under one prefix."""

    prefix: str
    reply_prefixes: tuple[str, ...] = ()

    @property
    def available(self) -> str:
        """`online` or `offline`, retained; also our will."""
        return f"{self.prefix}/available"

    @property
    def status(self) -> str:
        """JSON of the whole daemon, retained."""
        return f"{self.prefix}/status"

    @property
    def query(self) -> str:
        """Questions to any camera."""
        return f"{self.prefix}/query"

    @property
    def queries(self) -> tuple[str, ...]:
        """The filters to subscribe to."""
        return (self.query, f"{self.prefix}/+/query")

    def camera_available(self, camera: str) -> str:
        """`online`, `offline` or `degraded`, retained."""
        return f"{self.prefix}/{camera}/available"

    def camera_state(self, camera: str) -> str:
        """JSON of one camera, retained."""
        return f"{self.prefix}/{camera}/state"

    def snapshot(self, camera: str) -> str:
        """The camera's latest picture as JPEG, retained."""
        return f"{self.prefix}/{camera}/snapshot"

    def answer(self, query_id: str) -> str:
        """Where an answer goes when the question does not say."""
        return f"{self.prefix}/answer/{query_id}"

    def chunk(self, reply_to: str) -> str:
        """Where the pieces of an answer go while it is written."""
        return f"{reply_to}/chunk"

    def evidence(self, query_id: str, index: int) -> str:
        """The JPEG of evidence number `index`, counted from 0."""
        return f"{self.prefix}/evidence/{query_id}/{index}"

    @property
    def last_answer(self) -> str:
        """The newest answer that people got, retained."""
        return f"{self.prefix}/last_answer"

    @property
    def last_evidence(self) -> str:
        """The picture of the newest answer that had one, JPEG, retained."""
        return f"{self.prefix}/last_evidence"

    @property
    def switches(self) -> str:
        """The filter of all cameras' switches."""
        return f"{self.prefix}/+/enabled/set"

    def enabled_set(self, camera: str) -> str:
        """`ON` or `OFF`, from outside."""
        return f"{self.prefix}/{camera}/enabled/set"

    def enabled_state(self, camera: str) -> str:
        """`ON` or `OFF`, retained."""
        return f"{self.prefix}/{camera}/enabled/state"

    def switched_camera(self, topic: str) -> str:
        """The `<cam>` of `<p>/<cam>/enabled/set`."""
        return topic.removeprefix(f"{self.prefix}/").removesuffix("/enabled/set")

    @property
    def events(self) -> str:
        """What standing questions tell, of type `new`, `update` and `end`; and answers about events of Frigate, of
        type `answer`."""
        return f"{self.prefix}/events"

    @property
    def watches(self) -> str:
        """The filter of all standing questions' `set` topics."""
        return f"{self.prefix}/watch/+/set"

    def watch_set(self, name: str) -> str:
        """A standing question as somebody gives it, retained; empty takes it back."""
        return f"{self.prefix}/watch/{name}/set"

    def watch_state(self, name: str) -> str:
        """JSON of one standing question, retained."""
        return f"{self.prefix}/watch/{name}/state"

    def watch_of(self, topic: str) -> str:
        """The `<name>` of `<p>/watch/<name>/set`."""
        return topic.removeprefix(f"{self.prefix}/watch/").removesuffix("/set")

    @property
    def forget(self) -> str:
        """A time to be erased, from outside."""
        return f"{self.prefix}/forget"

    @property
    def forget_state(self) -> str:
        """JSON of what became of it, not retained."""
        return f"{self.prefix}/forget/state"

    @property
    def diary(self) -> str:
        """Questions about the diary."""
        return f"{self.prefix}/diary"

    def diary_answer(self, query_id: str) -> str:
        """JSON of the diary's lines that were asked for."""
        return f"{self.prefix}/diary/{query_id}"

    def camera_diary(self, camera: str) -> str:
        """JSON of each new line, with `diary.publish`."""
        return f"{self.prefix}/{camera}/diary"

    def camera_of(self, topic: str) -> str | None:
        """The `<cam>` of `<p>/<cam>/query`; None for `<p>/query`."""
        middle = topic.removeprefix(self.prefix).removesuffix("/query")
        return middle.removeprefix("/") or None

    def check_reply(self, topic: str) -> str:
        """`topic` when an answer may be written to it. Raises QueryError.

        A reply topic is a write primitive in the hands of whoever may ask: below our own prefix only `answer/` is
        open (else anybody could overwrite `<p>/available` or ask us in a loop), elsewhere only what the settings name.
        """
        shown = repr(topic[:80])
        if not topic or len(topic.encode("utf-8", "replace")) > MAX_TOPIC_BYTES:
            raise QueryError(f"reply topic {shown}: must have 1 to {MAX_TOPIC_BYTES} bytes")
        if any(char in "+#" for char in topic):
            raise QueryError(f"reply topic {shown}: holds a wildcard (+ or #); name one topic")
        if any(ord(char) < 32 or 0x7F <= ord(char) < 0xA0 or 0xD800 <= ord(char) < 0xE000 for char in topic):
            raise QueryError(f"reply topic {shown}: holds a control character")
        if topic.startswith("$"):
            raise QueryError(f"reply topic {shown}: topics beginning with $ belong to the broker")
        if not self._is_open(topic):
            raise QueryError(f"reply topic {shown}: may only lie below {', '.join(self._open())}")
        return topic

    def _open(self) -> list[str]:
        """Prefixes, each ending in a slash, that replies may lie below."""
        return [f"{self.prefix}/answer/", *(f"{other.rstrip('/')}/" for other in self.reply_prefixes if other)]

    def _is_open(self, topic: str) -> bool:
        ours, *others = self._open()
        if topic == self.prefix or topic.startswith(f"{self.prefix}/"):
            return topic.startswith(ours) and len(topic) > len(ours)
        return any(topic.startswith(other) and len(topic) > len(other) for other in others)
