"""Which clips there are and what is asked about them: `manifest.json` in a folder of videos, checked.

{"clips": [{"file", "seconds", "questions": [{"id", "ask_at", "kind", "question", "choices", "right"}]}]}
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError, model_validator

from stream.errors import LongwatchError


class Broken(LongwatchError):
    """A manifest or a clip cannot be used."""


class Question(BaseModel):
    """One question; `ask_at` in seconds of the clip, `right` an index into `choices`."""

    id: str
    ask_at: float = Field(ge=0, allow_inf_nan=False)
    kind: str = Field(min_length=1)
    question: str = Field(min_length=1)
    choices: list[str] = Field(min_length=2)
    right: int = Field(ge=0)
    answer: str | None = None

    @model_validator(mode="after")
    def _fits(self) -> Question:
        if self.right >= len(self.choices):
            raise ValueError(f"right is {self.right}, but there are {len(self.choices)} choices")
        if not all(choice.strip() for choice in self.choices):
            raise ValueError("a choice is empty")
        if self.answer not in (None, self.choices[self.right]):
            raise ValueError(f"answer is {self.answer!r}, but choice {self.right} is {self.choices[self.right]!r}")
        return self


class Clip(BaseModel):
    """A video file beside the manifest, and what is asked about it."""

    file: str = Field(min_length=1)
    seconds: float = float("inf")
    questions: list[Question]


class Manifest(BaseModel):
    """All clips."""

    clips: list[Clip] = Field(min_length=1)


def load(folder: Path) -> list[Clip]:
    """The clips of `folder` that have questions. Raises Broken: one line that names file, clip and question."""
    path = folder / "manifest.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        clips = [clip for clip in Manifest.model_validate(raw).clips if clip.questions]
    except FileNotFoundError:
        raise Broken(f"{path}: not found; give the folder of the clips with --videos") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place, message = _place(raw, first["loc"]), str(first["msg"]).removeprefix("Value error, ")
        raise Broken(f"{path}: {place}{message}") from None
    except (OSError, ValueError) as error:
        raise Broken(f"{path}: not a manifest: {error}") from None
    for clip in clips:
        if not (folder / clip.file).is_file():
            raise Broken(f"{path}: {clip.file}: no such file in {folder}")
    if not clips:
        raise Broken(f"{path}: no clip has questions")
    return clips


def _place(raw: Any, loc: Sequence[int | str]) -> str:
    """`clip.mp4: clip-03: right: ` for clips[2].questions[2].right: by names where they have some."""
    words: list[str] = []
    for part in loc:
        try:
            raw = raw[part]
        except (LookupError, TypeError):
            raw = None
        name = next((raw[key] for key in ("file", "id") if raw.get(key)), None) if isinstance(raw, dict) else None
        if name is not None:
            words = [*words[:-1], str(name)] if isinstance(part, int) else [*words, str(name)]
        else:
            words.append(str(part))
    return "".join(f"{word}: " for word in words)
