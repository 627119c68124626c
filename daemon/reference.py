"""`python -m daemon.reference` writes docs/configuration.md: every key, from the models that check the file."""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from daemon.diary.spec import DiarySettings
from daemon.doors import HttpSettings
from daemon.house import FrigateSettings, HomeAssistantSettings
from daemon.privacy import MaskSettings, ScheduleSettings, WindowSettings
from daemon.settings import AnswerSettings, CameraSettings, MqttSettings, Settings, TlsSettings
from daemon.stack import MemorySettings, Method, ModelSettings
from daemon.watch.spec import Hours, WatchingSettings, WatchSpec

PAGE = Path(__file__).resolve().parents[1] / "docs" / "configuration.md"

_HEAD = """# Configuration

One YAML file. `longwatch check --config FILE` says in one line per problem what is wrong with it, by key.
`configs/example.yaml` is a commented file to begin with, `configs/default.yaml` holds every key with its default.

- A key that is not listed here is an error, so that a misspelt one is never silently ignored.
- `${NAME}` in any text is replaced from the environment; a name that is not set is an error.
- A method (`gate`, `retain`, `recall` and others) is a name, or a name with options: `still`, or
  `still: {threshold: 20}`. Names and options are in [methods.md](methods.md), which go together in
  [composing.md](composing.md).
- A reload (SIGHUP, `systemctl reload longwatch`) takes over `cameras`, `gate`, `answer`, `watch`, `watching`,
  `diary` and `log_level`. A change of `mqtt`, `model`, `memory`, `archive`, `http`, `home_assistant` or `frigate`
  needs a restart: the reload is refused whole, and says so in the log. `snapshot_every_s` is read at the start only.
- The broker's password comes from `mqtt.password`, `mqtt.password_file`, or the systemd credential `mqtt-password`.

This page is made from the code: `python -m daemon.reference`.
"""

_SECTIONS: tuple[tuple[str, str, type[BaseModel]], ...] = (
    ("", "Top level", Settings),
    ("cameras.<name>", "A name holds a-z, 0-9 and `_` only", CameraSettings),
    ("cameras.<name>.masks", "", MaskSettings),
    ("cameras.<name>.schedule", "", ScheduleSettings),
    ("cameras.<name>.schedule.watch", "", WindowSettings),
    ("mqtt", "", MqttSettings),
    ("mqtt.tls", "", TlsSettings),
    ("model", "", ModelSettings),
    ("memory", "", MemorySettings),
    ("answer", "", AnswerSettings),
    ("http", "", HttpSettings),
    ("home_assistant", "", HomeAssistantSettings),
    ("frigate", "", FrigateSettings),
    ("watch.<name>", "A name holds a-z, 0-9 and `_` only", WatchSpec),
    ("watch.<name>.schedule", "A list of these", Hours),
    ("watching", "", WatchingSettings),
    ("diary", "", DiarySettings),
)
_WORDS = {str: "text", int: "whole number", float: "number", bool: "true, false", Path: "path", SecretStr: "text"}
_BOUNDS = {"ge": ">= {}", "gt": "> {}", "le": "<= {}", "lt": "< {}"}


def page() -> str:
    """The whole page."""
    return "\n".join([_HEAD, *(line for section in _SECTIONS for line in _section(*section))])


def _section(key: str, note: str, model: type[BaseModel]) -> Iterator[str]:
    yield f"## `{key}`" if key else f"## {note}"
    yield ""
    yield (model.__doc__ or "").strip() + (f" {note}." if key and note else "")
    yield ""
    yield "| key | value | default | meaning |"
    yield "|---|---|---|---|"
    for name, field in model.model_fields.items():
        cells = (f"`{field.alias or name}`", _value(field), _default(field), field.description or _about(field))
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""


def _value(field: FieldInfo) -> str:
    """The kind of value and its bounds."""
    bounds = [
        form.format(f"{getattr(item, name):,}".replace(",", " "))
        for item in field.metadata
        for name, form in _BOUNDS.items()
        if getattr(item, name, None) is not None
    ]
    return ", ".join([_kind(field.annotation), *bounds])


def _kind(annotation: Any) -> str:
    if annotation == Method:
        return "method"
    origin, args = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(_kind(arg) for arg in args if arg is not type(None))
    if origin is Literal:
        return ", ".join(f"`{arg}`" for arg in args)
    if origin is tuple:
        kinds = [_kind(arg) for arg in args if arg is not Ellipsis]
        several = kinds[0] if kinds[0][-1] in "`]" else f"{kinds[0]}s"
        return f"list of {several}" if Ellipsis in args else f"[{', '.join(kinds)}]"
    if origin is dict:
        return "section per name" if _is_section(args[1]) else f"map of {_kind(args[1])}s"
    return "section" if _is_section(annotation) else _WORDS[annotation]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or value is PydanticUndefined:
        return "none"
    if isinstance(value, BaseModel):
        return "its defaults"
    plain = list(value) if isinstance(value, tuple) else value
    return f"`{yaml.safe_dump(plain, default_flow_style=True, width=1000).removesuffix('...' + chr(10)).strip()}`"


def _about(field: FieldInfo) -> str:
    """The first line of a section's own words, where the key has none."""
    kinds = [field.annotation, *get_args(field.annotation)]
    found = next((kind for kind in kinds if _is_section(kind)), None)
    return (found.__doc__ or "").strip().splitlines()[0] if found is not None else ""


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
