"""Ways to remember, side by side on the same frames: every frame is seen once and absorbed by all of them in one batch.

    blind     no video at all: what guessing from the question gives
    oracle    all frames that the answer rests on at full detail, and nothing else; the newest where it rests on none
    full      every visual token of every kept frame, and all carriers
    window4   the last 4 kept frames at full detail and nothing else, as if the stream had begun with them
    carriers  one carrier a frame, at most M of them, no recent detail
    hybrid    the same carriers and the last 4 frames at full detail: the bank alone
    recall    hybrid, and of the past what the archive has: what the daemon reads by default
    daemon    the same, but what nothing supports is not said: what the daemon answers
    detailK   hybrid with the last K frames (asked for with --detail)

and, with M carriers and no detail, every policy of `memory/retain` (`carriers` is `adjacent` with `extend`).
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import numpy as np
import torch
from shelf import Shelf

from daemon.core import Core
from daemon.session import Session
from daemon.trust import judge
from memory import retain
from memory.bank import MemoryBank
from memory.retain import Choice
from memory.view import MemoryView, Moment
from stream.encoder import Encoder
from stream.kv import Past, Work
from stream.model import Model
from stream.tower import Tower
from stream.types import Budget, Frame, Span, Trust, VisualTokens

WINDOW = 4
HYBRID = 4  # newest frames at full detail in the daemon's default
ALONE = 600  # keys: a longer past is read in a batch of its own, where it pads nothing else
EVIDENCE = 2  # moments named with an answer, the daemon's default
MAX_TOKENS = 20  # of an answer; the longest right one names three things
SEEN_ONCE = 256  # frames whose visual tokens are kept for the oracle


class Once:
    """A model that sees a picture once, however often it stands in a batch. All else is the model's."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._known: OrderedDict[bytes, VisualTokens] = OrderedDict()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def encode(self, images: np.ndarray, tower: Tower | None = None, taps: Sequence[int] = ()) -> list[VisualTokens]:
        """See `stream.model.Model.encode`. With a tower method or taps nothing is kept: they may differ each time."""
        if tower is not None or taps:
            return self._model.encode(images, tower, taps)
        keys = [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images]
        for key, image in zip(keys, images, strict=True):
            if key not in self._known:
                self._known[key] = self._model.encode(image[None])[0]
        found = [self._known[key] for key in keys]
        while len(self._known) > SEEN_ONCE:
            self._known.popitem(last=False)
        return found


@dataclass(frozen=True, slots=True)
class Said:
    """An answer, with the model's own marks where times stand, and the time of the first mark."""

    text: str
    span_s: tuple[float, float] | None = None
    confidence: float = field(default=0.0, compare=False)  # as the tokens have it
    support: float | None = field(default=None, compare=False)  # see Session.support
    shown: tuple[tuple[int, float], ...] = field(default=(), compare=False)  # evidence: frames and their weights

    @classmethod
    def of(cls, model: Model, session: Session, number: int) -> Said:
        """What row `number` of a session has written."""
        parts, begin, row = [], 0, session.rows[number]
        for place, token in enumerate(row.ids):
            if token in model.marks:
                parts += [model.decode(row.ids[begin:place]), model.marks[token]]
                begin = place + 1
        parts.append(model.decode(row.ids[begin:]))
        first = row.spans[0] if row.spans else None
        return cls(
            text=" ".join(" ".join(parts).split()),
            span_s=(first.first_s, first.last_s) if first else None,
            confidence=row.confidence,
            support=session.support(number),
            shown=tuple((moment.frame, weight) for moment, weight in session.evidence(number, EVIDENCE)),
        )

    def judged(self, trust: Trust | None) -> Said:
        """What the daemon makes of it."""
        found = judge(self.text, self.confidence, self.support, trust, None)
        return self if found.text == self.text else replace(self, text=found.text, span_s=None)


@dataclass(slots=True)
class Lane:
    """One bank, and for every carrier the frames that something is left of in it."""

    bank: MemoryBank
    made_of: list[frozenset[int]] = field(default_factory=list)

    def work(self, frame: Frame) -> Work:
        """What absorbing `frame` takes."""
        return self.bank.work(frame)

    def note(self, frame: int, choice: Choice | None) -> None:
        """`frame` was added; `choice` says what left for it."""
        self.made_of.append(frozenset((frame,)))
        if choice is None:
            return
        left = self.made_of[choice.leaves]
        if choice.into is not None and choice.how == "merge":
            self.made_of[choice.into] |= left
        del self.made_of[choice.leaves]

    def held(self) -> frozenset[int]:
        """Frames that its carriers still hold something of."""
        return frozenset().union(*self.made_of)


