"""What a log event may hold when it leaves: plain values, bounded, without a password anywhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from structlog.typing import EventDict, WrappedLogger

from stream.errors import SECRET_NAME, redact

_DEPTH = 6  # nested deeper than this is shown as text
_MAX_CHARS = 16_384  # of one value: a traceback fits, a payload logged by mistake does not


class Scrub:
    """Processor: every key and value becomes a plain, redacted one; what is named like a secret is hidden whole."""

    def __init__(self, secrets: tuple[str, ...] = ()) -> None:
        self.secrets = secrets

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        """`event` with only str, int, float, bool, None, list and dict left in it."""
        return {self._key(key): self._value(str(key), value, 0) for key, value in event.items()}

    def text(self, value: str) -> str:
        """`value`, bounded and redacted."""
        if len(value) > _MAX_CHARS:  # redacted first: a cut could part a password from the `@` that gives it away
            return redact(value, self.secrets)[:_MAX_CHARS] + f"... ({len(value)} characters)"
        return redact(value, self.secrets)

    def _key(self, key: object) -> str:
        # logfmt keys hold no blanks, `=` or quotes
        return "".join(c if c.isalnum() or c in "_.-" else "_" for c in self.text(str(key)))[:64] or "_"

    def _value(self, key: str, value: object, depth: int) -> Any:
        if value is None or isinstance(value, bool | int | float):
            return value
        if SECRET_NAME.search(key):
            return "***"
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value) if field.repr}
        if depth < _DEPTH and isinstance(value, Mapping):
            return {self._key(name): self._value(str(name), item, depth + 1) for name, item in value.items()}
        if depth < _DEPTH and isinstance(value, list | tuple | set | frozenset):
            return [self._value(key, item, depth + 1) for item in value]
        return self.text(_as_text(value))


def _as_text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("utf-8", "backslashreplace")
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    return repr(value)
