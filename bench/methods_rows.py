"""The rows of the method bench: every method of every stage's table, at each of the stage's budgets, as settings.

    gate     share of the frames kept that `stride` gives        tower    share of the patches left after the last block
    reduce   visual tokens that a frame keeps                    carrier  companions of a carrier
    prefill  share of a frame's tokens that reach the last layer retain   carriers that the bank holds
    recall   carriers that a question reads                      focus    recent visual tokens that a question reads
    rules    share of the remembered keys that standing questions read

A method of which a stage's budget does not say how to ask for it stands once, with its defaults, at budget `own`.
`ALL` is the budget of the row that leaves everything as it is.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from daemon.core import Core, build
from daemon.settings import parse
from stream.encoder import Encoder
from stream.errors import LongwatchError
from stream.model import Model
from stream.policy import Paper, load

# what a method may raise: a row is dropped for it, and named
FAULTS = (
    *(LongwatchError, ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, RuntimeError),
    *(TypeError, ValueError),
)
ALL, OWN = "all", "own"
STAGES = ("gate", "tower", "reduce", "carrier", "prefill", "retain", "recall", "focus", "rules")
PACKAGES = {
    **{stage: f"stream.{stage}" for stage in ("gate", "tower", "reduce", "carrier", "prefill")},
    **{stage: f"memory.{stage}" for stage in ("retain", "recall", "focus", "rules")},
}
SECTION = {
    **dict.fromkeys(("tower", "reduce", "carrier", "prefill"), "model"),
    **dict.fromkeys(("retain", "recall", "focus"), "memory"),
}
IDENTITY = {
    "gate": "all",
    "carrier": "mean",
    "retain": "fifo",
    "recall": "all",
    "focus": "all",
    "rules": "each",
}  # else `none`
BASELINE = {"gate": "stride"}  # the plain choice at an equal budget; else `uniform`
BUDGETS: dict[str, dict[str, tuple[str, ...]]] = {
    "tiny": {
        "gate": ("1/2", "1/4", "1/8"),
        "tower": ("70 %", "50 %", "30 %"),
        "reduce": ("4", "2", "1"),
        "carrier": ("4", "2"),
        "prefill": ("75 %", "50 %", "25 %"),
        "retain": ("24", "16", "8"),
        "recall": ("32", "16", "8"),
        "focus": ("16", "8", "4"),
        "rules": ("50 %", "25 %", "10 %"),
    },
    "0.5b": {
        "tower": ("70 %", "50 %", "30 %"),
        "reduce": ("49", "16", "4", "1"),
        "carrier": ("4", "2"),
        "prefill": ("75 %", "50 %", "25 %"),
        "retain": ("128", "64", "32"),
        "recall": ("128", "64", "32"),
        "focus": ("196", "49", "16"),
    },
}
ENOUGH = 256  # carriers that no stream here exceeds
RECENT = 4  # newest frames at full detail, the daemon's default
BANK = 16  # carriers of the bank that recall searches beside
# what a stage's rows have in common beside the method
COMMON: dict[str, dict[str, dict[str, Any]]] = {
    "retain": {"memory": {"detail_frames": 0, "recall": "all"}},
    "recall": {"memory": {"detail_frames": 0, "carriers": BANK}},
    "focus": {"memory": {"recall": "all"}},
}


@dataclass(frozen=True, slots=True)
class Row:
    """One method at one budget."""

    stage: str
    method: str
    budget: str
    options: Mapping[str, Any] = field(default_factory=dict)
    more: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # settings beside the method

    @property
    def key(self) -> str:
        """Its name in results."""
        return f"{self.stage}/{self.method}@{self.budget}"

    @property
    def identity(self) -> bool:
        """Whether it leaves everything as it is."""
        return self.budget == ALL

    def settings(self) -> dict[str, Any]:
        """The configuration that has it: the bank alone, every picture encoded, otherwise the daemon's defaults."""
        raw: dict[str, dict[str, Any]] = {"model": {"reuse_below": None}, "memory": {"recall": "all"}}
        for part in (COMMON.get(self.stage, {}), self.more):
            for section, values in part.items():
                raw[section] |= values
        if self.stage in SECTION:
            raw[SECTION[self.stage]][self.stage] = {self.method: dict(self.options)}
        return {"cameras": {"street": {"url": "file"}}, **raw}

    def core(self, model: Model) -> Core:
        """Its parts around `model`. Raises LongwatchError."""
        return build(parse(self.settings(), self.key), model)


