"""`python -m daemon.methods_page` writes docs/methods.md: every method of every stage, from the tables and classes."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from stream.policy import load

PAGE = Path(__file__).resolve().parents[1] / "docs" / "methods.md"

_HEAD = """# Methods

Every stage has a table of methods; the configuration names one by its key. This page is made from the code:
`python -m daemon.methods_page`. It says of each method where it comes from and how faithful ours is:

| fidelity | means |
|---|---|
| `parity` | gives the results of the authors' code |
| `style` | the published rule; details differ, as said |
| `idea` | the idea only |
| `needs weights` | needs weights that nobody ships |
| `baseline` | no paper: the do-nothing, the random or the plain choice that every other method must beat |
"""

# module with TABLE, key in the configuration, what the stage decides
_STAGES = (
    ("stream.gate", "gate", "Which frames are looked at at all. A list: the first that skips a frame wins."),
    ("stream.reduce", "model.reduce", "How many visual tokens of a frame the language model reads. See doing_less.md."),
    ("stream.carrier", "", "What stands at the carrier's position. Not a setting yet: there is one method."),
    ("memory.retain", "memory.retain", "Who leaves when the memory is full."),
    ("memory.recall", "memory.recall", "What a question reads, of bank and archive, in the time that it asks about."),
)


def page() -> str:
    """The whole page."""
    return "\n".join([_HEAD, *(line for stage in _STAGES for line in _stage(*stage))])


def _stage(module: str, key: str, about: str) -> Iterator[str]:
    table: dict[str, str] = importlib.import_module(module).TABLE
    title = f"`{key}`" if key else f"`{module.rpartition('.')[2]}`"
    yield f"## {title}"
    yield ""
    yield about
    yield ""
    for name in table:
        yield from _method(load(module, table, name), name)


def _method(method: Any, name: str) -> Iterator[str]:
    paper = method.paper
    source = f"[{paper.title}]({paper.link})" if paper.link else paper.title
    yield f"### `{name}`"
    yield ""
    yield _summary(method)
    yield ""
    yield f"- Source: {source}"
    yield f"- Fidelity: `{paper.fidelity}`" + (f"; {paper.differs}" if paper.differs else "")
    options = [field for field in dataclasses.fields(method) if field.init]
    hints = get_type_hints(method)
    for field in options:
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        yield f"- Option `{field.name}`: {_kind(hints[field.name])}, default `{default}`"
    yield "" if options else "- No options\n"


def _summary(method: Any) -> str:
    """The class's own words as one paragraph, with its list of options as list."""
    parts = (inspect.getdoc(method) or "").split("\n\n")
    return "\n\n".join("\n".join(f"- {row}" for row in part.split("\n")) if part[0] == "`" else part for part in parts)


def _kind(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return ", ".join(f"`{arg}`" for arg in get_args(hint))
    if get_origin(hint) is dict:
        return "a method with its options"
    words = {int: "whole number", float: "number", bool: "true or false", str: "text"}
    return words.get(hint, str(hint))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
