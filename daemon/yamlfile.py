"""A YAML file as plain data. Errors name the line and never quote it: a password may stand there."""

from __future__ import annotations

import os
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from stream.errors import ConfigError

_MAX_BYTES = 1_000_000  # a configuration has a few kilobytes; this was some other file


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in `path`. Raises ConfigError: one line with file, place and way out."""
    try:
        size_bytes = path.stat().st_size
        if size_bytes > _MAX_BYTES:
            raise ConfigError(f"{path}: {size_bytes} bytes are too many for a configuration; give a YAML file")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error.__class__.__name__}); give a YAML file") from error
    try:
        raw = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # `from None`: the text of YAML's own exception quotes the line, and would be in every traceback.
        raise ConfigError(f"{path}: not YAML at {_where(error, text)}: {_why(error)}") from None
    if not isinstance(raw, dict):
        what = "it is empty" if raw is None else f"got {type(raw).__name__}"
        raise ConfigError(f"{path}: expected `cameras:` and other sections, but {what}; see configs/example.yaml")
    return raw


def expanded(value: Any, place: str, at: tuple[str, ...] = ()) -> Any:
    """`value` with every `${NAME}` replaced from the environment. Raises ConfigError for one that is not set."""
    if isinstance(value, dict):
        return {key: expanded(item, place, (*at, str(key))) for key, item in value.items()}
    if isinstance(value, list):
        return [expanded(item, place, (*at, str(index))) for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in os.environ:
            raise ConfigError(
                f"{place}: {'.'.join(at)}: environment variable {name} is not set; set it, or use a password_file"
            )
        return os.environ[name]

    return re.sub(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", replace, value)


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice: the second camera `door` would silently replace the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """The mapping of `node`, if its keys differ."""
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if (key.tag, key.value) in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"key `{key.value}` given twice", key.start_mark
                    )
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep=deep)


def _where(error: Exception, text: str) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is not None:
        return f"line {mark.line + 1}, column {mark.column + 1}"
    position = getattr(error, "position", None)  # a sign that YAML does not allow has no mark
    return f"line {text.count(chr(10), 0, position) + 1}" if isinstance(position, int) else "some line"


def _why(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    problem = str(getattr(error, "problem", None) or getattr(error, "reason", None) or "a value cannot be understood")
    if re.search(r"alias|anchor|tag", problem):  # these quote the word, and a password may begin with * & or !
        return re.sub(r"'[^']*'", "...", problem) + "; a text that begins with * & or ! needs quotes"
    if "cannot start any token" in problem:
        return problem + "; put the text in quotes"
    if "mapping values are not allowed" in problem:
        return problem + "; check the indentation, and put a text that holds `: ` in quotes"
    return problem
