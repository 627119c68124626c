"""What the API offers, as one table: routes and the OpenAPI document are made of it, so neither can be forgotten."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema
from starlette.requests import Request
from starlette.responses import Response

from daemon.web.wire import ErrorWire
from stream import __version__

Handler = Callable[[Request], Awaitable[Response]]
JSON, JPEG, EVENTS = "application/json", "image/jpeg", "text/event-stream"
TIME = {"type": ["number", "string"], "description": "epoch seconds, or ISO 8601"}
_REFUSALS = {
    400: "a value is wrong",
    401: "no token, or a wrong one",
    403: "asked by a page of another site",
    404: "there is no such thing",
    409: "the id is in use; or it is in the configuration file",
    413: "the body is too large",
    503: "too busy; ask again",
}


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter. `schema` is its JSON Schema; path parameters are always needed."""

    name: str
    place: Literal["path", "query"]
    about: str
    schema: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Body:
    """What a request carries: a model as JSON, or the same as plain text."""

    model: type[BaseModel]
    text: str = ""  # what plain text means; empty: only JSON


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path below `/api/v1`. `replies`: media type of a 200 -> its model; None: bytes or events."""

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    about: str
    handler: Handler
    replies: dict[str, type[BaseModel] | None]
    params: tuple[Param, ...] = ()
    body: Body | None = None
    refuses: tuple[int, ...] = ()
    more: dict[int, str] = field(default_factory=dict)  # other statuses without a body

    @property
    def queries(self) -> list[str]:
        """Names of the query parameters."""
        return [item.name for item in self.params if item.place == "query"]


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of `operations`."""
    models: dict[type[BaseModel], JsonSchemaMode] = {ErrorWire: "serialization"}
    for item in operations:
        models |= dict.fromkeys((model for model in item.replies.values() if model is not None), "serialization")
        models |= {item.body.model: "validation"} if item.body else {}
    names, schemas = models_json_schema(list(models.items()), ref_template="#/components/schemas/{model}")
    refs: dict[Any, Any] = {model: schema for (model, _), schema in names.items()}
    paths: dict[str, Any] = {}
    for item in operations:
        paths.setdefault(item.path, {})[item.method.lower()] = _operation(item, refs)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Longwatch",
            "version": __version__,
            "description": "Ask cameras about anything they have seen. Times are seconds since the Unix epoch.",
        },
        "servers": [{"url": "/api/v1"}],
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "`http.token`, if set"}},
        },
        "security": [{}, {"token": []}],
    }


def _operation(item: Operation, refs: dict[Any, Any]) -> dict[str, Any]:
    content = {
        media: {"schema": refs[model] if model is not None else {"type": "string"}}
        for media, model in item.replies.items()
    }
    refused = {JSON: {"schema": refs[ErrorWire]}}
    found: dict[str, Any] = {
        "operationId": item.handler.__name__,
        "summary": item.about,
        "responses": {
            "200": {"description": "done", "content": content},
            **{str(status): {"description": text} for status, text in item.more.items()},
            **{
                str(status): {"description": _REFUSALS[status], "content": refused}
                for status in sorted({400, 401, 403, *item.refuses})
            },
        },
    }
    if item.params:
        found["parameters"] = [
            {
                "name": param.name,
                "in": param.place,
                "required": param.place == "path",
                "description": param.about,
                "schema": param.schema,
            }
            for param in item.params
        ]
    if item.body is not None:
        media = {JSON: {"schema": refs[item.body.model]}}
        if item.body.text:
            media["text/plain"] = {"schema": {"type": "string", "minLength": 1, "description": item.body.text}}
        found["requestBody"] = {"required": True, "content": media}
    return found
