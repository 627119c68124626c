"""Every fault the outside world can cause has a name here.

    LongwatchError
    |-- ConfigError         a configuration file or option; message names key and file
    |   `-- UnknownMethod   a method or option that no table knows
    |-- CameraError         a source cannot be opened, or ended
    |   |-- CameraTimeout   no packet or frame in time (frozen, unplugged)
    |   `-- NoVideo         opened, but there is nothing to decode (audio only, empty, 0 bytes)
    |-- ModelError          a checkpoint cannot be loaded or does not fit
    `-- QueryError          a question cannot be understood; becomes an answer with status `error`

Messages name the value, the place and the way out, in one line, and never hold a password: URLs go through
`redact` where they enter a message (PyAV puts them into its own exception texts).
"""

from __future__ import annotations

import re

_CREDENTIALS = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*://)[^\s/?#]*@")
_SECRET_PARAM = re.compile(r"(?i)\b(?P<key>password|passwd|pwd|pass|token|secret|api_key|apikey|auth)=[^\s&'\"]+")


def redact(text: str) -> str:
    """`text` with the credentials of every URL, and every secret-looking query parameter, replaced by `***`."""
    return _SECRET_PARAM.sub(r"\g<key>=***", _CREDENTIALS.sub(r"\g<scheme>***@", text))


class LongwatchError(Exception):
    """Base of all faults that are not our own bugs. The message is one redacted line."""

    def __init__(self, message: str) -> None:
        super().__init__(redact(" ".join(message.split())))


class ConfigError(LongwatchError):
    """A configuration cannot be used. Exit code 78 (EX_CONFIG), which systemd does not restart."""


class UnknownMethod(ConfigError):
    """A name that is in no method table, or an option that the method does not have."""


class CameraError(LongwatchError):
    """A source cannot be opened, or a live source ended."""


class CameraTimeout(CameraError):
    """No packet or no decodable frame arrived in time."""


class NoVideo(CameraError):
    """The source opened, but holds no decodable video."""


class ModelError(LongwatchError):
    """A checkpoint cannot be loaded, or its geometry does not fit what was asked."""


class QueryError(LongwatchError):
    """A question cannot be understood; it is answered with status `error` and this text."""