def every() -> list[str]:
    """The names of all systems but `detailK`."""
    return ["blind", "oracle", "full", "window4", "carriers", "hybrid", "recall", "daemon", *policies()]


def policies() -> dict[str, dict[str, dict[str, Any]]]:
    """Every retention policy but the default, as its configuration."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name in retain.TABLE:
        if name == "adjacent":
            found |= {how: {name: {"when_full": how}} for how in get_args(retain.Absorb) if how != "extend"}
        else:
            found[name] = {name: {}}
    return found


class Watch:
    """Systems over one stream, `budget` carriers each: those in `only`, else all. `details` are K of more `detailK`."""

    def __init__(
        self,
        core: Core,
        budget: int,
        frames: int,
        details: Sequence[int] = (),
        only: Collection[str] = (),
        shelf: Shelf | None = None,
    ) -> None:
        self.core, self.budget, self.only, self.shelf = core, budget, frozenset(only), shelf
        self.details = {"carriers": 0, "hybrid": HYBRID, **{f"detail{k}": k for k in details}}
        self.frames: list[Frame] = []
        self.lanes = {"hybrid": self._lane(budget, max(self.details.values()), {"adjacent": {}})}
        self.lanes |= {name: self._lane(budget, 0, spec) for name, spec in policies().items() if self.has(name)}
        need = core.policy.positions.bound(frames, MAX_TOKENS + 64)
        if self.has("full") and need <= core.model.geometry.max_positions:
            self.lanes["full"] = self._lane(max(1, frames), frames, {"fifo": {}})

    def absorb(self, frame: Frame) -> None:
        """Every system sees the next frame."""
        self.frames.append(frame)
        self._feed([(lane, frame) for lane in self.lanes.values()])

    def has(self, name: str) -> bool:
        """Whether this system is wanted."""
        return not self.only or name in self.only

    @property
    def names(self) -> list[str]:
        """Systems, in the order of the table; `full` is missing where the checkpoint has too few positions."""
        rest = [name for name in self.lanes if name not in ("hybrid", "full")]
        full = ["full"] if "full" in self.lanes else []
        past = ["recall", "daemon"] if self.shelf else []
        return [name for name in ("blind", "oracle", *full, "window4", *self.details, *past, *rest) if self.has(name)]

    def banks(self) -> dict[str, MemoryView]:
        """What a question asked now reads in the systems that have a bank."""
        now_s, visual = self.frames[-1].wall_s, self.core.model.geometry.visual
        views = {name: lane.bank.fork(now_s=now_s) for name, lane in self.lanes.items()}
        views |= {name: newest(views["hybrid"], k, visual) for name, k in self.details.items()}
        return {name: view for name, view in views.items() if self.has(name)}

    def hybrid(self) -> MemoryView:
        """What a question asked now reads of the bank that the daemon has."""
        view = self.lanes["hybrid"].bank.fork(now_s=self.frames[-1].wall_s)
        return newest(view, HYBRID, self.core.model.geometry.visual)

    def views(self, evidence: Sequence[Sequence[int]]) -> list[dict[str, MemoryView]]:
        """What each of several questions asked now reads in every system; `evidence` are the frames they rest on."""
        last = len(self.frames) - 1
        window, *oracles = self._afresh(
            [range(max(0, last + 1 - WINDOW), last + 1), *(own or [last] for own in evidence if self.has("oracle"))]
        )
        empty = nothing(self._lane(1, 0, {"fifo": {}}).bank.fork(now_s=self.frames[-1].wall_s))
        shared = {name: view for name, view in (("blind", empty), ("window4", window)) if self.has(name)}
        shared |= self.banks()
        return [{**shared, "oracle": own} for own in oracles] if self.has("oracle") else [shared] * len(evidence)

    def _afresh(self, wanted: Sequence[Sequence[int]]) -> list[MemoryView]:
        """For every list of frames a memory of these alone, in full; long lists are thinned evenly to the budget."""
        chosen = []
        for frames in wanted:
            size = max(WINDOW, self.budget)
            places = np.unique(np.linspace(0, len(frames) - 1, min(size, len(frames))).round().astype(int))
            chosen.append([self.frames[frames[place]] for place in places])
        lanes = [self._lane(len(own), len(own), {"fifo": {}}) for own in chosen]
        for turn in range(max(map(len, chosen))):
            self._feed([(lane, own[turn]) for lane, own in zip(lanes, chosen, strict=True) if turn < len(own)])
        return [lane.bank.fork(now_s=self.frames[-1].wall_s) for lane in lanes]

    def held(self) -> dict[str, frozenset[int]]:
        """Frames that each system still has something of; not for `blind` and `oracle`."""
        count = len(self.frames)
        found = {name: lane.held() for name, lane in self.lanes.items()}
        carriers = found["hybrid"]
        found |= {name: carriers | frozenset(range(max(0, count - k), count)) for name, k in self.details.items()}
        found |= {name: frozenset(range(count)) for name in ("recall", "daemon") if self.shelf}
        found["window4"] = frozenset(range(max(0, count - WINDOW), count))
        return found

    def fingerprints(self) -> dict[str, str]:
        """A digest of everything that each bank holds: equal when and only when it is bit-equal."""
        return {name: fingerprint(lane.bank.fork(now_s=self.frames[-1].wall_s)) for name, lane in self.lanes.items()}

    def _lane(self, carriers: int, detail: int, spec: Mapping[str, Mapping[str, Any]]) -> Lane:
        policy = replace(self.core.policy, budget=Budget(carriers, detail), retain=retain.make(spec))
        return Lane(MemoryBank("street", self.core.model.geometry, policy))

    def _feed(self, pairs: Sequence[tuple[Lane, Frame]]) -> None:
        works = [lane.work(frame) for lane, frame in pairs]
        for group in together([work.lane.extent.slots for work in works]):
            made = self.core.encoder.absorb([works[place] for place in group])
            for place, carrier in zip(group, made, strict=True):
                lane, frame = pairs[place]
                lane.note(frame.index, lane.bank.add(carrier))
                if self.shelf is not None and lane is self.lanes.get("hybrid"):
                    self.shelf.file(carrier)


def once(core: Core) -> Core:
    """The same parts, seeing every picture once."""
    return replace(core, encoder=Encoder(Once(core.model), core.encoder.carrier))


def together(lengths: Sequence[int]) -> list[list[int]]:
    """Which rows are run in one batch: those longer than ALONE apart from the others."""
    short = [place for place, length in enumerate(lengths) if length <= ALONE]
    long = [place for place, length in enumerate(lengths) if length > ALONE]
    return [group for group in (short, long) if group]


def newest(view: MemoryView, frames: int, visual: int) -> MemoryView:
    """`view` with the full detail of its newest `frames` frames only."""
    first = max(view.count, len(view.past) - frames * visual)
    kept = torch.cat((torch.arange(view.count), torch.arange(first, len(view.past))))
    past = view.past
    place = kept.to(past.keys.device)
    part = Past(past.keys[:, :, place], past.values[:, :, place], past.positions[kept.to(past.positions.device)])
    return replace(view, past=part, source=view.source[kept], places=view.places[kept])


def nothing(view: MemoryView) -> MemoryView:
    """An empty `view` that a session takes: it wants a moment that it can name."""
    return replace(view, moments=(Moment(0, Span(0.0, 0.0), b""),))


def fingerprint(view: MemoryView) -> str:
    """A digest of all bits of a view."""
    digest = hashlib.blake2b(repr([(moment.frame, moment.span) for moment in view.moments]).encode(), digest_size=16)
    for tensor in (view.past.keys, view.past.values, view.past.positions):
        digest.update(tensor.float().cpu().numpy().tobytes())
    return digest.hexdigest()


class Talk:
    """One question put to several views at once, decoded token by token. `names` and `views` in the same order."""

    def __init__(self, core: Core, text: str, views: Mapping[str, MemoryView], max_tokens: int = MAX_TOKENS) -> None:
        self.core = core
        names, shown = list(views), list(views.values())
        ids = core.model.question_ids(text)
        self._parts: list[tuple[list[str], Session]] = []
        for group in together([len(view.past) for view in shown]):
            rows = [shown[place] for place in group]
            session = Session(core.model, core.policy.positions, rows, ids, max_tokens)
            self._parts.append(([names[place] for place in group], session))

    @property
    def done(self) -> bool:
        """Whether every row has ended."""
        return all(session.done for _, session in self._parts)

    def step(self) -> None:
        """One token more, where there is more to say."""
        for _, session in self._parts:
            if not session.done:
                session.step()

    def said(self) -> dict[str, Said]:
        """What each has answered."""
        return {
            name: Said.of(self.core.model, session, number)
            for names, session in self._parts
            for number, name in enumerate(names)
        }


def answer(core: Core, text: str, views: Mapping[str, MemoryView], max_tokens: int = MAX_TOKENS) -> dict[str, Said]:
    """The answers to one question, by system."""
    talk = Talk(core, text, views, max_tokens)
    while not talk.done:
        talk.step()
    return talk.said()
