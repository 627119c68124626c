"""Sections `model` and `memory` of the configuration file: the stack of methods that a frame and a question go through.

A method is written as its name, or as a map with one key: the name, and its options. See docs/composing.md.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Method = dict[str, dict[str, Any]]  # one key: the method's name; its value: the method's options


def as_method(value: Any) -> Any:
    """`still`, `still:` and `still: {..}` all mean one method; more than one in a map is a mistake."""
    if isinstance(value, str):
        return {value: {}}
    if isinstance(value, dict):
        if len(value) != 1:
            raise ValueError(f"exactly one method here, e.g. {{random: {{}}}}; got {len(value)}")
        return {name: {} if options is None else options for name, options in value.items()}
    return value


def as_methods(value: Any) -> Any:
    """A list of methods, each in one of the forms of `as_method`."""
    if isinstance(value, str | dict):
        raise ValueError("a list of methods is needed here, e.g. [{stride: {fps: 1}}, {still: {}}]")
    return tuple(as_method(item) for item in value) if isinstance(value, list | tuple) else value


def as_stack(value: Any) -> Any:
    """One method, or a list of them in order: one is a list of one."""
    return as_methods([value] if isinstance(value, str | dict) else value)


class Section(BaseModel):
    """Base of all sections: immutable, and a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)


class ModelSettings(Section):
    """Which checkpoint reads the frames, and how thoroughly."""

    path: str = Field("tiny", description="`tiny`, a directory written by save_pretrained, or a hub id")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="`auto` takes a GPU where there is one")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="`auto`: bfloat16 on a GPU, and for larger models on a CPU that has it natively"
    )
    weights: Literal["native", "float16", "int8"] = Field(
        "native", description="of the language model: fewer bytes a weight write answers faster; see speed.md"
    )
    threads: int = Field(0, ge=0, description="torch threads; 0 leaves one core for the cameras")
    system_prompt: str | None = Field(None, description="default: the checkpoint's own")
    tower: Method = Field({"none": {}}, description="fewer patches inside the vision tower; see methods.md")
    reduce: tuple[Method, ...] = Field(
        ({"none": {}},),
        description="fewer visual tokens of a frame, one method after the other; a single one needs no list",
    )
    carrier: Method = Field({"mean": {}}, description="what stands at the position that is remembered of a frame")
    prefill: Method = Field({"none": {}}, description="fewer visual tokens in the language model's later layers")
    reuse_below: float | None = Field(
        6.0,
        gt=0,
        le=255,
        description="a picture that differs by fewer grey levels than this everywhere is not looked at again: the last "
        "one's visual tokens serve; null: never",
    )

    rope_scale: float = Field(
        1.0, ge=1, le=64, description="positions reach this many times as far as the model was trained for (NTK-aware)"
    )

    _method = field_validator("tower", "carrier", "prefill", mode="before")(as_method)
    _methods = field_validator("reduce", mode="before")(as_stack)


class MemorySettings(Section):
    """How much is remembered, and what leaves first."""

    carriers: int | None = Field(
        None, ge=1, le=65_536, description="hard limit of carriers per camera; default: the model's own, else 128"
    )
    detail_frames: int = Field(4, ge=0, le=64, description="newest frames kept at full detail")
    positions: Literal["auto", "compact", "spaced", "time", "equal"] = Field(
        "auto", description="where carriers stand on the rotary axis; `auto` is what the model was trained with"
    )
    retain: Method = Field({"adjacent": {}}, description="who leaves when the memory is full; see methods.md")
    recall: Method = Field({"route": {}}, description="what a question reads; see methods.md")
    recalled: int = Field(
        8, ge=0, le=65_536, description="carriers that a question reads from the archive on top of a full memory"
    )
    focus: Method = Field(
        {"all": {}}, description="which of the newest frames' visual tokens a question reads; see methods.md"
    )
    focus_tokens: int | None = Field(
        None, ge=1, description="of these tokens a question reads at most so many; null: all of them"
    )
    recover: bool = Field(
        False,
        description="without an archive: of what left the memory, `recalled` carriers are read as what stayed recalls "
        "of them, by tiny keys; see HoT in methods.md",
    )
    seed: int = Field(0, description="of methods that draw by chance")

    _method = field_validator("retain", "recall", "focus", mode="before")(as_method)
