"""Methods that are right by themselves and wrong together: found when the file is read, and said with both names.

    gate -> tower -> reduce, reduce, .. -> carrier -> prefill -> retain -> recall -> focus

Going down the reducers, each `needs` something of the tokens that it is given and `leaves` some of it to the next.
Nothing that merely saves little is refused; what can do nothing at all is, for it was meant to do something.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from daemon.settings import Settings
from daemon.stack import Method
from stream import carrier, reduce
from stream.reduce import ATTENTION, GRID
from stream.reduce.dull import Dull

_WORDS = {GRID: "the token grid", ATTENTION: "the tower's attention, one score a patch"}
_POOLING = ("m3", "recoverable", "tdc", "tsllava")  # reducers after which nobody knows where a token stood
_BY_PLACE = ("quota", "ppllava", "freevideo", "bvllm")  # of focus: go by where tokens stand on the frame's grid
_SCORELESS = ("all", "stride")  # gates of which every frame they keep has the score 1.0


@dataclass(frozen=True, slots=True)
class Chosen:
    """A method where it stands in the file."""

    key: str  # `model.reduce.1.m3`
    name: str
    method: Any = field(default=None, compare=False)  # built, where that is needed


def clashes(settings: Settings) -> Iterator[str]:
    """One line for each two methods that do not go together. Names and options must be right already."""
    chosen = [
        Chosen(f"model.reduce.{index}.{name}", name, reduce.make({name: options}))
        for index, spec in enumerate(settings.model.reduce)
        for name, options in spec.items()
    ]
    reducers = [item for item in chosen if item.name != "none"]
    if len(chosen) > 1:
        yield from (f"{item.key}: does nothing in a list; leave it out" for item in chosen if item.name == "none")
    yield from _needs(reducers)
    yield from _budgets(reducers)
    yield from _dull(settings, reducers)
    yield from _focus(settings, reducers)
    if settings.memory.recover and settings.archive.enabled:
        yield "memory.recover: true brings back roughly what archive.enabled: true has as it was; choose one of them"
    if settings.memory.recover and settings.memory.recalled == 0:
        yield "memory.recover: gives back memory.recalled carriers, which is 0; give it a number, or set recover: false"
    scale = settings.model.rope_scale
    if scale > 1 and settings.memory.positions == "equal":
        yield (
            f"model.rope_scale: {scale:g} makes positions reach further, and memory.positions: equal "
            "has one for all that is remembered; leave one of them out"
        )


def _only(key: str, spec: Method) -> Chosen:
    (name,) = spec
    return Chosen(f"{key}.{name}", name)


def _needs(reducers: Sequence[Chosen]) -> Iterator[str]:
    """Who took what a later one needs. A thinned tower takes nothing: its taps cover the whole grid."""
    taken: dict[str, Chosen] = {}
    for item in reducers:
        culprits: dict[Chosen, list[str]] = {}
        for thing in _WORDS:
            if thing in item.method.needs and thing in taken:
                culprits.setdefault(taken[thing], []).append(_WORDS[thing])
        for culprit, things in culprits.items():
            verb = "takes apart" if things == [_WORDS[GRID]] else "does not leave"
            yield f"{item.key}: needs {' and '.join(things)}, which {culprit.key} {verb}; {_way_out(item, culprit)}"
        for thing in _WORDS:
            if thing not in item.method.leaves:
                taken.setdefault(thing, item)


def _way_out(item: Chosen, culprit: Chosen) -> str:
    if culprit.method.needs <= item.method.leaves:
        return f"put {item.name} first"
    return "choose one of them"


def _budgets(reducers: Sequence[Chosen]) -> Iterator[str]:
    """A later reducer that may keep more than an earlier one leaves has nothing to do."""
    for earlier, later in pairwise(item for item in reducers if isinstance(item.method, Dull)):
        if earlier.method.below != later.method.below:
            continue
        pairs = [(getattr(earlier.method, kind), getattr(later.method, kind)) for kind in ("dull", "keen")]
        if all(own == 0 or 0 < before < own for before, own in pairs):
            kept = ", ".join(f"{kind}: {own}" for kind, (_, own) in zip(("dull", "keen"), pairs, strict=True))
            yield (
                f"{later.key}: keeps more tokens ({kept}; 0 is all) than {earlier.key} leaves it; "
                "give it less, or put it first"
            )


def _dull(settings: Settings, reducers: Sequence[Chosen]) -> Iterator[str]:
    """Reducers of dull frames alone, and no camera whose gate calls a frame dull."""
    lasts = {
        (f"cameras.{name}.gate" if camera.gate else "gate"): camera.gate or settings.gate
        for name, camera in settings.cameras.items()
    }
    scoreless = [key for key, gates in lasts.items() if not gates or next(iter(gates[-1])) in _SCORELESS]
    if len(scoreless) < len(lasts):
        return
    for item in reducers:
        if isinstance(item.method, Dull) and item.method.keen == 0 and item.method.below <= 1.0:
            key, gates = scoreless[0], lasts[scoreless[0]]
            last = f"{key}.{len(gates) - 1}.{next(iter(gates[-1]))}" if gates else key
            yield (
                f"{item.key}: reduces dull frames only (keen: 0), and {last} calls no frame dull; "
                "end the gate with `still`, or set keen"
            )


def _focus(settings: Settings, reducers: Sequence[Chosen]) -> Iterator[str]:
    """A focus needs tokens to choose from, a number of them that is read, and perhaps their places."""
    memory = settings.memory
    focus = _only("memory.focus", memory.focus)
    if focus.name == "all":
        if memory.focus_tokens is not None:
            yield f"memory.focus_tokens: {memory.focus_tokens}, but {focus.key} reads all; choose memory.focus: uniform"
    elif memory.detail_frames == 0:
        yield (
            f"{focus.key}: chooses among the newest frames' visual tokens, and memory.detail_frames: 0 keeps none; "
            "set memory.focus: all, or keep some frames"
        )
    elif memory.focus_tokens is None:
        yield (
            f"{focus.key}: reads all tokens as long as memory.focus_tokens is null; "
            "give it a number, or set memory.focus: all"
        )
    for item in reducers:
        if focus.name in _BY_PLACE and item.name in _POOLING and item.method.keen > 0:
            yield (
                f"{focus.key}: goes by where tokens stood in the frame, which {item.key} leaves of no frame (keen: "
                f"{item.method.keen}); set keen: 0, choose a reducer that picks tokens, or memory.focus: uniform"
            )
    carries = carrier.make(settings.model.carrier)
    if focus.name in _BY_PLACE and carries.companions and not carries.attentive:
        yield (
            f"{focus.key}: goes by where tokens stood in the frame, and companions of model.carrier."
            f"{next(iter(settings.model.carrier))} stood nowhere; choose model.carrier: mean or plus, or "
            "memory.focus: uniform"
        )
