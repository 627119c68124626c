"""Section `http` of the configuration file: where the page, the API and the metrics are served, and to whom."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from pydantic import Field, SecretStr, model_validator

from daemon.stack import Section
from stream.errors import ConfigError

MIN_TOKEN_CHARS = 16  # guessed over a network in no lifetime
MAKE_ONE = "e.g. what `openssl rand -hex 16` prints"


class HttpSettings(Section):
    """Page, API, metrics and health, for browsers and Prometheus. See docs/metrics.md."""

    enabled: bool = Field(True, description="false: nothing listens, and `longwatch status` asks the broker")
    host: str = Field(
        "127.0.0.1",
        min_length=1,
        pattern=r"^[^\s/@]+$",
        description="an address of this machine; others than itself reach us at `0.0.0.0` or `::`, with a token",
    )
    port: int = Field(8765, ge=1, le=65535, description="one daemon of a machine can have it")
    token: SecretStr | None = Field(None, description="who has it may see and ask everything; better in `token_file`")
    token_file: Path | None = Field(None, description="its first line is the token")

    @model_validator(mode="after")
    def _guarded(self) -> HttpSettings:
        if self.token is not None and self.token_file is not None:
            raise ValueError("give `token` or `token_file`, not both")
        if self.token is not None:
            _check(self.token.get_secret_value(), "token")
        if self.enabled and not self.loopback and self.token is None and self.token_file is None:
            raise ValueError(
                f"host {self.host!r} can be reached from other machines, which takes a `token` or a `token_file` "
                f"({MAKE_ONE}); or set host: 127.0.0.1"
            )
        return self

    @property
    def loopback(self) -> bool:
        """Only this machine can reach us."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def url(self) -> str:
        """Where we are reached from this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def secret(self) -> str | None:
        """The token; None: there is none. Raises ConfigError for a file that is missing, or holds a poor one."""
        if self.token_file is None:
            return None if self.token is None else self.token.get_secret_value()
        try:
            text = self.token_file.read_text(encoding="utf-8").partition("\n")[0].strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.__class__.__name__
            raise ConfigError(f"http.token_file: cannot read {self.token_file}: {reason}") from error
        try:
            _check(text, str(self.token_file))
        except ValueError as error:
            raise ConfigError(f"http.token_file: {error}") from None
        return text


def _check(text: str, place: str) -> None:
    """The error never holds the token."""
    if len(text) < MIN_TOKEN_CHARS:
        raise ValueError(f"{place}: at least {MIN_TOKEN_CHARS} characters, {MAKE_ONE}")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f"{place}: plain ASCII without blanks, since it goes into a header; {MAKE_ONE}")
