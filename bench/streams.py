"""What is watched and what is asked: fresh streets of several kinds as a gate leaves them, and questions spread evenly.

    busy         40 to 90 s, much going on
    minutes      4 to 12 minutes, something every half minute
    hour         65 minutes on a steady camera, a dozen happenings and long still stretches
    adversarial  what makes a memory throw away the wrong thing: two things in turn for minutes, a noisy and shaking
                 camera, ten still minutes with one blip, the same bus every twenty seconds
    faults       the camera goes black, freezes, or sends nothing

Frames come once a second and pass the daemon's own gate. Seeds lie far from every seed of training.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from stream import gate
from stream.train.events import Event
from stream.train.questions import BLACK, KINDS, NO, YES, Question, ask
from stream.train.script import Style
from stream.train.truth import SEEN, SLIVER, Truth
from stream.train.world import Street
from stream.types import Frame

SEED = 1_000_000
GATE: list[dict[str, dict[str, float]]] = [{"still": {}}]  # with its defaults
FPS = 1.0
HOUR_S = 3900.0
BACKWARD = ("needle", "order", "before_after", "count", "howlong", "when", "then")
FAMILIES = ("now", *BACKWARD, "state", "absence", "distractor", "faults", "adversarial")
AGES: tuple[tuple[str, float, float], ...] = (  # name, from, to; seconds since the evidence was last in view
    ("age_5s", 0.0, 10.0),
    ("age_30s", 10.0, 60.0),
    ("age_2min", 60.0, 300.0),
    ("age_10min", 300.0, 1800.0),
    ("age_1h", 1800.0, float("inf")),
)
REASKED = ("now_gate", "now_light", "now_sign", "now_what")  # the same words again and again along a stream
AGELESS = 6  # questions without an age come this often for one of each age
TRIES = 3  # drafts of every kind at every moment, to choose among


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is asked of one kind of stream."""

    kind: str
    streams: int
    moments: int  # a stream: after how many frames questions are asked
    questions: int  # a moment


FULL = (
    Plan("busy", 40, 3, 9),
    Plan("minutes", 10, 5, 11),
    Plan("hour", 4, 8, 13),
    Plan("adversarial", 10, 4, 7),
    Plan("faults", 12, 4, 5),
)
QUICK = (
    Plan("busy", 3, 2, 10),
    Plan("minutes", 1, 3, 8),
    Plan("hour", 1, 4, 8),
    Plan("adversarial", 2, 2, 5),
    Plan("faults", 2, 2, 4),
)


