"""How far back a reader of the diary looks: seconds, a date, or words such as `yesterday`."""

from __future__ import annotations

from datetime import tzinfo
from typing import Literal

from daemon import when
from daemon.options import MAX_EPOCH_S
from daemon.payloads import moment
from daemon.refusal import shown
from stream.errors import QueryError


def reach(key: Literal["since", "until"], value: float | str | None, now_s: float, zone: tzinfo | None) -> float | None:
    """Epoch seconds of a number, an ISO 8601 text or words, which are read in `zone`. Raises QueryError."""
    if isinstance(value, str):
        text = value.strip()
        if text.replace(".", "", 1).isdecimal():
            return float(text) if float(text) <= MAX_EPOCH_S else _refuse(key, value)
    try:
        return moment(key, value)
    except QueryError:
        said = when.parse(f"{key} {value}", now_s, zone)
        if said is None or said.rest.strip(" ?!.,"):
            return _refuse(key, str(value))
        return said.since_s if key == "since" else now_s if said.until_s is None else said.until_s


def _refuse(key: str, value: str) -> float:
    example = "epoch seconds, ISO 8601 such as 2026-11-20T14:00, or words such as `yesterday` or `Monday at 14:00`"
    raise QueryError(f"{key} {shown(value)} is no time in the past; give {example}")
