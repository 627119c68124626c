"""Our side of the speed bench: the daemon's engine, banks and sessions, without broker and cameras."""

from __future__ import annotations

import random
import statistics
import threading
import time
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from speed_limits import timed

from daemon.core import Core
from daemon.engine import Camera, Engine
from daemon.job import Sinks
from daemon.messages import Answer, Query
from daemon.metrics import Counters
from daemon.outlook import Outlook
from daemon.session import Session
from daemon.settings import AnswerSettings
from memory import recall, retain
from memory.bank import MemoryBank, Policy
from stream import carrier
from stream.encoder import Encoder
from stream.mailbox import Mailbox
from stream.model.llava_onevision import LlavaOnevision
from stream.positions import TABLE
from stream.types import Budget, Carrier, Frame, Part, Span

CARRIERS = 128
QUESTION = "what is visible now?"
WORDS = 16  # of an answer whose first token is timed
DRAWN = 64  # different carriers that a fast-forwarded hour is made of


def quantile(values: list[float], q: float) -> float:
    """The nearest-rank quantile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


@dataclass(frozen=True, slots=True)
class Loaded:
    """Questions while frames come. Milliseconds."""

    first_ms: list[float]  # question asked -> first token
    absorb_ms: float  # median of an absorbed batch meanwhile
    absorbed: int
    dropped: int


class Ours:
    """Banks of `cameras` cameras and what works on them, driven by hand. `detail` newest frames are kept whole."""

    def __init__(self, model: LlavaOnevision, cameras: int, detail: int) -> None:
        self.model = model
        scheme = TABLE[model.geometry.positions](len(model.system()), model.geometry.visual)
        policy = Policy(Budget(CARRIERS, detail), retain.make({"adjacent": {}}), scheme)
        encoder = Encoder(model, carrier.make({"mean": {}}))
        self.core = Core(encoder, policy, recall.make({"route": {}}), 0)
        self.cameras = {name: self._camera(name) for name in (f"camera{number}" for number in range(cameras))}
        self._pictures = np.random.default_rng(0).integers(
            0, 256, (4, model.geometry.image_px, model.geometry.image_px, 3), dtype=np.uint8
        )
        self._engine = self._new_engine()
        self._asked = 0

    def _camera(self, name: str) -> Camera:
        return Camera(Mailbox[Frame](2), self.core.bank(name))

    def _new_engine(self, words: int = WORDS) -> Engine:
        settings = AnswerSettings(max_tokens=words, deadline_s=600.0)
        return Engine(self.core.encoder, self.core.recaller(), self.cameras, settings, Outlook(), Counters())

    @property
    def bank(self) -> MemoryBank:
        """Of the first camera."""
        return next(iter(self.cameras.values())).bank

    def frame(self, name: str, index: int) -> Frame:
        """A picture of noise, one a second."""
        return Frame(name, index, 0, float(index), float(index), self._pictures[index % len(self._pictures)])

    def forward_to(self, frames: int) -> None:
        """As if every camera had absorbed `frames` frames, one a second: carriers and details of noise."""
        drawn, whole = _carriers(self.model, DRAWN, 0), _carriers(self.model, 1, self.model.geometry.visual)[0]
        for name, camera in self.cameras.items():
            for index in range(camera.bank.newest_frame + 1, frames):
                made = whole if index >= frames - self.core.policy.budget.detail_frames else drawn[index % DRAWN]
                camera.bank.add(replace(made, camera=name, frame=index, span=Span(float(index), float(index))))

    def absorb(self) -> float:
        """One new frame of every camera through the engine; seconds."""
        for name, camera in self.cameras.items():
            camera.mailbox.put(self.frame(name, camera.bank.newest_frame + 1))

        def work() -> None:
            while any(len(camera.mailbox) for camera in self.cameras.values()):
                self._engine.turn()

        return timed(work, self.model.geometry.device)

    def first_token(self) -> float:
        """Seconds from asking the first camera's memory to the first token, nothing else going on, without a queue."""

        def work() -> None:
            self.session(WORDS).step()

        return timed(work, self.model.geometry.device)

    def session(self, words: int) -> Session:
        """The question, put to the first camera's memory."""
        ids = self.model.question_ids(QUESTION)
        return Session(self.model, self.core.policy.positions, [self.bank.fork()], ids, words)

    def word(self, words: int) -> float:
        """Seconds from one word of an answer to the next, median."""
        session = self.session(words)
        session.step()
        took = []
        while not session.done:
            took.append(timed(session.step, self.model.geometry.device))
        return statistics.median(took) if took else self.word(words + 1)

    def idle(self, count: int) -> list[float]:
        """Milliseconds to the first token through the engine, one question at a time."""
        return [self._ask(self._engine, by_hand=True) for _ in range(count)]

    def loaded(self, load: float, batch_s: float, seconds: float, rng: random.Random) -> Loaded:
        """Questions at random moments while frames come at `load` times the pace of one batch every `batch_s`."""
        engine, before = self._new_engine(4), self._dropped
        feeder = _Feeder(self, engine, batch_s / load)
        engine.start()
        feeder.start()
        found: list[float] = []
        began_s = time.monotonic()
        time.sleep(min(2 * batch_s, seconds / 4))
        while time.monotonic() - began_s < seconds or len(found) < 3:
            time.sleep(rng.uniform(0.5, 1.5) * max(0.25, 0.6 * batch_s))  # questions are rare beside frames
            found.append(self._ask(engine, by_hand=False))
        feeder.stop()
        engine.stop()
        counters = engine.counters
        batch_ms = counters.snapshot().get("absorb_ms{q=0.5}", 0.0)
        return Loaded(found, batch_ms, int(counters.value("absorbed")), self._dropped - before)

    @property
    def _dropped(self) -> int:
        return sum(camera.mailbox.counts().dropped for camera in self.cameras.values())

    def _ask(self, engine: Engine, by_hand: bool) -> float:
        self._asked += 1
        found: list[Answer] = []
        done = threading.Event()

        def take(answer: Answer) -> None:
            found.append(answer)
            done.set()

        query = Query(f"speed{self._asked}", QUESTION, ("camera0",), stream=False)
        engine.ask(query, Sinks(lambda _text: None, take))
        while by_hand and not found:
            engine.turn()
        if not done.wait(120.0) or found[0].timing.first_token_ms is None:
            raise SystemExit(f"a question was not answered: {found[:1]}")
        return found[0].timing.first_token_ms