def prepared(rows: Iterable[Row], model: Model) -> tuple[dict[str, Core], dict[str, str]]:
    """Cores of `rows` by key, all on `model`, and why the others have none. Rows with one stack share its encoder."""
    cores: dict[str, Core] = {}
    failed: dict[str, str] = {}
    encoders: dict[str, Encoder] = {}
    for item in rows:
        try:
            core = item.core(model)
        except FAULTS as error:
            failed[item.key] = f"{type(error).__name__}: {error}"
            continue
        stack = json.dumps(item.settings()["model"], sort_keys=True, default=str)
        cores[item.key] = replace(core, encoder=encoders.setdefault(stack, core.encoder))
    return cores, failed


def table(stage: str) -> Mapping[str, str]:
    """The methods of a stage."""
    found: Mapping[str, str] = importlib.import_module(PACKAGES[stage]).TABLE
    return found


def kind(stage: str, method: str) -> type[Any]:
    """The class of a method. Raises LongwatchError or ImportError."""
    return load(stage, table(stage), method)


def paper(stage: str, method: str) -> Paper:
    """Where a method comes from."""
    found: Paper = kind(stage, method).paper
    return found


def takes(stage: str, method: str) -> frozenset[str]:
    """The options of a method."""
    return frozenset(item.name for item in fields(kind(stage, method)) if item.init)


def whole(stage: str) -> Row:
    """The row that leaves everything as it is."""
    more: dict[str, dict[str, Any]] = {"memory": {"carriers": ENOUGH}} if stage in ("retain", "recall") else {}
    return Row(stage, IDENTITY.get(stage, "none"), ALL, {}, more)


def row(stage: str, method: str, budget: str, tuned: Mapping[str, Any] | None = None) -> Row | None:
    """`method` at `budget`; None where it has no such budget. `tuned` are options that were searched for it."""
    known, options = takes(stage, method), dict[str, Any]()
    if tuned is not None:
        options = dict(tuned)
    elif stage == "reduce" and {"dull", "keen"} <= known:
        options = {"dull": int(budget), "keen": int(budget)}
    elif stage == "carrier" and "companions" in known:
        options = {"companions": int(budget)}
    elif stage == "prefill" and known & {"keep", "least"}:
        options = falling(kind(stage, method)(), percent(budget)) if "keep" in known else {"least": percent(budget)}
    elif stage == "recall" and method != "all":
        options = {"past": {"relevance": {"bank": False}}} if method == "route" else {}
        options |= {"bank": False} if "bank" in known else {"carriers": int(budget)} if "carriers" in known else {}
    elif stage == "rules" and "share" in known:
        options = {"share": percent(budget)}
    elif stage == "focus" and {"frames", "side"} <= known:
        options = pooled(int(budget))
    elif stage != "retain" and (stage != "focus" or method == "all"):
        return None
    more = {"retain": {"carriers": int(budget)}, "focus": {"focus_tokens": int(budget)}} if budget.isdigit() else {}
    beside = room(int(budget)) if stage == "recall" else more.get(stage, {})
    return Row(stage, method, budget, options, {"memory": beside} if beside else {})


def room(carriers: int) -> dict[str, int]:
    """Settings with which a question reads `carriers` in all, whatever the bank holds."""
    held = min(BANK, carriers)
    return {"carriers": held, "recalled": carriers - held}


def falling(method: Any, share: float) -> dict[str, Any]:
    """Options of a method that prunes at several depths, so that `share` is left after the last."""
    if not isinstance(method.keep, tuple):
        return {"keep": share}
    count = len(method.keep)
    return {"keep": [round(share ** ((place + 1) / count), 4) for place in range(count)]}


def pooled(room: int) -> dict[str, int]:
    """Windows of a method that pools the newest frames: as many as `room` holds, of as many frames as may be."""
    sides = [(frames, side) for frames in range(1, RECENT + 1) for side in range(1, room + 1)]
    fitting = [(frames * side * side, frames, side) for frames, side in sides if frames * side * side <= room]
    _, frames, side = max(fitting)
    return {"frames": frames, "side": side}


def percent(budget: str) -> float:
    """`70 %` as a share; `1/4` too."""
    if "/" in budget:
        above, below = budget.split("/")
        return int(above) / int(below)
    return int(budget.removesuffix(" %")) / 100


def every(stage: str, geometry: str, tuned: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """All rows of a stage but those that have to be tuned and were not; `tuned` is by `method@budget`."""
    found = [whole(stage)]
    for method in table(stage):
        if method == whole(stage).method and stage != "retain":
            continue
        own = [row(stage, method, budget, tuned.get(f"{method}@{budget}")) for budget in BUDGETS[geometry][stage]]
        known = [item for item in own if item is not None]
        found += known or [Row(stage, method, OWN)]
    return found
