"""What is wrong with a JSON object, as one short line for whoever sent it."""

from __future__ import annotations

from pydantic import BaseModel, ValidationError

from stream.policy import nearest

_SHOWN_CHARS = 64


def refusal(error: ValidationError, model: type[BaseModel]) -> str:
    """The first problem of `error`, which `model` raised: the place, what is wrong, and for a misspelt key the right
    one. Holds no value but names of keys, shortened."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(shown(str(part))[1:-1] for part in first["loc"])
    if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
        key = str(first["loc"][0])
        return f"unknown key {shown(key)}; {nearest(key[:_SHOWN_CHARS], list(model.model_fields))}"
    if first["type"] == "json_invalid":
        return f"not JSON: {first['ctx']['error']}"
    text = first["msg"].removeprefix("Value error, ")
    if not place:  # ours about several keys names them
        return text if first["type"] == "value_error" else f"a JSON object is needed: {text}"
    return f"{place}: {text}"


def shown(text: str) -> str:
    """`text` for an error: quoted, short, and printable."""
    return ascii(text[:_SHOWN_CHARS])
