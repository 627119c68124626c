"""What does a checkpoint see in real clips? Their multiple-choice questions, each at its second, through the daemon.

    python bench/clips.py --videos DIR [--checkpoint tiny|DIR] [--carriers M] [--quick] [--out FILE]

`DIR/manifest.json` lists clips, each with `questions: {id, ask_at, kind, question, choices, right}`. A clip is replayed
as `longwatch replay` does it: decoded, gated, absorbed, and asked when it reaches the second. Two scores:

    choice  the option with the highest log-likelihood as the answer (mean over its tokens and the end token), on the
            memory that the question reads: fair to small models, which need not write what they can tell apart
    free    the answer as the daemon writes it, without seeing the options, names the right one and no other

Systems, side by side on the frames that the daemon absorbed:

    blind     no video at all: what guessing from the words gives
    window4   the last 4 of the frames at full detail and nothing else, read afresh for every question
    uniform   the daemon's budget, but what stays is spread evenly over time
    hybrid    the daemon as it is by default: carriers, and the last frames at full detail
    full      every visual token of every frame

`chance` is one through the number of options, `constant` the one position that is right most often.
Prints both tables, then one JSON line: {"bench", "n", "systems": {name: {"n", "choice", "free"}}, "chance", ..}.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from manifest import Broken, Clip, Question, load
from tqdm import tqdm
from where import commit, date, machine

from daemon import logs
from daemon.core import Core, build
from daemon.engine import Camera, Engine
from daemon.job import Sinks
from daemon.messages import Answer, Query
from daemon.metrics import Counters
from daemon.outlook import Outlook
from daemon.replay import CAMERA, Ask, FileClock, Replay, replay
from daemon.session import Session
from daemon.settings import Settings, parse
from memory import retain
from memory.bank import MemoryBank, Policy
from memory.view import MemoryView, Moment
from stream.encoder import Encoder
from stream.errors import CameraError, LongwatchError
from stream.kv import Work
from stream.mailbox import Mailbox
from stream.model import Model
from stream.positions import Positions
from stream.types import Budget, Carrier, Frame, Span

OTHERS = ("blind", "window4", "uniform", "full")  # beside `hybrid`, which the replay itself answers
ORDER = ("blind", "window4", "uniform", "hybrid", "full")
WINDOW = 4
QUICK = 4  # clips, the shortest
SLACK_S = 2.0  # a film may end this much before a question: frames are that far apart at most
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
SAME = {word: str(number) for number, word in enumerate(NUMBERS)} | dict.fromkeys(("second", "seconds", "sec"), "s")
ARTICLES = frozenset({"a", "an", "the"})


# -- one question on one memory ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Try:
    """What one system made of one question."""

    system: str
    question: Question
    picked: int  # the likeliest option
    said: str

    @property
    def choice(self) -> bool:
        """Whether the likeliest option is the right one."""
        return self.picked == self.question.right

    @property
    def free(self) -> bool:
        """Whether the written answer names the right option and no other."""
        return named(self.said, self.question.choices) == {self.question.right}


@torch.inference_mode()
def likelihoods(
    model: Model, positions: Positions, view: MemoryView, ids: list[int], options: Sequence[list[int]]
) -> list[float]:
    """Mean log-probability of each option's tokens as the answer to question `ids` on `view`, teacher forced."""
    length = len(ids) + max(len(option) for option in options) - 1  # the last token is only foretold
    slab = model.slab([view.past] * len(options), length)
    rows = [(ids + option[:-1] + ids[:1] * length)[:length] for option in options]  # nothing reads the padding
    where = positions.text(view.count, length).expand(len(options), -1)
    hidden = model.forward(model.embed(torch.tensor(rows)), where, slab)
    found = []
    for row, option in enumerate(options):
        scores = model.logits(hidden[row, len(ids) - 1 : len(ids) - 1 + len(option)]).log_softmax(-1).cpu()
        found.append(float(scores.gather(-1, torch.tensor(option)[:, None]).mean()))
    return found


def pick(core: Core, bank: MemoryBank, question: Question) -> int:
    """The option that `bank` makes likeliest."""
    model, view = core.model, bank.fork(now_s=question.ask_at)
    options = [model.answer_ids(choice) for choice in question.choices]
    ids = model.question_ids(question.question)
    scores = likelihoods(model, bank.policy.positions, view, ids, options)
    return scores.index(max(scores))


def say(core: Core, settings: Settings, bank: MemoryBank, question: Question) -> str:
    """What the daemon's engine answers from `bank`; an empty one leaves the model the question alone."""
    model, found = core.model, list[Answer]()
    if not bank.spans:  # the engine would answer `no_evidence`; a session only wants a moment that it can name
        view = replace(bank.fork(now_s=question.ask_at), moments=(Moment(0, Span(0.0, 0.0), b""),))
        ids = model.question_ids(question.question)
        session = Session(model, bank.policy.positions, [view], ids, settings.answer.max_tokens)
        while not session.done:
            session.step()
        return session.text(0)
    outlook = Outlook(clock=FileClock(question.ask_at))
    engine = Engine(
        core.encoder, core.recaller(), {CAMERA: Camera(Mailbox(1), bank)}, settings.answer, outlook, Counters()
    )
    query = Query(id=CAMERA, question=question.question, received_s=question.ask_at, stream=False)
    engine.ask(query, Sinks(chunk=lambda _text: None, answer=found.append))
    while not found:
        engine.turn()
    return text_of(found[0], question)


