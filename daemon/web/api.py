"""The JSON API under /api/v1: status, cameras, pictures, timelines, questions, events. `docs/web.md` has examples."""

from __future__ import annotations

import math
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import structlog
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from daemon.payloads import moment
from daemon.web.asking import Asking, Pending
from daemon.web.errors import ApiError
from daemon.web.house import MOST_BINS, House
from daemon.web.operations import EVENTS, JPEG, JSON, Body, Operation, Param, document
from daemon.web.viewers import Viewers, event
from daemon.web.wire import CamerasWire, CameraWire, TimelineWire
from daemon.wire import ID_PATTERN, MAX_EPOCH_S, AnswerWire, DaemonStatus, QueryWire
from stream.errors import QueryError
from stream.policy import nearest

HOUR_S = 3600.0
LONGEST_NUMBER = 64  # characters
_TIME = {"type": ["number", "string"], "description": "epoch seconds, or ISO 8601"}
_NAME = Param("name", "path", "of the camera", {"type": "string"})
_SPAN = (
    Param("since", "query", "default: an hour before `until`", _TIME),
    Param("until", "query", "default: now", _TIME),
    Param("resolution", "query", "bins", {"type": "integer", "minimum": 1, "maximum": MOST_BINS, "default": 200}),
)
_AT = Param("t", "path", "epoch seconds", {"type": "number", "minimum": 0, "maximum": MAX_EPOCH_S})
_ANSWER = Param("id", "path", "of the answer", {"type": "string", "pattern": ID_PATTERN})
_NUMBER = Param("n", "path", "place in `evidence`, from 0", {"type": "integer", "minimum": 0, "maximum": 99})
_PRIVATE = {"Cross-Origin-Resource-Policy": "same-origin", "X-Content-Type-Options": "nosniff"}


