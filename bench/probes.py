"""One stream played to all systems: questions on its way, and what else a memory must stand.

standing      `is there a red car?` put again after every kept frame: early is 0, within 2 s is full, later decays to 0
              at 10 s; what is said twice, and what is said of nothing, is counted an hour
interference  the last questions of a stream once more on a memory that was never asked anything, all of them at once:
              the answers must be the same, and the banks bit-equal
phrasings     the same question in ten wordings, on the same memory
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import numpy as np
from shelf import Shelf
from streams import Asked, Plan, Standing, Stream, standing
from systems import Said, Talk, Watch, answer

from daemon.core import Core
from memory.view import MemoryView
from stream.train.questions import NO, NOT_SEEN, YES, rephrase, right

IN_TIME_S, TOO_LATE_S = 2.0, 10.0
SAME_S = 2.0  # two answers mean the same time when they are no further apart
WORDINGS = 10
POLL_TOKENS = 2  # `yes` and its end


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured: streams of every kind, and on how many of them the rest."""

    plans: tuple[Plan, ...]
    standing: Mapping[str, int]  # streams, by kind
    interference: int  # busy streams
    phrasings: int  # questions a busy stream, of its last moment


@dataclass(frozen=True, slots=True)
class Record:
    """One system's answer to one question."""

    system: str
    asked: Asked
    said: Said
    right: bool
    held: bool | None  # whether the evidence was still in its memory; None where that means nothing

    @property
    def unseen(self) -> bool:
        """Whether it was asked about something that was never shown."""
        question = self.asked.question
        return question.answer == NOT_SEEN or (question.kind == "seen" and question.answer == NO)

    @property
    def seen(self) -> bool:
        """Whether it was asked about something of the past that was shown."""
        return bool(self.asked.age)

    @property
    def denied(self) -> bool:
        """Whether it says that what was shown was not."""
        text = plain(self.said.text)
        return text == plain(NOT_SEEN) or (self.asked.question.kind == "seen" and text == NO)


@dataclass(slots=True)
class Vigil:
    """What a system said to a standing question, over one or more streams."""

    scores: list[float] = field(default_factory=list)  # one for every time that it became so
    duplicates: int = 0
    false_alarms: int = 0
    hours: float = 0.0


@dataclass(slots=True)
class Findings:
    """All that was measured on some streams."""

    records: list[Record] = field(default_factory=list)
    vigils: dict[str, Vigil] = field(default_factory=dict)
    untouched: dict[str, list[bool]] = field(default_factory=dict)  # interference: was this answer the same
    worded: list[list[bool]] = field(default_factory=list)  # a question: which wordings got the first one's answer


@dataclass(frozen=True, slots=True)
class Rig:
    """What a play needs: parts, carriers, K of the further `detailK`, and the systems wanted, all where empty."""

    core: Core
    budget: int
    details: tuple[int, ...] = ()
    only: tuple[str, ...] = ()
    shelves: Path | None = None  # where archives are written; None leaves out what needs one

    @contextmanager
    def watch(self, stream: Stream) -> Iterator[Watch]:
        """The systems, before the first frame of `stream`."""
        wanted = self.shelves is not None and (not self.only or {"recall", "daemon"} & set(self.only))
        shelf = Shelf(self.core, self.shelves / f"{uuid4().hex}.sqlite") if wanted and self.shelves else None
        try:
            yield Watch(self.core, self.budget, len(stream.frames), self.details, self.only, shelf)
        finally:
            if shelf is not None:
                shelf.close()


@dataclass(frozen=True, slots=True)
class Last:
    """How things stood at the last questions of a stream."""

    step: int
    answers: list[dict[str, Said]]
    prints: dict[str, str]


def play(rig: Rig, stream: Stream, asked: Mapping[int, Sequence[Asked]], extent: Extent, found: Findings) -> None:
    """Everything on one stream; results are added to `found`."""
    with rig.watch(stream) as watch:
        _play(watch, rig, stream, asked, extent, found)


def _play(
    watch: Watch, rig: Rig, stream: Stream, asked: Mapping[int, Sequence[Asked]], extent: Extent, found: Findings
) -> None:
    polled = _polled(stream, extent)
    yes: dict[str, list[bool]] = {}
    final = max(asked)
    for step, frame in enumerate(stream.frames if polled is not None else stream.frames[: final + 1]):
        watch.absorb(frame)
        if polled is not None:
            for name, heard in poll(rig.core, watch, polled).items():
                yes.setdefault(name, []).append(heard)
        if step not in asked:
            continue
        answers = ask_all(rig.core, watch, asked[step])
        found.records += judged(stream, watch, asked[step], answers)
        if step < final or stream.kind != "busy":
            continue
        if watch.has("hybrid"):
            found.worded += [wordings(rig.core, watch, item, stream.key) for item in asked[step][: extent.phrasings]]
        if stream.number < extent.interference:
            last = Last(step, answers, watch.fingerprints())
            for name, alike in interference(rig, stream, asked[step], last).items():
                found.untouched.setdefault(name, []).extend(alike)
    if polled is not None:
        for name, all_heard in yes.items():
            vigil = found.vigils.setdefault(name, Vigil())
            attend(vigil, [frame.wall_s for frame in stream.frames], polled.truth, all_heard)
            vigil.hours += stream.street.seconds / 3600.0


def ask_all(core: Core, watch: Watch, asked: Sequence[Asked]) -> list[dict[str, Said]]:
    """The answers of all systems to the questions of one moment, one question after the other."""
    views = read_all(watch, asked)
    return [
        completed(core, watch, answer(core, item.question.text, own)) for item, own in zip(asked, views, strict=True)
    ]