def text_of(answer: Answer, question: Question) -> str:
    """The text of an answer. Raises Broken when the question could not be answered at all."""
    if answer.status == "error":
        raise Broken(f"{question.id}: {answer.text}")
    return answer.text if answer.status == "ok" else ""


def named(said: str, choices: Sequence[str]) -> set[int]:
    """Options whose words stand in `said` side by side; one inside another that is named as well does not count."""
    heard = _words(said)
    found = {number for number, choice in enumerate(choices) if _inside(_words(choice), heard)}
    texts = {number: _words(choices[number]) for number in found}
    longer = {(a, b) for a in found for b in found if len(texts[a]) < len(texts[b]) and _inside(texts[a], texts[b])}
    return found - {short for short, _ in longer}


def _words(text: str) -> list[str]:
    """Lower case, numbers as digits, units as `s`, without articles and punctuation."""
    split = re.findall(r"\d+(?:[.:]\d+)*|[^\W\d_]+", text.lower())
    return [SAME.get(word, word) for word in split if word not in ARTICLES]


def _inside(part: list[str], whole: list[str]) -> bool:
    """Whether `part`, not empty, is a run of `whole`."""
    return bool(part) and any(whole[at : at + len(part)] == part for at in range(len(whole) - len(part) + 1))


# -- one clip ----------------------------------------------------------------------------------------------------------


@dataclass
class Recorder(Encoder):
    """An encoder that also keeps the frames it absorbed."""

    frames: list[Frame] = field(default_factory=list)

    def absorb(self, batch: Sequence[Work]) -> list[Carrier]:
        """See Encoder."""
        self.frames += [work.frame for work in batch]
        return super().absorb(batch)


@dataclass(frozen=True, slots=True)
class Watched(Core):
    """A core whose banks can be looked at."""

    banks: list[MemoryBank] = field(default_factory=list)

    def bank(self, camera: str) -> MemoryBank:
        """See Core."""
        self.banks.append(Core.bank(self, camera))
        return self.banks[-1]


@dataclass(frozen=True, slots=True)
class Stop:
    """A question in the course of a clip."""

    question: Question
    count: int  # frames absorbed before it
    newest_s: float  # how far the clip was


def watch(core: Core, settings: Settings, path: Path, clip: Clip) -> tuple[list[Frame], list[Stop], list[Try]]:
    """Replay a clip; frames absorbed, where the questions stood among them, and `hybrid`'s answers. Raises Broken."""
    recorder = Recorder(core.encoder.model, core.encoder.carrier)
    watched = Watched(recorder, core.policy, core.recall, core.recalled)
    asked = sorted(clip.questions, key=lambda question: question.ask_at)  # as they will be answered
    asks = [Ask(question.ask_at, question.question) for question in asked]
    stops, tries = [], []
    try:
        for question, answer in zip(asked, replay(watched, settings, Replay(path, asks)), strict=True):
            (bank,) = watched.banks
            newest_s = question.ask_at - (answer.newest_age_s or 0.0)
            if question.ask_at - newest_s > SLACK_S:
                raise Broken(f"{path}: ends at {newest_s:.1f} s, {question.id} is asked at {question.ask_at:g} s")
            stops.append(Stop(question, len(recorder.frames), newest_s))
            said = text_of(answer, question)  # the player stands still here: this is the memory it answered from
            tries.append(Try("hybrid", question, pick(core, bank, question), said))
    except CameraError as error:
        raise Broken(f"{path}: {error}") from error
    return recorder.frames, stops, tries


def policy(core: Core, name: str, frames: int) -> Policy:
    """How system `name` remembers a clip of `frames` absorbed frames."""
    if name == "uniform":
        return replace(core.policy, retain=retain.make({"uniform": {}}))
    size = WINDOW if name == "window4" else max(1, frames)
    return replace(core.policy, budget=Budget(size, size), retain=retain.make({"fifo": {}}))


def banks(core: Core, name: str, frames: Sequence[Frame], stops: Sequence[Stop]) -> Iterator[tuple[Stop, MemoryBank]]:
    """The memory of system `name` at every stop. Stops come in order of time."""
    made = replace(core, policy=policy(core, name, len(frames)))
    bank, read = made.bank(CAMERA), 0
    for stop in stops:
        if name == "window4" and stop.count > read:  # afresh: an older frame must not shine through its carrier
            bank, read = made.bank(CAMERA), max(0, stop.count - WINDOW)
        last = 0 if name == "blind" else stop.count
        for frame in frames[read:last]:
            bank.add(core.encoder.absorb([bank.work(frame)])[0])
        read = last
        bank.extend(stop.newest_s)
        yield stop, bank