@dataclass(frozen=True, slots=True)
class Stream:
    """A street as it was watched. Frame i of `frames` is frame i of `truth`; its `wall_s` is the street's time."""

    kind: str
    number: int
    street: Street
    frames: list[Frame]
    truth: Truth
    grabbed: int  # frames that the gate saw

    @property
    def key(self) -> tuple[int, ...]:
        """Seeds whatever is drawn for this stream."""
        return SEED, sorted(MAKERS).index(self.kind), self.number


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, where it counts, and the seed that draws it again."""

    question: Question
    columns: tuple[str, ...]  # of the table
    seed: tuple[int, ...]

    @property
    def age(self) -> str:
        """Name of the age of its evidence; empty where it rests on none, or is about now."""
        question = self.question
        if not question.evidence or BACKWARD_OF.get(question.kind) is None:
            return ""
        return next(name for name, low, high in AGES if low <= question.age_s < high)

    def held(self, truth: Truth, frames: frozenset[int]) -> bool:
        """Whether a memory of `frames` still has something of all that the answer rests on."""
        question = self.question
        rng = np.random.default_rng(self.seed)
        return ask(truth, question.kind, question.step, rng, frames) is not None


def family(kind: str) -> str:
    """The column that a kind of question counts for."""
    if kind in ("after", "before"):
        return "before_after"
    return "faults" if KINDS[kind] == "fault" else KINDS[kind]


BACKWARD_OF = {kind: family(kind) for kind in KINDS if family(kind) in BACKWARD}


# -- streets -----------------------------------------------------------------------------------------------------------


def _busy(seed: int, rng: np.random.Generator) -> Street:
    style = Style(pause_s=float(rng.uniform(0.8, 4.0)), burst=0.2)
    return Street(seed, float(rng.uniform(40.0, 90.0)), style)


def _minutes(seed: int, rng: np.random.Generator) -> Street:
    style = Style(pause_s=float(rng.uniform(20.0, 45.0)), parcels=0.15)
    return Street(seed, float(rng.uniform(240.0, 720.0)), style)


def _hour(seed: int, rng: np.random.Generator) -> Street:
    return Street(seed, HOUR_S, Style(pause_s=float(rng.uniform(250.0, 400.0)), burst=0.02, weather=False))


def _faults(seed: int, rng: np.random.Generator) -> Street:
    seconds = float(rng.uniform(60.0, 180.0))
    return _first(
        seed, lambda other: Street(other, seconds, Style(pause_s=4.0, faults=True)), lambda it: bool(it.faults)
    )


def _alternation(seed: int, rng: np.random.Generator) -> Street:
    """Two things in turn, for minutes, and a few others among them."""
    street = Street(seed, float(rng.uniform(120.0, 240.0)), Style(pause_s=30.0))
    first, second = _walkers(seed, 2)
    turns = (first, second) * int(street.seconds / 7.0)
    _insert(street, (_at(event, 3.0 + 7.0 * number) for number, event in enumerate(turns)))
    return street


def _traffic(seed: int, rng: np.random.Generator) -> Street:
    """The same thing every twenty seconds, and a few others among them."""
    street = Street(seed, float(rng.uniform(200.0, 400.0)), Style(pause_s=40.0))
    (walker,) = _walkers(seed, 1)
    _insert(street, (_at(walker, at_s) for at_s in np.arange(5.0, street.seconds, 20.0)))
    return street


def _blip(seed: int, rng: np.random.Generator) -> Street:
    """Still for ten minutes, but for one thing that passes once."""
    street = Street(seed, 600.0, Style(pause_s=1e9, fixtures=()))
    (walker,) = _walkers(seed, 1)
    street.events = (_at(walker, float(rng.uniform(60.0, 400.0))),)
    return street


def _unsteady(seed: int, rng: np.random.Generator) -> Street:
    """A noisy camera on a shaking pole."""
    seconds = float(rng.uniform(60.0, 150.0))
    style = Style(pause_s=12.0)
    return _first(
        seed, lambda other: Street(other, seconds, style), lambda it: it.scene.noise > 2.5 and it.scene.shake > 0
    )


def _first(seed: int, make: Callable[[int], Street], fits: Callable[[Street], bool]) -> Street:
    """The first that fits, from `seed` on."""
    return next(street for street in map(make, itertools.count(seed)) if fits(street))


def _walkers(seed: int, count: int) -> list[Event]:
    """Events of different names that cross without stopping, from a street of their own."""
    donor = Street(seed + 1, 600.0, Style(pause_s=1.0, parcels=0.0))
    found: dict[str, Event] = {}
    for event in donor.events:
        if event.direction and event.halt[0] == event.halt[1] and event.laden[0] == event.laden[1]:
            found.setdefault(event.thing.name, event)
    return list(found.values())[:count]


def _at(event: Event, first_s: float) -> Event:
    return replace(event, first_s=first_s, last_s=first_s + event.last_s - event.first_s)


def _insert(street: Street, events: Iterator[Event]) -> None:
    """Add those of `events` that meet nothing else."""
    own = street.events
    free = [
        event
        for event in events
        if event.last_s < street.seconds
        and all(event.last_s + 0.5 < other.first_s or event.first_s > other.last_s + 0.5 for other in own)
    ]
    street.events = tuple(sorted((*own, *free), key=lambda event: event.first_s))


Maker = Callable[[int, np.random.Generator], Street]
MAKERS: dict[str, tuple[Maker, ...]] = {  # streams of a kind take turns
    "busy": (_busy,),
    "minutes": (_minutes,),
    "hour": (_hour,),
    "adversarial": (_alternation, _blip, _traffic, _unsteady),
    "faults": (_faults,),
}


def draw(kind: str, number: int, px: int) -> Stream:
    """Stream `number` of `kind`, as pictures of `px` x `px` that the gate keeps."""
    rng = np.random.default_rng((SEED, sorted(MAKERS).index(kind), number))
    makers = MAKERS[kind]
    street = makers[number % len(makers)](int(rng.integers(2**31, 2**32)), rng)
    judge = gate.make(GATE).judge
    frames: list[Frame] = []
    grabbed = 0
    for at_s in np.arange(0.5, street.seconds, 1.0 / FPS).tolist():
        if street.fault(at_s) == "gap":
            continue
        grabbed += 1
        frame = Frame("street", len(frames), 0, at_s, at_s, street.render(at_s, px, px))
        verdict = judge(frame)
        if verdict.keep:
            frames.append(replace(frame, score=verdict.score))
    return Stream(kind, number, street, frames, Truth.of(street, [frame.wall_s for frame in frames]), grabbed)


# -- questions ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Balance:
    """How often every column, age and kind was asked: what was asked least comes next."""

    cells: Counter[tuple[str, str]] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)

    def choose(self, drafts: Sequence[Asked], count: int) -> list[Asked]:
        """`count` of `drafts`, no two the same question."""
        left, chosen = list(drafts), list[Asked]()
        while left and len(chosen) < count:
            best = min(left, key=self._asked)
            self.cells[_cell(best)] += 1
            self.kinds[best.question.kind] += 1
            chosen.append(best)
            same = best.question
            left = [
                item for item in left if (item.question.template, item.question.slots) != (same.template, same.slots)
            ]
        return chosen

    def _asked(self, item: Asked) -> tuple[float, int]:
        share = 1 if item.age else AGELESS
        return self.cells[_cell(item)] / share, self.kinds[item.question.kind]


def _cell(item: Asked) -> tuple[str, str]:
    return family(item.question.kind), item.age


def questions(stream: Stream, plan: Plan, balance: Balance) -> dict[int, list[Asked]]:
    """What is asked after which frame."""
    rng = np.random.default_rng((*stream.key, 1))
    again = _reasked(stream, rng)
    found: dict[int, list[Asked]] = {}
    for step in moments(stream, plan.moments, rng):
        drafts = list(_drafts(stream, step))
        order = rng.permutation(len(drafts)).tolist()
        forced = [item for item in drafts if stream.kind == "faults" and "faults" in item.columns]
        chosen = balance.choose(forced, 2)
        chosen += balance.choose([drafts[place] for place in order if drafts[place] not in chosen], plan.questions)
        item = again(step) if again and stream.kind in ("busy", "minutes", "hour") else None
        found[step] = chosen + ([item] if item else [])
    return found


def moments(stream: Stream, count: int, rng: np.random.Generator) -> list[int]:
    """Frames after which questions are asked: in the last two thirds, half of them black where there are black ones."""
    last = len(stream.frames)
    late = np.arange(last // 3, last)
    black = [step for step, fault in enumerate(stream.truth.fault) if fault == "black"]
    half = min(len(black), count // 2) if stream.kind == "faults" else 0
    dark = rng.choice(black, half, replace=False).tolist() if half else []
    rest = [step for step in late.tolist() if step not in dark]
    return sorted(dark + rng.choice(rest, min(count - half, len(rest)), replace=False).tolist())


def _drafts(stream: Stream, step: int) -> Iterator[Asked]:
    for number, kind in enumerate(KINDS):
        for attempt in range(TRIES):
            seed = (*stream.key, 2, step, number, attempt)
            question = ask(stream.truth, kind, step, np.random.default_rng(seed))
            if question is not None:
                yield Asked(question, columns(stream, question), seed)


def columns(stream: Stream, question: Question) -> tuple[str, ...]:
    """Where a question counts: its family; on an adversarial stream only there; and as a distractor where it is one."""
    if stream.kind == "adversarial":
        return ("adversarial",)
    own = "faults" if question.answer == BLACK else family(question.kind)
    return (own, "distractor") if distracted(stream.truth, question) else (own,)


def distracted(truth: Truth, question: Question) -> bool:
    """Whether a wrong answer was right at another time of the same stream: of things or states, not of yes and no."""
    if question.answer in (YES, NO, BLACK) or family(question.kind) not in ("now", "needle"):
        return False
    fixture = question.kind.removeprefix("now_")
    if fixture in truth.fixtures:
        return len(set(truth.fixtures[fixture][: question.step + 1])) > 1
    shown = set(question.evidence)
    return any(shown.isdisjoint(truth.frames_of(event, question.step)) for event in truth.seen(question.step))


def _reasked(stream: Stream, rng: np.random.Generator) -> Callable[[int], Asked | None] | None:
    """One question about the state of something, in the same words at every moment."""
    states = {kind: set(stream.truth.fixtures.get(kind.removeprefix("now_"), ())) for kind in REASKED}
    changing = [kind for kind in REASKED[:-1] if len(states[kind]) > 1] or [REASKED[-1]]
    kind = changing[int(rng.integers(len(changing)))]
    words: list[str] = []

    def again(step: int) -> Asked | None:
        seed = (*stream.key, 3, step)
        question = ask(stream.truth, kind, step, np.random.default_rng(seed))
        if question is None:
            return None
        words.append(question.text)
        return Asked(replace(question, text=words[0]), ("state",), seed)

    return again


# -- standing questions ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Standing:
    """A question put again after every frame, and whether it is so: True, False, or None where nobody can say."""

    text: str
    truth: tuple[bool | None, ...]


def standing(stream: Stream) -> Standing | None:
    """`Is there a red car?` for something that comes along; None where nothing does."""
    rng = np.random.default_rng((*stream.key, 4))
    for step in rng.permutation(len(stream.frames)).tolist():
        question = ask(stream.truth, "now_is", step, rng)
        if question is not None and question.answer == YES:
            return Standing(question.text, presence(stream.truth, dict(question.slots)["a"]))
    return None


def presence(truth: Truth, name: str) -> tuple[bool | None, ...]:
    """Whether something called `name` is there, frame by frame."""
    alike = [number for number, event in enumerate(truth.events) if name in (event.thing.name, f"a {event.thing.kind}")]
    plain = all(f"a {truth.events[number].thing.kind}" == name for number in alike)
    share = truth.share[:, alike].max(1, initial=0.0)
    found: list[bool | None] = []
    for best, coloured, fault in zip(share.tolist(), truth.coloured.tolist(), truth.fault, strict=True):
        unsure = fault == "black" or SLIVER < best < SEEN or not (coloured or plain)
        found.append(None if unsure else best >= SEEN)
    return tuple(found)
