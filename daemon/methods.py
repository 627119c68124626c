"""Do the methods that a configuration names exist, take these options, and go together? Checked before any start."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterator, Mapping
from typing import Any, get_type_hints

from daemon.composing import clashes
from daemon.settings import Settings
from daemon.stack import Method
from stream.errors import ConfigError
from stream.policy import load, nearest

_MODEL = ("tower", "carrier", "prefill")  # stages of one method each, in the sections of these names
_MEMORY = ("retain", "recall", "focus")


def check_methods(settings: Settings, place: str = "") -> None:
    """Raises ConfigError that names every unknown method, unknown option and refused value, in one line.

    Where there are none, what cannot be combined: see daemon/composing.py.

    `place` is the file, for the message. Imports the modules of the methods that are used (torch, for some).
    """
    problems = [problem for key, stage, spec in _used(settings) for problem in _check(key, stage, spec)]
    problems = problems or list(clashes(settings))
    if problems:
        raise ConfigError(f"{place}{': ' if place else ''}{'; '.join(problems)}")


def _used(settings: Settings) -> Iterator[tuple[str, str, Mapping[str, Mapping[str, Any]]]]:
    """(key in the file, stage, one-key map) of every method in the settings."""
    for index, spec in enumerate(settings.gate):
        yield f"gate.{index}", "stream.gate", spec
    for name, camera in settings.cameras.items():
        for index, spec in enumerate(camera.gate):
            yield f"cameras.{name}.gate.{index}", "stream.gate", spec
    for index, spec in enumerate(settings.model.reduce):
        yield f"model.reduce.{index}", "stream.reduce", spec
    for stage in _MODEL:
        yield f"model.{stage}", f"stream.{stage}", getattr(settings.model, stage)
    for stage in _MEMORY:
        yield f"memory.{stage}", f"memory.{stage}", getattr(settings.memory, stage)


def _check(key: str, stage: str, spec: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    table: Mapping[str, str] = importlib.import_module(stage).TABLE
    for name, options in spec.items():
        if name not in table:
            yield f"{key}.{name}: unknown method; {nearest(name, list(table))}"
            continue
        method = load(stage, table, name)
        fields = [field.name for field in dataclasses.fields(method) if field.init]
        problems = [
            f"{key}.{name}.{option}: unknown option; {nearest(str(option), fields) if fields else 'it takes none'}"
            for option in options
            if option not in fields
        ]
        for option, inner in _methods_in(method, options):
            problems += _inner(f"{key}.{name}.{option}", stage, inner)
        yield from problems or _values(f"{key}.{name}", method, options)


def _methods_in(method: type[Any], options: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """(option, value) of the options that are methods themselves, such as `past` of the recall method `route`."""
    hints = get_type_hints(method)
    return ((option, value) for option, value in options.items() if hints.get(option) == Method)


def _inner(key: str, stage: str, spec: Any) -> Iterator[str]:
    if isinstance(spec, dict) and all(isinstance(options, dict) for options in spec.values()):
        yield from _check(key, stage, spec)
    else:
        yield f"{key}: a method with its options is needed here, e.g. `{{random: {{}}}}`"


def _values(key: str, method: type[Any], options: Mapping[str, Any]) -> Iterator[str]:
    """What the method's own checks say of its options; they name option and value."""
    try:
        method(**options)
    except (TypeError, ValueError, ConfigError) as error:
        yield f"{key}: {error}"
