"""Questions about a stretch of street, as people put them, with the one right answer.

A thing counts as seen when half of it stood in a frame that was absorbed; between a sliver and a half nobody can
say, so nothing is asked whose answer depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stream.train.world import COLOURS, KINDS, Street, Thing

SEEN, SLIVER = 0.5, 0.02  # visible share from which a thing is there, and up to which it is not

PHRASINGS: dict[str, tuple[str, ...]] = {
    "now": (
        "what is visible now?",
        "what do you see now?",
        "what is in the picture right now?",
        "what is there at the moment?",
        "what can you see?",
        "What is on the street right now?",
    ),
    "first": (
        "what passed first?",
        "what was the first thing you saw?",
        "what came first?",
        "What was the first thing that passed?",
        "which thing passed first?",
    ),
    "last": (
        "what passed last?",
        "what was the last thing you saw?",
        "what came last?",
        "What was the last thing that passed?",
        "what passed most recently?",
    ),
    "count": (
        "how many things passed?",
        "how many things have you seen?",
        "How many things passed so far?",
        "count the things that passed",
    ),
    "seen": (
        "did {} pass?",
        "did you see {}?",
        "Have you seen {}?",
        "was there {}?",
    ),
}
NOTHING, YES, NO = "nothing", "yes", "no"
CLASSES = (NOTHING, *(Thing(kind, colour).name for kind in KINDS for colour in COLOURS))


@dataclass(frozen=True, slots=True)
class Question:
    """A question put after frame `step`. `age` is the number of frames since its evidence was last in view."""

    kind: str
    text: str
    answer: str
    step: int
    age: int


@dataclass(frozen=True, slots=True)
class Clip:
    """What a sequence of absorbed frames showed: the visible share of every event in every frame."""

    things: tuple[Thing, ...]
    share: np.ndarray  # float [frames, events]

    @classmethod
    def of(cls, street: Street, times_s: Sequence[float]) -> Clip:
        """The truth about a street sampled at `times_s`."""
        share = [[event.visible(t_s) for event in street.events] for t_s in times_s]
        return cls(tuple(event.thing for event in street.events), np.asarray(share).reshape(len(times_s), -1))

    def best(self, step: int) -> np.ndarray:
        """The largest visible share of each event up to and with frame `step`."""
        if not self.things:
            return np.zeros(0)
        best: np.ndarray = self.share[: step + 1].max(0)
        return best

    def seen(self, step: int) -> list[int] | None:
        """The events seen up to `step`, in order; None while one of them is only a sliver."""
        best = self.best(step)
        if ((best > SLIVER) & (best < SEEN)).any():
            return None
        return [int(index) for index in np.flatnonzero(best >= SEEN)]

    def now(self, step: int) -> int | None:
        """The event in view at `step`, -1 for an empty street, None for a sliver."""
        share = self.share[step]
        if ((share > SLIVER) & (share < SEEN)).any():
            return None
        there = np.flatnonzero(share >= SEEN)
        return int(there[0]) if len(there) else -1

    def age(self, event: int, step: int) -> int:
        """Frames since `event` was last in view."""
        return step - int(np.flatnonzero(self.share[: step + 1, event] >= SEEN)[-1])


def answer(clip: Clip, kind: str, step: int, thing: Thing | None = None) -> tuple[str, int] | None:
    """The right answer and the age of its evidence in frames; None when nobody can say."""
    if kind == "now":
        there = clip.now(step)
        return None if there is None else (clip.things[there].name if there >= 0 else NOTHING, 0)
    seen = clip.seen(step)
    if seen is None:
        return None
    if kind == "count":
        return str(len(seen)), clip.age(seen[0], step) if seen else 0
    if kind == "seen":
        found = [index for index in seen if clip.things[index] == thing]
        return (YES, clip.age(found[-1], step)) if found else (NO, 0)
    if not seen:
        return NOTHING, 0
    event = seen[0] if kind == "first" else seen[-1]
    return clip.things[event].name, clip.age(event, step)


def ask(clip: Clip, kind: str, step: int, rng: np.random.Generator) -> Question | None:
    """One question of `kind` after frame `step`, in a random phrasing; None when it has no clear answer."""
    thing = None
    if kind == "seen":
        seen = clip.seen(step) or []
        if seen and rng.random() < 0.5:
            thing = clip.things[seen[rng.integers(len(seen))]]
        else:
            thing = Thing(KINDS[rng.integers(len(KINDS))], list(COLOURS)[rng.integers(len(COLOURS))])
    found = answer(clip, kind, step, thing)
    if found is None:
        return None
    text = PHRASINGS[kind][rng.integers(len(PHRASINGS[kind]))].format(thing.name if thing else "")
    return Question(kind, text, found[0], step, found[1])


def corpus() -> list[str]:
    """Text for the tokeniser: all phrasings and all answers, as they stand in a prompt."""
    names = list(CLASSES[1:])
    asked = [text.format(name) for texts in PHRASINGS.values() for text in texts for name in names]
    return asked + names * 20 + [NOTHING, YES, NO, "user\n", "assistant\n", "system\n"] * 200
