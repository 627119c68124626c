"""docs/methods/STAGE.md: every method of one stage with its options, from the tables and classes."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin, get_type_hints

from daemon.papers import Shelved, Stage, shelf
from daemon.stack import Method

_HEAD = """# `{key}`

{about}

Where methods come from and how they compare: [methods.md](../methods.md). What goes together:
[composing.md](../composing.md). This page is made from the code: `python -m daemon.methods_page`.
"""


def stage_page(stage: Stage) -> str:
    """The whole page."""
    head = _HEAD.format(key=stage.key, about=stage.about)
    return "\n".join([head, *(line for item in shelf([stage]) for line in _method(item))])


def _method(item: Shelved) -> Iterator[str]:
    paper = item.paper
    source = f"[{paper.title}]({paper.link})" if paper.link else paper.title
    yield f"## `{item.name}`"
    yield ""
    yield _summary(item.method)
    yield ""
    yield f"- Source: {source}"
    yield f"- Fidelity: `{paper.fidelity}`" + (f"; {paper.differs}" if paper.differs else "")
    found = list(options(item))
    hints = get_type_hints(item.method)
    for field in found:
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        yield f"- Option `{field.name}`: {_kind(hints[field.name])}, default `{_plain(default)}`"
    yield "" if found else "- No options\n"


def options(item: Shelved) -> Iterator[dataclasses.Field[Any]]:
    """The fields that a configuration may set. A position scheme takes none: it is built from the model's geometry."""
    if item.stage.key != "memory.positions":
        yield from (field for field in dataclasses.fields(item.method) if field.init)


def _summary(method: Any) -> str:
    """The class's own words as one paragraph, with its list of options as list."""
    parts = (inspect.getdoc(method) or "").split("\n\n")
    return "\n\n".join(_list(part) if part.startswith("`") else part for part in parts)


def _list(part: str) -> str:
    """A line that does not begin with a name goes on with the one above."""
    rows: list[str] = []
    for line in part.split("\n"):
        if line.startswith("`") or not rows:
            rows.append(f"- {line}")
        else:
            rows[-1] += f"\n  {line.strip()}"
    return "\n".join(rows)


def _plain(value: Any) -> Any:
    """As it is written in YAML."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return list(value) if isinstance(value, tuple) else value


def _kind(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return ", ".join(f"`{arg}`" for arg in get_args(hint))
    if hint == Method:
        return "a method with its options"
    if get_origin(hint) is tuple:
        return f"list of {_kind(get_args(hint)[0])}s"
    if type(None) in get_args(hint):
        return " or ".join(_kind(arg) for arg in get_args(hint) if arg is not type(None)) + ", or null"
    words = {int: "whole number", float: "number", bool: "true or false", str: "text"}
    return words.get(hint, str(hint))
