"""Times given on a command line. Imports nothing heavy: every command begins with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from stream.errors import LongwatchError

_UNITS_S: Mapping[str, int] = MappingProxyType({"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800})
MAX_EPOCH_S = 4_102_444_800.0  # as `daemon.wire`, which would take a second to import


class OptionError(LongwatchError):
    """An option's value makes no sense. Exit code 2, as for an option that does not exist."""


def length(option: str, text: str | None) -> float | None:
    """Seconds from `90s`, `30m`, `1h`, `2d` or `1w`. Raises OptionError."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)([smhdw])", text.strip())
    if found is None or not float(found[1]):
        raise OptionError(f"{option} {text!r}: give a number and s, m, h, d or w, e.g. 30m, 1h or 2d")
    return float(found[1]) * _UNITS_S[found[2]]


def moment(option: str, text: str | None) -> float | None:
    """Epoch seconds from a number or an ISO time (local when it names no zone). Raises OptionError."""
    if text is None:
        return None
    from datetime import datetime

    try:
        at_s = float(text)
    except ValueError:
        try:
            at_s = datetime.fromisoformat(text).timestamp()
        except (ValueError, OverflowError, OSError):
            example = "give epoch seconds or ISO 8601, e.g. 2026-11-20T14:00"
            raise OptionError(f"{option} {text!r}: {example}") from None
    if not 0 <= at_s <= MAX_EPOCH_S:  # NaN too
        raise OptionError(f"{option} {text!r} lies outside 1970 to 2100; give epoch seconds or ISO 8601")
    return at_s
