"""What is wrong with a JSON object, as one short line for whoever sent it."""

from __future__ import annotations

from pydantic import BaseModel, ValidationError

from stream.policy import nearest

_SHOWN_CHARS = 64


def refusal(error: ValidationError, model: type[BaseModel]) -> str:
    """The first problem of `error`, which `model` raised: the place, what is wrong, and for a misspelt key the right
    one. Holds no value but names of keys, shortened."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part)[:_SHOWN_CHARS] for part in first["loc"])
    if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
        key = str(first["loc"][0])
        return f"unknown key {shown(key)}; {nearest(key[:_SHOWN_CHARS], list(model.model_fields))}"
    if first["type"] == "json_invalid":
        return f"not JSON: {first['ctx']['error']}"
    if not place:
        return f"a JSON object is needed: {first['msg'].removeprefix('Value error, ')}"
    return f"{place}: {first['msg'].removeprefix('Value error, ')}"


def shown(text: str) -> str:
    """`text` for an error: quoted, short, and printable."""
    return ascii(text[:_SHOWN_CHARS])
