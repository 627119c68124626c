"""Every fault the outside world can cause has a name here.

    LongwatchError
    |-- ConfigError         a configuration file or option; message names key and file
    |   `-- UnknownMethod   a method or option that no table knows
    |-- CameraError         a source cannot be opened, or ended
    |   |-- CameraTimeout   no packet or frame in time (frozen, unplugged)
    |   `-- NoVideo         opened, but there is nothing to decode (audio only, empty, 0 bytes)
    |-- ModelError          a checkpoint cannot be loaded or does not fit
    |-- SnapshotError       a saved bank cannot be written, read or used
    `-- QueryError          a question cannot be understood; becomes an answer with status `error`

Messages name the value, the place and the way out, in one line, and never hold a password: URLs go through
`redact` where they enter a message (PyAV puts them into its own exception texts).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus, unquote

SECRET_NAME = re.compile(r"(?i)(?:password|passwd|passphrase|pwd|secret|token|api[_-]?key|authorization|credential)s?$")

_TOKEN = re.compile(r"\S+")
# `//user:pass` without its `@`: cut off by a length limit, mistyped, or a password with a blank. A number is a port.
_UNFINISHED = re.compile(r"//(?!\[)[^\s:/@*'\"]{0,64}:(?!\d{0,5}(?:\W|$))(?:[^\n@/]{0,256}(?P<at>@)|\S*)")
_QUOTED = r"(?:\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*')"
_SECRET_WORD = r"(?:password|passwd|passphrase|pwd|pass|token|secret|api[_-]?key|auth)"
_PARAMETER = re.compile(rf"(?i)(?P<key>{_SECRET_WORD}=)(?:{_QUOTED}(?=[\s,;&)\]}}]|$)|[^\s&]+)")
_FIELD = re.compile(rf"(?i)(?P<key>{_SECRET_WORD}['\"]\s*:\s*b?){_QUOTED}")
_HEADER = re.compile(r"(?i)(?P<key>authorization['\"]?\s*[:=]\s*)[^\n]+")
_SHORTEST_SECRET = 4  # replacing every `a` of a log hides more than the password


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` with URL credentials, secret-looking parameters and fields, and every one of `secrets` as `***`.

    In doubt it hides too much: passwords are met raw, with `@ : / ?` in them, so everything between the first `//`
    and the last `@` of a word is taken for credentials. Only a password with a blank in it, which no URL may hold
    un-encoded, can get past the shapes; give those in `secrets`, as made by `spellings`. Linear in len(text).
    """
    for secret in secrets:
        text = text.replace(secret, "***")
    if "//" in text or "%" in text:
        text = _UNFINISHED.sub(lambda m: "//***" + (m["at"] or ""), _TOKEN.sub(_hide_userinfo, text))
    for pattern in (_PARAMETER, _FIELD, _HEADER):
        text = pattern.sub(r"\g<key>***", text)
    return text


def spellings(secrets: Iterable[str]) -> tuple[str, ...]:
    """How each secret can look in a text: plain, percent-encoded or decoded, escaped; longest first, for `redact`."""
    found = set()
    for secret in secrets:
        for plain in (secret, unquote(secret)):
            found |= {plain, quote(plain), quote(plain, safe=""), quote_plus(plain)}
            found |= {repr(plain)[1:-1], json.dumps(plain)[1:-1], " ".join(plain.split())}
    return tuple(sorted((item for item in found if len(item) >= _SHORTEST_SECRET), key=len, reverse=True))


def _hide_userinfo(match: re.Match[str]) -> str:
    word = match[0]
    lower = word.lower()
    for slashes, at in (("//", "@"), ("%2f%2f", "%40")):  # the second: a URL inside another one's query
        first, last = lower.find(slashes), lower.rfind(at)
        if 0 <= first < last:
            word = word[: first + len(slashes)] + "***" + word[last:]
            lower = word.lower()
    return word


class LongwatchError(Exception):
    """Base of all faults that are not our own bugs. The message is one redacted line."""

    def __init__(self, message: str) -> None:
        super().__init__(redact(" ".join(message.split())))


class ConfigError(LongwatchError):
    """A configuration cannot be used. Exit code 78 (EX_CONFIG), which systemd does not restart."""


class UnknownMethod(ConfigError):
    """A name that is in no method table, or an option that the method does not have."""


class CameraError(LongwatchError):
    """A source cannot be opened, or a live source ended. `reason` is the word that states and counters use."""

    default_reason = "unreachable"

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason or self.default_reason


class CameraTimeout(CameraError):
    """No packet or no decodable frame arrived in time."""

    default_reason = "frozen"


class NoVideo(CameraError):
    """The source opened, but holds no decodable video."""

    default_reason = "no_video"


class ModelError(LongwatchError):
    """A checkpoint cannot be loaded, or its geometry does not fit what was asked."""


class SnapshotError(LongwatchError):
    """A saved bank cannot be written, read or used. `reason` is one word that says which.

    missing, unreadable (the disk), foreign (no saved bank), version, identity (another model), truncated, damaged,
    misfit (whole, but not for this camera or geometry), unwritable.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class QueryError(LongwatchError):
    """A question cannot be understood; it is answered with status `error` and this text."""