def read_all(watch: Watch, asked: Sequence[Asked]) -> list[dict[str, MemoryView]]:
    """What every system reads for each of several questions of one moment."""
    views = watch.views([item.question.rests_on for item in asked])
    if watch.shelf is None:
        return views
    recalled = watch.shelf.views(watch.hybrid(), [item.question.text for item in asked])
    return [{**own, "recall": view} for own, view in zip(views, recalled, strict=True)]


def completed(core: Core, watch: Watch, said: dict[str, Said]) -> dict[str, Said]:
    """With what the daemon makes of what it reads."""
    if "recall" in said and watch.has("daemon"):
        said["daemon"] = said["recall"].judged(core.model.geometry.trust)
    return said


def judged(
    stream: Stream, watch: Watch, asked: Sequence[Asked], answers: Sequence[Mapping[str, Said]]
) -> Iterator[Record]:
    """Every answer with whether it is right, and whether its evidence was still there."""
    memories = watch.held()
    for item, said in zip(asked, answers, strict=True):
        known = {frames: item.held(stream.truth, frames) for frames in set(memories.values())} if item.age else {}
        known_by = {name: known.get(frames) for name, frames in memories.items()}
        for name in watch.names:
            own = said[name]
            held = known_by.get(name, name == "oracle") if item.age else None
            yield Record(name, item, own, right(item.question, meant(item, own.text), own.span_s), held)


def meant(asked: Asked, text: str) -> str:
    """`text`; but to "did you see a red van?" the answer "I have not seen that" is a no."""
    return NO if asked.question.kind == "seen" and plain(text) == plain(NOT_SEEN) else text


def plain(text: str) -> str:
    """Without what does not matter in an answer."""
    return " ".join(text.lower().split()).rstrip(".!")


def same(one: Said, other: Said) -> bool:
    """Whether two answers say the same: words, and times within 2 s."""
    if plain(one.text) != plain(other.text):
        return False
    if one.span_s is None or other.span_s is None:
        return one.span_s == other.span_s
    return all(abs(a - b) <= SAME_S for a, b in zip(one.span_s, other.span_s, strict=True))


def wordings(core: Core, watch: Watch, item: Asked, key: tuple[int, ...]) -> list[bool]:
    """For ten other wordings of a question, whether the daemon's default gives the answer it gave to the first."""
    rng = np.random.default_rng((*key, 5, item.question.step))
    view = {"hybrid": watch.banks()["hybrid"]}
    first = answer(core, item.question.text, view)["hybrid"]
    texts = [rephrase(item.question, rng) for _ in range(WORDINGS)]
    return [same(first, answer(core, text, view)["hybrid"]) for text in texts]


# -- standing questions ------------------------------------------------------------------------------------------------


def _polled(stream: Stream, extent: Extent) -> Standing | None:
    return standing(stream) if stream.number < extent.standing.get(stream.kind, 0) else None


def poll(core: Core, watch: Watch, asked: Standing) -> dict[str, bool]:
    """Which systems say yes now. `full` grows without bound and is left out."""
    views = {name: view for name, view in watch.banks().items() if name != "full"}
    return {name: plain(said.text) == YES for name, said in answer(core, asked.text, views, POLL_TOKENS).items()}


def attend(vigil: Vigil, times_s: Sequence[float], truth: Sequence[bool | None], yes: Sequence[bool]) -> None:
    """Add one stream's answers to a standing question to `vigil`; all three have one entry a frame.

    `truth` None is neither: what begins there is no false alarm, and what goes on there is not over.
    """
    began_s: float | None = None  # since when it is so
    answered = before = early = False
    for at_s, is_so, says in zip(times_s, truth, yes, strict=True):
        rises = says and not before
        early = is_so is False if rises else early
        if is_so is False:
            began_s = None
            vigil.false_alarms += rises
        elif is_so and began_s is None:
            began_s, answered = at_s, says
            vigil.scores.append(1.0 if says and not early else 0.0)
        elif began_s is not None and says and not answered:
            vigil.scores[-1], answered = promptness(at_s - began_s), True
        elif began_s is not None and rises:
            vigil.duplicates += 1
        before = says


def promptness(late_s: float) -> float:
    """1 within 2 s, 0 from 10 s on."""
    return float(np.clip((TOO_LATE_S - late_s) / (TOO_LATE_S - IN_TIME_S), 0.0, 1.0))


# -- interference ------------------------------------------------------------------------------------------------------


def interference(rig: Rig, stream: Stream, asked: Sequence[Asked], noisy: Last) -> dict[str, list[bool]]:
    """Whether each system, asked only now and everything at once, answers as it did after all questions in between.

    Where a bank is not bit-equal, no answer counts as the same.
    """
    with rig.watch(stream) as watch:
        for frame in stream.frames[: noisy.step + 1]:
            watch.absorb(frame)
        views = read_all(watch, asked)
        talks = [Talk(rig.core, item.question.text, own) for item, own in zip(asked, views, strict=True)]
        while not all(talk.done for talk in talks):
            for talk in talks:
                talk.step()
        equal = {name: value == noisy.prints[name] for name, value in watch.fingerprints().items()}
        found: dict[str, list[bool]] = {name: [] for name in watch.names}
        for talk, before in zip(talks, noisy.answers, strict=True):
            for name, said in completed(rig.core, watch, talk.said()).items():
                bank = "hybrid" if name in (*watch.details, "recall", "daemon") else name
                found[name].append(said == before[name] and equal.get(bank, True))
    return found
