"""What README.md and docs/ hold: their fenced blocks, and the commands in these."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from stream.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def commands(self) -> list[list[str]]:
        """Of a block of shell lines."""
        return list(commands(self.text))


def blocks(text: str, page: str) -> Iterator[Block]:
    for found in re.finditer(r"^```(\w*)[^\n]*\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
        yield Block(page, text.count("\n", 0, found.start()) + 1, found[1], found[2])


ALL = [block for path in PAGES for block in blocks(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)))]


def of_kind(*kinds: str) -> list[Block]:
    return [block for block in ALL if block.kind in kinds]


def commands(text: str) -> Iterator[list[str]]:
    """The words of every command; `sudo` and the shell of `sudo sh -c '...'` taken off, redirections too.

    A line that ends in a backslash goes on in the next one.
    """
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["sudo"]:
            words = words[1:]
        if words[:2] == ["sh", "-c"]:
            yield from commands(words[2])
        elif words:
            yield words[: words.index(">")] if ">" in words else words


SHELL = of_kind("sh", "shell", "bash")
COMMANDS = [(str(block), words) for block in SHELL for words in block.commands()]


def program(words: list[str]) -> str:
    return Path(words[0]).name


def option(words: list[str], *names: str) -> str | None:
    """What follows an option; of several, the first that is there."""
    return next((words[words.index(name) + 1] for name in names if name in words[:-1]), None)


def watches() -> dict[str, Any]:
    """All standing questions that the pages' configurations have, by name. A name means one thing."""
    found: dict[str, Any] = {}
    for block in of_kind("yaml"):
        raw = yaml.safe_load(block.text)
        for name, spec in (raw.get("watch") or {}).items() if isinstance(raw, dict) else ():
            if found.setdefault(name, spec) != spec:
                raise ConfigError(f"{block}: standing question {name!r} is another one on an earlier page")
    return found
