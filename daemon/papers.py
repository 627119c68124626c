"""The published methods that Longwatch was asked for, and which of ours are theirs: a method names its paper's link."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from daemon.yamlfile import read_yaml
from memory.recover import Recovery
from stream.policy import Paper, load
from stream.rope import INTP

LIST = Path(__file__).with_name("papers.yaml")


@dataclass(frozen=True, slots=True)
class Entry:
    """A paper. The last three are empty where a method of ours has its link."""

    name: str  # as people say it
    title: str
    link: str
    licence: str  # of the authors' code
    stage: str = ""  # where it would be
    absent: Literal["", "needs weights", "missing"] = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Stage:
    """A place in the pipeline that a method is chosen for."""

    key: str  # in the configuration; without a dot where it is none
    module: str  # that holds its TABLE
    about: str

    @property
    def name(self) -> str:
        """Also the name of its page."""
        return self.key.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class Shelved:
    """A method of ours; or what is one without a table, and then `page` says where it is."""

    stage: Stage
    name: str
    paper: Paper
    method: Any = None  # its class, of a method in a table
    page: str = ""  # as seen from docs/


STAGES = (
    Stage("gate", "stream.gate", "Which frames are looked at at all. A list: the first that skips a frame wins."),
    Stage("model.tower", "stream.tower", "Fewer patches on the way through the vision tower; a whole grid comes out."),
    Stage(
        "model.reduce", "stream.reduce", "Which visual tokens of a frame the language model reads. A list, in order."
    ),
    Stage("model.carrier", "stream.carrier", "What stands at the position that is remembered of a frame, and beside."),
    Stage("model.prefill", "stream.prefill", "Which visual tokens go through the language model's later layers."),
    Stage("memory.positions", "stream.positions", "Where remembered frames stand on the rotary axis."),
    Stage("memory.retain", "memory.retain", "Who leaves when the memory is full."),
    Stage("memory.recall", "memory.recall", "Which carriers a question reads, of bank and archive, in the time asked."),
    Stage("memory.focus", "memory.focus", "Which visual tokens of the newest frames a question reads."),
    Stage(
        "rules",
        "memory.rules",
        "How many standing questions are read over one memory. Named in the card of the checkpoint.",
    ),
)
_BESIDE = (
    Shelved(Stage("model.rope_scale", "", ""), "model.rope_scale", INTP, page="configuration.md#model"),
    Shelved(Stage("memory.recover", "", ""), "memory.recover", Recovery.paper, page="configuration.md#memory"),
)


def papers() -> tuple[Entry, ...]:
    """All that was asked for, in the order of the descriptions."""
    return _read("papers")


def peers() -> tuple[Entry, ...]:
    """Systems that do the same job, of which a policy is here."""
    return _read("peers")


def shelf(stages: Sequence[Stage] = STAGES) -> Iterator[Shelved]:
    """Every method of every table, in order; imports them all."""
    for stage in stages:
        table = importlib.import_module(stage.module).TABLE
        for name, what in table.items():
            method = load(stage.key, table, name) if isinstance(what, str) else what
            yield Shelved(stage, name, method.paper, method)


def published() -> dict[str, list[Shelved]]:
    """By link: the methods that are a paper's. Those of fidelity `baseline` are nobody's."""
    found: dict[str, list[Shelved]] = {}
    for item in (*shelf(), *_BESIDE):
        if item.paper.link and item.paper.fidelity != "baseline":
            found.setdefault(item.paper.link, []).append(item)
    return found


def _read(part: str) -> tuple[Entry, ...]:
    return tuple(Entry(**row) for row in read_yaml(LIST)[part])
