"""Which ids are being answered or were answered lately: an id is answered once. Pure data."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Literal

from daemon.messages import Answer, Query

MAX_KEPT = 256
KEPT_S = 3600.0  # longer than any redelivery; after that a reused id is a new question


@dataclass(slots=True)
class _Entry:
    query: Query
    since_s: float
    answer: Answer | None = None


class Ledger:
    """Bounded memory of ids and their answers (pictures included, since a repeat gets the same answer)."""

    def __init__(self, max_kept: int = MAX_KEPT, kept_s: float = KEPT_S) -> None:
        self._max_kept = max_kept
        self._kept_s = kept_s
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def open(self, query: Query) -> Answer | Literal["new", "pending", "other"]:
        """What to do with `query`: ask it (`new`), wait (`pending`), repeat an answer, or refuse (`other` question)."""
        self._drop_old(query.received_s)
        entry = self._entries.get(query.id)
        if entry is None:
            self._entries[query.id] = _Entry(query, query.received_s)
            return "new"
        if _asked(entry.query) != _asked(query):
            return "other"
        return entry.answer or "pending"

    def close(self, query_id: str, answer: Answer) -> None:
        """Remember the answer of an open id. `busy` frees it: whoever asks again wants another try."""
        if answer.status == "busy":
            self._entries.pop(query_id, None)
        entry = self._entries.get(query_id)
        if entry is not None and entry.answer is None:
            entry.answer = answer

    def answer(self, query_id: str) -> Answer | None:
        """The answer to an id, where it is remembered."""
        entry = self._entries.get(query_id)
        return None if entry is None else entry.answer

    def hide(self, camera: str) -> None:
        """Drop the pictures of `camera` from every answer."""
        for entry in self._entries.values():
            if entry.answer is not None:
                shown = (replace(item, jpeg=b"") if item.camera == camera else item for item in entry.answer.evidence)
                entry.answer = replace(entry.answer, evidence=tuple(shown))

    def forget(self, camera: str | None, since_s: float, until_s: float) -> None:
        """Drop answers that rest on [since_s, until_s] of `camera`, None is all; their ids can be asked again."""
        for key, entry in list(self._entries.items()):
            answer = entry.answer
            if answer is not None and answer.rests_on(entry.query.cameras, camera, since_s, until_s):
                del self._entries[key]

    def _drop_old(self, now_s: float) -> None:
        """Oldest first; ids still being answered leave last, but the bound is hard."""
        old = [key for key, entry in self._entries.items() if entry.answer and now_s - entry.since_s > self._kept_s]
        for key in old:
            del self._entries[key]
        while len(self._entries) >= self._max_kept:
            answered = next((key for key, entry in self._entries.items() if entry.answer), None)
            del self._entries[answered if answered is not None else next(iter(self._entries))]


def _asked(query: Query) -> tuple[object, ...]:
    """What makes it the same question."""
    return query.question, query.cameras, query.since_s, query.until_s
