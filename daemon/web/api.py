"""The JSON API under /api/v1: status, cameras, pictures, timelines, questions, events. `docs/web.md` has examples."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from typing import Any

import structlog
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from daemon.web.asking import Asking, Pending
from daemon.web.diary import Diary
from daemon.web.errors import ApiError
from daemon.web.handling import (
    LONGEST_NUMBER,
    PRIVATE,
    epoch_s,
    jpeg_reply,
    json_reply,
    read_body,
    stream_reply,
    time_s,
    whole,
)
from daemon.web.house import MOST_BINS, House
from daemon.web.operations import EVENTS, JPEG, JSON, TIME, Body, Operation, Param, document
from daemon.web.viewers import Viewers, event
from daemon.web.watching import Watching
from daemon.web.wire import CamerasWire, CameraWire, TimelineWire
from daemon.wire import ID_PATTERN, MAX_EPOCH_S, AnswerWire, DaemonStatus, QueryWire
from stream.errors import QueryError
from stream.policy import nearest

HOUR_S = 3600.0
_NAME = Param("name", "path", "of the camera", {"type": "string"})
_SPAN = (
    Param("since", "query", "default: an hour before `until`", TIME),
    Param("until", "query", "default: now", TIME),
    Param("resolution", "query", "bins", {"type": "integer", "minimum": 1, "maximum": MOST_BINS, "default": 200}),
)
_AT = Param("t", "path", "epoch seconds", {"type": "number", "minimum": 0, "maximum": MAX_EPOCH_S})
_ANSWER = Param("id", "path", "of the answer", {"type": "string", "pattern": ID_PATTERN})
_NUMBER = Param("n", "path", "place in `evidence`, from 0", {"type": "integer", "minimum": 0, "maximum": 99})


class Api:
    """Handlers of every operation."""

    def __init__(self, house: House, asking: Asking, viewers: Viewers, most_bytes: int) -> None:
        self._house, self._asking, self._viewers = house, asking, viewers
        self._most_bytes, self._watching = most_bytes, Watching(house, most_bytes)
        self._diary = Diary(house)
        self.log = structlog.get_logger("longwatch.web")
        self.operations = self._table()
        self._document = document(self.operations)

    def mount(self) -> Mount:
        """All of it, with errors as JSON."""
        paths: dict[str, dict[str, Operation]] = {}
        for item in self.operations:
            paths.setdefault(item.path, {})[item.method] = item
        routes = [Route(path, _checked(items), methods=list(items)) for path, items in paths.items()]
        handlers: Any = {ApiError: _refused, QueryError: _refused, HTTPException: _refused, Exception: self._failed}
        return Mount("/api/v1", app=Starlette(routes=routes, exception_handlers=handlers))

    def _table(self) -> tuple[Operation, ...]:
        body = Body(QueryWire, "the question itself, to all cameras")
        written: dict[str, type[BaseModel] | None] = {JSON: AnswerWire, EVENTS: None}
        asks = "Ask; with `Accept: text/event-stream` pieces come as `chunk` events, then one `answer` event"
        told = "`camera`, `status`, `watch`, `watches` and `lost` events"
        picture = Operation(
            "GET",
            "/answers/{id}/evidence/{n}.jpg",
            "A picture of an answer",
            self.evidence,
            {JPEG: None},
            (_ANSWER, _NUMBER),
            refuses=(404,),
        )
        return (
            Operation("GET", "/openapi.json", "This document", self.openapi, {JSON: None}),
            Operation("GET", "/status", "The whole daemon", self.status, {JSON: DaemonStatus}),
            *self._of_cameras(),
            Operation("POST", "/ask", asks, self.ask, written, body=body, refuses=(409, 413)),
            picture,
            *self._watching.operations(),
            *self._diary.operations(),
            Operation("GET", "/events", told, self.events, {EVENTS: None}, refuses=(503,)),
        )

    def _of_cameras(self) -> tuple[Operation, ...]:
        camera, nearest_to = (
            "/cameras/{name}",
            "The kept picture nearest to a moment; `Moment-From` and `Moment-To` say when",
        )
        return (
            Operation("GET", "/cameras", "All cameras", self.cameras, {JSON: CamerasWire}),
            Operation("GET", camera, "One camera", self.camera, {JSON: CameraWire}, (_NAME,), refuses=(404, 503)),
            Operation(
                "GET",
                f"{camera}/snapshot.jpg",
                "Its newest kept picture",
                self.snapshot,
                {JPEG: None},
                (_NAME,),
                refuses=(404,),
                more={304: "as `If-None-Match` has it"},
            ),
            Operation(
                "GET",
                f"{camera}/timeline",
                "What is remembered of a time",
                self.timeline,
                {JSON: TimelineWire},
                (_NAME, *_SPAN),
                refuses=(404, 503),
            ),
            Operation(
                "GET",
                f"{camera}/moments/{{t}}.jpg",
                nearest_to,
                self.moment,
                {JPEG: None},
                (_NAME, _AT),
                refuses=(404, 503),
            ),
        )

    async def openapi(self, _request: Request) -> Response:
        """GET openapi.json."""
        return JSONResponse(self._document)

    async def status(self, _request: Request) -> Response:
        """GET status."""
        return json_reply(self._house.status())

    async def cameras(self, _request: Request) -> Response:
        """GET cameras."""
        return json_reply(CamerasWire(cameras=tuple(self._house.event(name) for name in self._house.cameras())))

    async def camera(self, request: Request) -> Response:
        """GET cameras/{name}."""
        return json_reply(await self._house.camera(self._name(request)))

    async def snapshot(self, request: Request) -> Response:
        """GET cameras/{name}/snapshot.jpg."""
        name = self._name(request)
        tag, frame = self._house.tag(name), self._house.newest(name)
        if frame is None or tag is None:
            raise ApiError(404, f"camera {name} has no picture yet")
        headers = {"ETag": tag, "Cache-Control": "private, no-cache", **PRIVATE}
        known = [item.strip().removeprefix("W/") for item in request.headers.get("if-none-match", "").split(",")]
        if tag in known or "*" in known:
            return Response(status_code=304, headers=headers)
        return Response(await self._house.jpeg(frame), headers=headers, media_type=JPEG)

    async def timeline(self, request: Request) -> Response:
        """GET cameras/{name}/timeline."""
        name = self._name(request)
        until_s = time_s(request, "until")
        until_s = time.time() if until_s is None else until_s
        since_s = time_s(request, "since")
        since_s = max(0.0, until_s - HOUR_S) if since_s is None else since_s
        if since_s >= until_s:
            raise ApiError(400, "since must be before until; swap them")
        count = whole(request, "resolution", 1, MOST_BINS, 200)
        return json_reply(await self._house.timeline(name, since_s, until_s, count))

    async def moment(self, request: Request) -> Response:
        """GET cameras/{name}/moments/{t}.jpg."""
        name, at_s = self._name(request), epoch_s("t", request.path_params["t"])
        found = await self._house.moment(name, at_s)
        if found is None:
            raise ApiError(404, f"camera {name} has no picture of about that time")
        return jpeg_reply(found.jpeg, Moment_From=f"{found.span.first_s:.3f}", Moment_To=f"{found.span.last_s:.3f}")

    async def ask(self, request: Request) -> Response:
        """POST ask."""
        media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        pending = self._asking.take(await read_body(request, self._most_bytes), media == JSON)
        if EVENTS in request.headers.get("accept", ""):
            return stream_reply(self._answer(pending))
        headers = {"Cache-Control": "no-store", **PRIVATE}
        return Response(self._asking.encode(await pending.wait()), headers=headers, media_type=JSON)

    async def evidence(self, request: Request) -> Response:
        """GET answers/{id}/evidence/{n}.jpg."""
        text = request.path_params["n"]
        if not re.fullmatch(r"[0-9]{1,2}", text, re.ASCII):
            raise ApiError(400, f"n: {text[:LONGEST_NUMBER]!r} must be 0 to 99")
        return jpeg_reply(self._asking.picture(request.path_params["id"], int(text)))

    async def events(self, _request: Request) -> Response:
        """GET events."""
        return stream_reply(self._viewers.watch())

    # -- parts -----------------------------------------------------------------------------------------------------

    async def _answer(self, pending: Pending) -> AsyncIterator[bytes]:
        async for piece in pending.pieces():
            yield event("chunk", piece)
        yield event("answer", self._asking.encode(await pending.wait()))

    def _name(self, request: Request) -> str:
        return self._house.known(request.path_params["name"])

    async def _failed(self, request: Request, error: Exception) -> Response:
        self.log.error("a request failed", path=request.url.path, reason=repr(error))
        return JSONResponse({"error": "internal error; see the daemon's log"}, 500)


def _checked(items: dict[str, Operation]) -> Any:
    """The handler of one path, for requests of our own page or of programs, with known parameters only.

    One route has all its methods, so that a 405 names each of them.
    """

    async def endpoint(request: Request) -> Response:
        item = items["GET" if request.method == "HEAD" else request.method]
        if request.headers.get("sec-fetch-site") == "cross-site":
            raise ApiError(403, "a page of another site may not ask")
        for key in request.query_params:
            if key not in item.queries:
                raise ApiError(400, f"unknown parameter {key[:80]!r}; {nearest(key[:80], item.queries)}")
        return await item.handler(request)

    return endpoint


async def _refused(_request: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, ApiError) else getattr(error, "status_code", 400)
    text = error.detail if isinstance(error, HTTPException) else str(error)
    headers = {"Retry-After": "2"} if status == 503 else getattr(error, "headers", None)
    content = {"error": text, **({"place": error.place} if isinstance(error, ApiError) and error.place else {})}
    return JSONResponse(content, status, headers=headers)
