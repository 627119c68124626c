"""`longwatch replay`: a file through the same gate, engine and memory, without broker, camera or thread.

Time is the file's: second 0 of the file is `start_s`. The same file and questions give the same answers every time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from daemon.core import Core
from daemon.engine import Camera, Engine
from daemon.job import Sinks
from daemon.messages import Answer, Query
from daemon.metrics import Counters
from daemon.outlook import Outlook
from daemon.profile import measured
from daemon.settings import Settings
from stream import gate
from stream.errors import QueryError
from stream.intake import Intake, walk_file
from stream.mailbox import Mailbox
from stream.stages import OFF, Stages
from stream.types import Frame

CAMERA = "replay"


@dataclass(frozen=True, slots=True)
class Ask:
    """A question put when the file reaches `at_s`."""

    at_s: float
    text: str

    @classmethod
    def parse(cls, text: str) -> Ask:
        """From `12.5:what passed first?`. Raises QueryError."""
        seconds, found, question = text.partition(":")
        try:
            at_s = float(seconds)
        except ValueError:
            at_s = -1.0
        if not found or not question.strip() or not 0 <= at_s < float("inf"):
            raise QueryError(f'--ask {text!r}: give seconds, a colon and a question, e.g. 12.5:"what passed first?"')
        return cls(at_s, question.strip())


class FileClock:
    """Wall time is what the file has reached; durations are real."""

    def __init__(self, start_s: float) -> None:
        self.now_s = start_s

    def wall_s(self) -> float:
        """Seconds on the file's axis."""
        return self.now_s

    def monotonic_s(self) -> float:
        """Real seconds, for latencies."""
        return time.monotonic()


@dataclass(frozen=True, slots=True)
class Replay:
    """How to play."""

    path: Path
    asks: Sequence[Ask]
    start_s: float = 0.0
    realtime: bool = False
    progress: bool = False
    stages: Stages = OFF  # measures pictures, frames and questions


def replay(core: Core, settings: Settings, job: Replay) -> Iterator[Answer]:
    """Answers in order of their time; those after the end are answered from the whole file. Raises CameraError."""
    core = replace(core, encoder=replace(core.encoder, stages=job.stages))
    if core.encoder.reuse is not None:
        core.encoder.reuse.forget()  # a file before this one must not be seen in it
    player = _Player(core, settings, job)
    asks = sorted(enumerate(job.asks, 1), key=lambda item: item[1].at_s)  # stable: equal seconds in the order given
    bar = tqdm(desc=job.path.name, unit=" frames", disable=None) if job.progress else nullcontext()
    with bar as shown:
        pictures = walk_file(job.path, player.intake, job.start_s, measured(job.stages))
        for frame in job.stages.steps("picture", pictures):
            reached_s = player.intake.last_wall_s
            if reached_s is None:
                continue  # damaged from the first picture on
            while asks and job.start_s + asks[0][1].at_s < reached_s:
                yield player.answer(*asks.pop(0))
            player.play(frame, reached_s)
            if shown is not None:
                shown.update()
    for number, ask in asks:
        yield player.answer(number, ask)


class _Player:
    """Engine and clock of one replay. What the daemon's threads do by themselves is done by hand here, in order."""

    def __init__(self, core: Core, settings: Settings, job: Replay) -> None:
        self._job = job
        self._clock = FileClock(job.start_s)
        self._mailbox: Mailbox[Frame] = Mailbox(1)
        self._newest_s: float | None = None  # not the intake's: that one is already a picture ahead of a question
        self._began_s = time.monotonic()
        side = core.model.geometry.image_px
        self.intake = Intake(CAMERA, (side, side), gate.make(settings.gate))
        self.intake.stages = job.stages
        outlook = Outlook(newest_s=lambda _camera: self._newest_s, clock=self._clock)
        cameras = {CAMERA: Camera(self._mailbox, core.bank(CAMERA))}
        self._engine = Engine(core.encoder, core.recaller(), cameras, settings.answer, outlook, Counters())

    def play(self, frame: Frame | None, reached_s: float) -> None:
        """The file has reached `reached_s`; the gate kept `frame`, or skipped it."""
        if self._job.realtime:
            time.sleep(max(0.0, reached_s - self._job.start_s - (time.monotonic() - self._began_s)))
        self._newest_s = self._clock.now_s = reached_s
        if frame is not None:
            with self._job.stages.span("frame"):
                self._mailbox.put(frame)
                self._engine.turn()

    def answer(self, number: int, ask: Ask) -> Answer:
        """What the memory says at `ask.at_s`; `number` makes the id."""
        with self._job.stages.span("question"):
            return self._answer(number, ask)

    def _answer(self, number: int, ask: Ask) -> Answer:
        self._engine.turn()  # while nothing moves, the newest span grows up to now
        self._clock.now_s = self._job.start_s + ask.at_s
        found: list[Answer] = []
        query = Query(id=f"q{number}", question=ask.text, received_s=self._clock.now_s, stream=False)
        self._engine.ask(query, Sinks(chunk=lambda _text: None, answer=found.append))
        while not found:
            self._engine.turn()
        # no broker carries the pictures, so no topic may be named for them
        return replace(found[0], evidence=tuple(replace(item, jpeg=b"") for item in found[0].evidence))