def play(core: Core, settings: Settings, folder: Path, clip: Clip) -> Iterator[Try]:
    """Every system on every question of a clip; `full` is left out where the checkpoint has too few positions."""
    frames, stops, tries = watch(core, settings, folder / clip.file, clip)
    yield from tries
    for name in OTHERS:
        need = core.policy.positions.bound(len(frames), settings.answer.max_tokens + 64)
        if name == "full" and need > core.model.geometry.max_positions:
            continue
        for stop, bank in banks(core, name, frames, stops):
            question = stop.question
            yield Try(name, question, pick(core, bank, question), say(core, settings, bank, question))


# -- all of them -------------------------------------------------------------------------------------------------------


def by_kind(pairs: Sequence[tuple[Question, float]]) -> dict[str, float]:
    """Mean by kind of question, and over all."""
    found: dict[str, list[float]] = defaultdict(list)
    for question, value in pairs:
        found[question.kind].append(value)
    found = {**dict(sorted(found.items())), "all": [value for _, value in pairs]}
    return {kind: round(sum(values) / len(values), 4) for kind, values in found.items() if values}


def summary(tries: Sequence[Try], questions: Sequence[Question]) -> dict[str, Any]:
    """Accuracies of all systems and of the two ways to answer without looking or reading."""
    systems = {}
    for name in ORDER:
        own = [item for item in tries if item.system == name]
        scores = {way: by_kind([(item.question, getattr(item, way)) for item in own]) for way in ("choice", "free")}
        systems[name] = {"n": len(own), **scores}
    position = Counter(question.right for question in questions).most_common(1)[0][0]
    return {
        "n": len(questions),
        "kinds": dict(sorted(Counter(question.kind for question in questions).items())),
        "systems": systems,
        "chance": by_kind([(question, 1 / len(question.choices)) for question in questions]),
        "constant": {"position": position, **by_kind([(item, item.right == position) for item in questions])},
    }


def show(result: dict[str, Any]) -> None:
    """Print the two tables."""
    kinds = {**result["kinds"], "all": result["n"]}
    width = {kind: max(len(kind), 5) + 2 for kind in kinds}

    def line(name: str, scores: dict[str, float]) -> str:
        cells = (f"{100 * scores[kind]:.1f}" if kind in scores else "-" for kind in kinds)
        return f"{name:10}" + "".join(f"{cell:>{size}}" for cell, size in zip(cells, width.values(), strict=True))

    print(f"{'':10}" + "".join(f"{kind:>{size}}" for kind, size in width.items()))
    print(f"{'questions':10}" + "".join(f"{count:>{width[kind]}}" for kind, count in kinds.items()))
    for way, title in (("choice", "choice: the likeliest option is right"), ("free", "free: what is written names it")):
        print(title)
        for name, system in result["systems"].items():
            short = f"   ({system['n']} of {result['n']} questions)" if system["n"] < result["n"] else ""
            print(line(name, system[way]) + short)
        if way == "choice":
            print(line("chance", result["chance"]))
            print(line("constant", result["constant"]))


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Everything but the printing. Raises LongwatchError."""
    clips = load(args.videos)
    if args.quick:
        clips = sorted(clips, key=lambda clip: clip.seconds)[:QUICK]
    raw = {"cameras": {CAMERA: {"url": "file"}}, "model": {"path": args.checkpoint}}
    settings = parse({**raw, "memory": {"carriers": args.carriers}}, "--carriers")
    core = build(settings)
    tries: list[Try] = []
    questions = [question for clip in clips for question in clip.questions]
    with tqdm(total=len(questions) * len(ORDER), desc="answers", file=sys.stderr, disable=None) as bar:
        for clip in clips:
            bar.set_postfix_str(clip.file)
            for item in play(core, settings, args.videos, clip):
                tries.append(item)
                bar.update()
    place = {"model": core.model.geometry.name, "machine": machine(), "commit": commit(), "date": date()}
    drawn = {"clips": len(clips), "bank": core.policy.budget.carriers, "detail": core.policy.budget.detail_frames}
    return {"bench": "clips", **summary(tries, questions), **drawn, **place}


def main(words: Sequence[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, required=True, help="folder with manifest.json")
    parser.add_argument("--checkpoint", default="tiny", help="`tiny`, a directory or a hub id")
    parser.add_argument("--carriers", type=int, help="bank size; default: the checkpoint's own, else 128")
    parser.add_argument("--quick", action="store_true", help=f"the {QUICK} shortest clips")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    args = parser.parse_args(words)
    control = logs.setup("warning")
    try:
        result = run(args)
    except LongwatchError as error:
        sys.exit(f"clips: {error}")
    finally:
        control.close()
    print(f"{result['clips']} clips, {result['model']}, bank of {result['bank']}; accuracy in %")
    show(result)
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