@dataclass
class _Feeder:
    """Puts a frame of every camera into its mailbox every `every_s`, the cameras spread over that time."""

    ours: Ours
    engine: Engine
    every_s: float
    _end: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="feeder", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        begin = {name: camera.bank.newest_frame + 1 for name, camera in self.ours.cameras.items()}
        began_s, number, count = time.monotonic(), 0, len(begin)
        while not self._end.wait(max(0.0, began_s + number * self.every_s / count - time.monotonic())):
            name = list(begin)[number % count]
            self.ours.cameras[name].mailbox.put(self.ours.frame(name, begin[name] + number // count))
            self.engine.notify()
            number += 1


def _carriers(model: LlavaOnevision, count: int, detail: int) -> list[Carrier]:
    """Carriers of noise, with so many tokens of detail."""
    geo = model.geometry
    shape = (geo.layers, geo.kv_heads, geo.head_width)
    drawn = torch.Generator(geo.device).manual_seed(0)

    def noise(*size: int) -> torch.Tensor:
        return torch.randn(*size, device=geo.device, generator=drawn).to(geo.dtype)

    tokens = noise(geo.layers, geo.kv_heads, detail, geo.head_width)
    part = Part(tokens, tokens, torch.arange(detail))
    return [Carrier("", 0, Span(0.0, 0.0), noise(geo.width), noise(*shape), noise(*shape), part) for _ in range(count)]
