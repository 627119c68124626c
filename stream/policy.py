"""How a method plugs in: name table -> checked options -> object.

A stage keeps a plain dict from configuration name to `module:Class`, imported on demand. The class is a dataclass
whose fields are its options, so unknown options are refused by name. It carries a `Paper` as class data.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from stream.errors import ConfigError, UnknownMethod

Fidelity = Literal["parity", "style", "idea", "needs weights", "baseline"]


@dataclass(frozen=True, slots=True)
class Paper:
    """Where a method comes from, and how ours differs."""

    title: str
    link: str
    fidelity: Fidelity
    differs: str = ""


def nearest(name: str, known: list[str]) -> str:
    """`did you mean ...?` when something known is close, else the list of what is known."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(known))}"


def load(stage: str, table: Mapping[str, str], name: str) -> type[Any]:
    """The class behind `name` in a stage's table. Raises UnknownMethod with the nearest known name."""
    if name not in table:
        raise UnknownMethod(f"unknown {stage} method {name!r}; {nearest(name, list(table))}")
    module, _, cls = table[name].partition(":")
    return getattr(importlib.import_module(module), cls)  # type: ignore[no-any-return]


def one(stage: str, table: Mapping[str, str], spec: Mapping[str, Mapping[str, Any]]) -> Any:
    """The method of a one-key map, as a configuration has it: `{name: options}`. Raises as `build` does."""
    ((name, options),) = spec.items()
    return build(stage, table, name, options)


def build(stage: str, table: Mapping[str, str], name: str, options: Mapping[str, Any] | None = None) -> Any:
    """An instance of method `name` with checked `options`. Raises UnknownMethod or ConfigError naming the option."""
    cls = load(stage, table, name)
    fields = [field.name for field in dataclasses.fields(cls) if field.init]
    for option in options or {}:
        if option not in fields:
            raise UnknownMethod(f"{stage} method {name!r} has no option {option!r}; {nearest(option, fields)}")
    try:
        return cls(**(options or {}))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{stage} method {name!r}: {error}") from error
