"""What handlers share: reading a request's parameters and body, and writing replies."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator

from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from daemon.payloads import moment
from daemon.web.errors import ApiError
from daemon.web.operations import EVENTS, JPEG, JSON
from daemon.wire import MAX_EPOCH_S

PRIVATE = {"Cross-Origin-Resource-Policy": "same-origin", "X-Content-Type-Options": "nosniff"}
LONGEST_NUMBER = 64  # characters


def json_reply(model: BaseModel) -> Response:
    """`model` as JSON."""
    headers = {"Cache-Control": "no-store", **PRIVATE}
    return Response(model.model_dump_json(by_alias=True), headers=headers, media_type=JSON)


def jpeg_reply(jpeg: bytes, **headers: str) -> Response:
    """A picture that nobody stores: it may be erased. `headers`: more of them, `_` for `-`."""
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(jpeg, headers={"Cache-Control": "private, no-store", **PRIVATE, **more}, media_type=JPEG)


def stream_reply(events: AsyncIterator[bytes]) -> Response:
    """Server-sent events."""
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", **PRIVATE}
    return StreamingResponse(events, headers=headers, media_type=EVENTS)


async def read_body(request: Request, most_bytes: int) -> bytes:
    """The whole body. Raises ApiError 413 as soon as it is too large."""
    found = bytearray()
    try:
        async for piece in request.stream():
            found += piece
            if len(found) > most_bytes:
                raise ApiError(413, f"more than {most_bytes} bytes; mqtt.max_payload_bytes is the limit")
    except ClientDisconnect as error:
        raise ApiError(400, "the body ended early") from error
    return bytes(found)


def whole(request: Request, key: str, least: int, most: int, default: int) -> int:
    """A query parameter that is a whole number. Raises ApiError."""
    text = request.query_params.get(key, str(default))
    if not re.fullmatch(r"[0-9]{1,4}", text, re.ASCII) or not least <= int(text) <= most:
        raise ApiError(400, f"{key}: {text[:LONGEST_NUMBER]!r} must be {least} to {most}")
    return int(text)


def time_s(request: Request, key: str) -> float | None:
    """A query parameter as epoch seconds. Raises QueryError or ApiError."""
    text = request.query_params.get(key)
    if text is None:
        return None
    if re.search("[T:]|-.*-", text[:LONGEST_NUMBER]):
        return moment(key, text[:LONGEST_NUMBER])
    return epoch_s(key, text)


def epoch_s(key: str, text: str) -> float:
    """Raises ApiError."""
    try:
        found_s = float(text[:LONGEST_NUMBER])
    except ValueError:
        found_s = math.nan
    if not 0 <= found_s <= MAX_EPOCH_S:
        hint = " (milliseconds? give seconds)" if found_s > MAX_EPOCH_S else ""
        raise ApiError(400, f"{key}: {text[:LONGEST_NUMBER]!r} is no time from 1970 to 2100{hint}")
    return found_s