class Api:
    """Handlers of every operation."""

    def __init__(self, house: House, asking: Asking, viewers: Viewers, most_bytes: int) -> None:
        self._house, self._asking, self._viewers = house, asking, viewers
        self._most_bytes = most_bytes
        self.log = structlog.get_logger("longwatch.web")
        self.operations = self._table()
        self._document = document(self.operations)

    def mount(self) -> Mount:
        """All of it, with errors as JSON."""
        routes = [Route(item.path, _checked(item), methods=[item.method]) for item in self.operations]
        handlers: Any = {ApiError: _refused, QueryError: _refused, HTTPException: _refused, Exception: self._failed}
        return Mount("/api/v1", app=Starlette(routes=routes, exception_handlers=handlers))

    def _table(self) -> tuple[Operation, ...]:
        body = Body(QueryWire, "the question itself, to all cameras")
        written: dict[str, type[BaseModel] | None] = {JSON: AnswerWire, EVENTS: None}
        asks = "Ask; with `Accept: text/event-stream` pieces come as `chunk` events, then one `answer` event"
        told = "`camera`, `status` and `lost` events"
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
        return _json(self._house.status())

    async def cameras(self, _request: Request) -> Response:
        """GET cameras."""
        return _json(CamerasWire(cameras=tuple(self._house.event(name) for name in self._house.cameras())))

    async def camera(self, request: Request) -> Response:
        """GET cameras/{name}."""
        return _json(await self._house.camera(self._name(request)))

    async def snapshot(self, request: Request) -> Response:
        """GET cameras/{name}/snapshot.jpg."""
        name = self._name(request)
        tag, frame = self._house.tag(name), self._house.newest(name)
        if frame is None or tag is None:
            raise ApiError(404, f"camera {name} has no picture yet")
        headers = {"ETag": tag, "Cache-Control": "private, no-cache", **_PRIVATE}
        known = [item.strip().removeprefix("W/") for item in request.headers.get("if-none-match", "").split(",")]
        if tag in known or "*" in known:
            return Response(status_code=304, headers=headers)
        return Response(await self._house.jpeg(frame), headers=headers, media_type=JPEG)

    async def timeline(self, request: Request) -> Response:
        """GET cameras/{name}/timeline."""
        name = self._name(request)
        until_s = _time(request, "until")
        until_s = time.time() if until_s is None else until_s
        since_s = _time(request, "since")
        since_s = max(0.0, until_s - HOUR_S) if since_s is None else since_s
        if since_s >= until_s:
            raise ApiError(400, "since must be before until; swap them")
        text = request.query_params.get("resolution", "200")
        if not re.fullmatch(r"[0-9]{1,4}", text, re.ASCII) or not 1 <= int(text) <= MOST_BINS:
            raise ApiError(400, f"resolution: {text[:LONGEST_NUMBER]!r} must be 1 to {MOST_BINS}")
        return _json(await self._house.timeline(name, since_s, until_s, int(text)))

    async def moment(self, request: Request) -> Response:
        """GET cameras/{name}/moments/{t}.jpg."""
        name, at_s = self._name(request), _epoch("t", request.path_params["t"])
        found = await self._house.moment(name, at_s)
        if found is None:
            raise ApiError(404, f"camera {name} has no picture of about that time")
        headers = {
            "Moment-From": f"{found.span.first_s:.3f}",
            "Moment-To": f"{found.span.last_s:.3f}",
            "Cache-Control": "private, no-store",  # it may be erased
            **_PRIVATE,
        }
        return Response(found.jpeg, headers=headers, media_type=JPEG)

    async def ask(self, request: Request) -> Response:
        """POST ask."""
        pending = self._asking.take(await self._body(request))
        if EVENTS in request.headers.get("accept", ""):
            return _stream(self._answer(pending))
        headers = {"Cache-Control": "no-store", **_PRIVATE}
        return Response(self._asking.encode(await pending.wait()), headers=headers, media_type=JSON)

    async def evidence(self, request: Request) -> Response:
        """GET answers/{id}/evidence/{n}.jpg."""
        text = request.path_params["n"]
        if not re.fullmatch(r"[0-9]{1,2}", text, re.ASCII):
            raise ApiError(400, f"n: {text[:LONGEST_NUMBER]!r} must be 0 to 99")
        jpeg = self._asking.picture(request.path_params["id"], int(text))
        return Response(jpeg, headers={"Cache-Control": "private, no-store", **_PRIVATE}, media_type=JPEG)

    async def events(self, _request: Request) -> Response:
        """GET events."""
        return _stream(self._viewers.watch())

    # -- parts -----------------------------------------------------------------------------------------------------

    async def _answer(self, pending: Pending) -> AsyncIterator[bytes]:
        async for piece in pending.pieces():
            yield event("chunk", piece)
        yield event("answer", self._asking.encode(await pending.wait()))

    def _name(self, request: Request) -> str:
        return self._house.known(request.path_params["name"])

    async def _body(self, request: Request) -> bytes:
        """The whole body. Raises ApiError 413 as soon as it is too large."""
        found = bytearray()
        try:
            async for piece in request.stream():
                found += piece
                if len(found) > self._most_bytes:
                    raise ApiError(413, f"more than {self._most_bytes} bytes; mqtt.max_payload_bytes is the limit")
        except ClientDisconnect as error:
            raise ApiError(400, "the body ended early") from error
        return bytes(found)

    async def _failed(self, request: Request, error: Exception) -> Response:
        self.log.error("a request failed", path=request.url.path, reason=repr(error))
        return JSONResponse({"error": "internal error; see the daemon's log"}, 500)


def _checked(item: Operation) -> Any:
    """The handler, for requests of our own page or of programs, with known parameters only."""

    async def endpoint(request: Request) -> Response:
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
    return JSONResponse({"error": text}, status, headers=headers)


def _json(model: BaseModel) -> Response:
    headers = {"Cache-Control": "no-store", **_PRIVATE}
    return Response(model.model_dump_json(by_alias=True), headers=headers, media_type=JSON)


def _stream(events: AsyncIterator[bytes]) -> Response:
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", **_PRIVATE}
    return StreamingResponse(events, headers=headers, media_type=EVENTS)


def _time(request: Request, key: str) -> float | None:
    """A query parameter as epoch seconds. Raises QueryError or ApiError."""
    text = request.query_params.get(key)
    if text is None:
        return None
    if re.search("[T:]|-.*-", text[:LONGEST_NUMBER]):
        return moment(key, text[:LONGEST_NUMBER])
    return _epoch(key, text)


def _epoch(key: str, text: str) -> float:
    """Raises ApiError."""
    try:
        found_s = float(text[:LONGEST_NUMBER])
    except ValueError:
        found_s = math.nan
    if not 0 <= found_s <= MAX_EPOCH_S:
        hint = " (milliseconds? give seconds)" if found_s > MAX_EPOCH_S else ""
        raise ApiError(400, f"{key}: {text[:LONGEST_NUMBER]!r} is no time from 1970 to 2100{hint}")
    return found_s
