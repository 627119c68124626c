"""`longwatch replay`: a file through the same gate, engine and memory, without broker, camera or thread.

Time is the file's: second 0 of the file is `start_s`. The same file and questions give the same answers every time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from daemon.core import Core
from daemon.engine import Camera, Engine, Outlook
from daemon.job import Sinks
from daemon.messages import Answer, Query
from daemon.metrics import Counters
from daemon.settings import Settings
from stream import gate
from stream.errors import QueryError
from stream.intake import Intake, read_file
from stream.mailbox import Mailbox
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


def replay(core: Core, settings: Settings, job: Replay) -> Iterator[Answer]:
    """Answers in order of their time; those after the end are answered from the whole file. Raises CameraError."""
    clock = FileClock(job.start_s)
    mailbox: Mailbox[Frame] = Mailbox(1)
    side = core.model.geometry.image_px
    intake = Intake(CAMERA, (side, side), gate.make(settings.gate))
    outlook = Outlook(newest_s=lambda _camera: intake.last_wall_s, clock=clock)
    engine = Engine(core.encoder, {CAMERA: Camera(mailbox, core.bank(CAMERA))}, settings.answer, outlook, Counters())
    asks = sorted(job.asks, key=lambda ask: ask.at_s)
    began_s = time.monotonic()
    bar = tqdm(desc=job.path.name, unit=" frames", disable=not job.progress) if job.progress else nullcontext()
    with bar as shown:
        for frame in read_file(job.path, intake, job.start_s):
            while asks and job.start_s + asks[0].at_s < frame.wall_s:
                yield _answer(engine, clock, job, asks.pop(0))
            if job.realtime:
                time.sleep(max(0.0, frame.wall_s - job.start_s - (time.monotonic() - began_s)))
            clock.now_s = frame.wall_s
            mailbox.put(frame)
            engine.turn()
            if shown is not None:
                shown.update()
        for ask in asks:
            yield _answer(engine, clock, job, ask)


def _answer(engine: Engine, clock: FileClock, job: Replay, ask: Ask) -> Answer:
    found: list[Answer] = []
    clock.now_s = job.start_s + ask.at_s
    query = Query(id=f"t{ask.at_s:g}", question=ask.text, received_s=clock.now_s, stream=False)
    engine.ask(query, Sinks(chunk=lambda _text: None, answer=found.append))
    while not found:
        engine.turn()
    return found[0]
