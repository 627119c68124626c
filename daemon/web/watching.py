"""Standing questions over HTTP: what there is, what they found, and the same rules for changes as over MQTT."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from daemon.settings import NAME_PATTERN
from daemon.watch.history import Past
from daemon.watch.post import MAX_NAME
from daemon.watch.spec import WatchSpec
from daemon.web.errors import ApiError
from daemon.web.handling import jpeg_reply, json_reply, read_body, time_s, whole
from daemon.web.house import House
from daemon.web.operations import JPEG, JSON, TIME, Body, Operation, Param
from daemon.web.wire import PastEventWire, PastPictureWire, PastWire, WatchesWire, WatchWire
from daemon.wire import ID_PATTERN
from stream.errors import QueryError
from stream.policy import nearest

ENGINE_S = 2.0  # a change counts when the engine has it; it may be in a long batch
MOST_EVENTS = 100
_NAMED: dict[str, Any] = {"type": "string", "pattern": NAME_PATTERN, "maxLength": MAX_NAME}
_NAME = Param("name", "path", "of the standing question", _NAMED)
_PICTURE = (
    Param("id", "path", "of the event", {"type": "string", "pattern": ID_PATTERN.replace("64", "128")}),
    Param("camera", "path", "that saw it", {"type": "string", "pattern": NAME_PATTERN}),
)
_PAGE = (
    Param("before", "query", "only what began before; default: now", TIME),
    Param("limit", "query", "events", {"type": "integer", "minimum": 1, "maximum": MOST_EVENTS, "default": 20}),
)


class Watching:
    """Handlers of everything below `/watch`."""

    def __init__(self, house: House, most_bytes: int) -> None:
        self._house, self._post, self._most_bytes = house, house.app.watch, most_bytes

    def operations(self) -> tuple[Operation, ...]:
        """All of them."""
        one, known = "/watch/{name}", dict[str, type[BaseModel] | None]({JSON: WatchWire})
        body = Body(WatchSpec)
        put, gone = "Ask it, or change it; the broker keeps the same", "Give it up; the reply is what it was"
        past, picture = "What it found, newest first", "What a camera showed when an event began there"
        shown = f"{one}/events/{{id}}/{{camera}}.jpg"
        return (
            Operation("GET", "/watch", "All standing questions", self.watches, {JSON: WatchesWire}),
            Operation("GET", one, "One standing question", self.watch, known, (_NAME,), refuses=(404,)),
            Operation("PUT", one, put, self.put_watch, known, (_NAME,), body=body, refuses=(413,)),
            Operation("DELETE", one, gone, self.delete_watch, known, (_NAME,), refuses=(404, 409)),
            Operation("GET", f"{one}/events", past, self.past, {JSON: PastWire}, (_NAME, *_PAGE), refuses=(404, 503)),
            Operation("GET", shown, picture, self.past_picture, {JPEG: None}, (_NAME, *_PICTURE), refuses=(404,)),
        )

    async def watches(self, _request: Request) -> Response:
        """GET watch."""
        return json_reply(WatchesWire(watches=tuple(self._wire(name) for name in sorted(self._post.specs()))))

    async def watch(self, request: Request) -> Response:
        """GET watch/{name}."""
        return json_reply(self._wire(self._known(request)))

    async def put_watch(self, request: Request) -> Response:
        """PUT watch/{name}."""
        name = request.path_params["name"]
        body = await read_body(request, self._most_bytes)
        try:
            done = self._post.write(name, self._post.parse(body))
        except QueryError as error:
            raise ApiError(400, str(error), _place(str(error))) from error
        await self._settled(done)
        return json_reply(self._wire(name))

    async def delete_watch(self, request: Request) -> Response:
        """DELETE watch/{name}."""
        name = self._known(request)
        if name not in self._post.given:
            way_out = 'take it out there and reload, or PUT it with "enabled": false'
            raise ApiError(409, f"standing question {name!r} is in the configuration file, section watch; {way_out}")
        was = self._wire(name)
        await self._settled(self._post.write(name, None))
        return json_reply(was)

    async def past(self, request: Request) -> Response:
        """GET watch/{name}/events."""
        name, before_s = request.path_params["name"], time_s(request, "before")
        most = whole(request, "limit", 1, MOST_EVENTS, 20)
        call = self._post.history.events(name, time.time() if before_s is None else before_s, most)
        found = await asyncio.wrap_future(call)
        if found is None:
            raise ApiError(503, "the history cannot be read; see the daemon's log")
        if not found:
            self._known(request)
        now_open = self._post.state(name).event
        return json_reply(PastWire(watch=name, events=tuple(self._event(item, now_open) for item in found)))

    async def past_picture(self, request: Request) -> Response:
        """GET watch/{name}/events/{id}/{camera}.jpg."""
        name, event, camera = (request.path_params[key] for key in ("name", "id", "camera"))
        jpeg = None
        if self._house.shows(camera):
            jpeg = await asyncio.wrap_future(self._post.history.picture(name, event, camera))
        if jpeg is None:
            raise ApiError(404, f"no picture of {camera[:80]!r} of event {event[:80]!r} of {name[:80]!r}")
        return jpeg_reply(jpeg)

    # -- parts -----------------------------------------------------------------------------------------------------

    def _known(self, request: Request) -> str:
        name: str = request.path_params["name"]
        if name not in (specs := self._post.specs()):
            hint = nearest(name[:80], list(specs)) if specs else "there is none yet"
            raise ApiError(404, f"no standing question {name[:80]!r}; {hint}")
        return name

    def _wire(self, name: str) -> WatchWire:
        return WatchWire(
            name=name,
            spec=self._post.specs()[name],
            removable=name in self._post.given,
            configured=self._post.configured(name),
            state=self._post.state(name),
        )

    def _event(self, item: Past, now_open: str | None) -> PastEventWire:
        event = item.event
        pictures = tuple(
            PastPictureWire(
                camera=camera, t=at_s, picture=f"/api/v1/watch/{event.watch}/events/{event.id}/{camera}.jpg"
            )
            for camera, at_s in item.shown
            if self._house.shows(camera)
        )
        fields = event.model_dump(exclude={"state", "evidence"})
        return PastEventWire(**fields, state="ON" if event.id == now_open else "OFF", pictures=pictures)

    async def _settled(self, done: Any) -> None:
        """When a change counts, or after a while: the engine may be busy, and will come to it."""
        if done is not None:
            # shielded: the engine must not find its future cancelled when it comes to it
            await asyncio.wait([asyncio.shield(asyncio.wrap_future(done))], timeout=ENGINE_S)


def _place(text: str) -> str | None:
    """The key of a question that a refusal begins with."""
    start = text.partition(":")[0]
    if start.startswith("watch name"):
        return "name"
    return start if start.partition(".")[0] in WatchSpec.model_fields else None
