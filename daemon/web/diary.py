"""The diary over HTTP: its lines of a time, of a camera, or with some words in them."""

from __future__ import annotations

import time

from starlette.requests import Request
from starlette.responses import Response

from daemon.diary.post import wired
from daemon.diary.reach import reach
from daemon.web.errors import ApiError
from daemon.web.handling import json_reply, whole
from daemon.web.house import House
from daemon.web.operations import JSON, Operation, Param
from daemon.web.wire import LinesWire
from memory.archive import ArchiveError, Line, Reader
from memory.archive.diary import MOST, lines
from memory.archive.types import LineKind
from stream.policy import nearest

LONGEST_SEARCH = 500  # characters
KINDS: tuple[LineKind, ...] = ("event", "missed", "day")
_WHEN = {"type": ["number", "string"], "description": "epoch seconds, ISO 8601, or words such as `yesterday`"}
_SEARCH = {"type": "string", "minLength": 1, "maxLength": LONGEST_SEARCH}
_ASKED = (
    Param("since", "query", "default: the beginning", _WHEN),
    Param("until", "query", "default: now", _WHEN),
    Param("camera", "query", "default: all", {"type": "string"}),
    Param("q", "query", "words in any form, combined with AND, OR, NOT (SQLite FTS5)", _SEARCH),
    Param("kind", "query", "default: all; `day` sums up a day", {"type": "string", "enum": list(KINDS)}),
    Param("limit", "query", "the newest, at most", {"type": "integer", "minimum": 1, "maximum": MOST, "default": 200}),
)


class Diary:
    """The handler."""

    def __init__(self, house: House) -> None:
        self._house = house

    def operations(self) -> tuple[Operation, ...]:
        """The one there is."""
        told = "What the diary tells of a time, oldest first"
        return (Operation("GET", "/diary", told, self.diary, {JSON: LinesWire}, _ASKED, refuses=(404, 503)),)

    async def diary(self, request: Request) -> Response:
        """GET diary."""
        asked, settings, now_s = request.query_params, self._house.app.settings, time.time()
        since_s = reach("since", asked.get("since"), now_s, settings.answer.zone)
        until_s = reach("until", asked.get("until"), now_s, settings.answer.zone)
        if since_s is not None and until_s is not None and since_s > until_s:
            raise ApiError(400, "since must be before until; swap them")
        camera = self._house.known(asked["camera"]) if "camera" in asked else None
        words, kind = asked.get("q"), asked.get("kind")
        if words is not None and not 1 <= len(words) <= LONGEST_SEARCH:
            raise ApiError(400, f"q: {len(words)} characters; must be 1 to {LONGEST_SEARCH}")
        if kind is not None and kind not in KINDS:
            raise ApiError(400, f"kind: {kind[:80]!r}; {nearest(kind[:80], list(KINDS))}")
        kinds = None if kind is None else tuple(item for item in KINDS if item == kind)
        limit = whole(request, "limit", 1, MOST, 200)

        def work(reader: Reader) -> list[Line]:
            return lines(reader, camera, since_s, until_s, words, limit, kinds)

        try:
            found = await self._house.read(work) if self._house.archived else []
        except ArchiveError as error:
            raise ApiError(400 if error.reason == "bad_words" else 503, str(error)) from error
        written = settings.diary.enabled and self._house.archived
        return json_reply(LinesWire(written=written, lines=tuple(wired(line) for line in found)))
