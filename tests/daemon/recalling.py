"""What the tests of recall share: an engine driven by hand over a real archive, and slow or broken disks."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from daemon.engine import Camera, Engine
from daemon.filing import filed, setup
from daemon.gaps import GapLog
from daemon.job import Sinks
from daemon.messages import Answer, Query
from daemon.metrics import Counters
from daemon.outlook import Outlook
from daemon.recaller import Recaller
from daemon.settings import AnswerSettings, ArchiveSettings
from memory import recall
from memory.archive import Archive, Reader, Row
from memory.archive.types import Floats
from memory.recall.search import How, Limits
from stream.mailbox import Mailbox
from stream.model import tiny
from stream.model.card import Card
from stream.model.llava_onevision import LlavaOnevision
from stream.types import Carrier, Frame, Thumbnail, Trust
from tests.models import make_bank, make_encoder, random_model

T0 = 1_700_000_000.0 - 1_700_000_000.0 % 86_400 + 36_000.0  # ten in the morning, UTC
WAIT_S = 20.0
SMALL = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
WORDED = tiny.CARD.model_copy(update={"pointer": None})  # without trained heads the words tell now from past
CAUTIOUS = Trust(answer=(1.0, 0.5, -0.5), evidence=(1.0, 0.0), support=0.9999, unseen="not seen", denials=("no",))


def small_model(card: Card = WORDED) -> LlavaOnevision:
    """A random network that answers a thousand questions in seconds."""
    return random_model(card=card, **SMALL)


def picture(index: int, camera: str, at_s: float) -> Frame:
    """Noise for the model, and a JPEG of one colour, which tells the frame."""
    image = np.random.default_rng([index, *camera.encode()]).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    target = io.BytesIO()
    Image.new("RGB", (640, 360), colour(index)).save(target, "JPEG")
    return Frame(camera, index, 0, 0.0, at_s, image, Thumbnail(target.getvalue), 0.5)


def colour(index: int) -> tuple[int, int, int]:
    return (index * 16 % 256, 128, 255 - index * 16 % 256)


class Clock:
    """Time that moves when told."""

    def __init__(self) -> None:
        self.now_s = T0

    def wall_s(self) -> float:
        return self.now_s

    def monotonic_s(self) -> float:
        return self.now_s


class Filing:
    """The engine's `Keep` over an archive."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive

    def absorbed(self, carrier: Carrier, score: float) -> None:
        self.archive.put(filed(carrier, score))

    def grew(self, camera: str, frame: int, last_s: float) -> None:
        self.archive.extend(camera, frame, last_s)


class SlowReader(Reader):
    """A disk that takes its time: until `go` is set."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.go = threading.Event()
        self.begun = threading.Event()
        self.searches = 0

    def _wait(self) -> None:
        self.searches += 1
        self.begun.set()
        assert self.go.wait(WAIT_S)

    def narrow(self, camera: str, since_s: float | None, until_s: float | None, query: Floats, limit: int) -> list[Row]:
        self._wait()
        return super().narrow(camera, since_s, until_s, query, limit)

    def spread(self, camera: str, since_s: float | None, until_s: float | None, limit: int) -> list[Row]:
        self._wait()
        return super().spread(camera, since_s, until_s, limit)


class CountingReader(SlowReader):
    """Counts searches and waits for none."""

    def _wait(self) -> None:
        self.searches += 1


class BrokenReader(Reader):
    """A bug, or a disk that nobody thought of."""

    def keys(self, ids: Any) -> tuple[list[int], Floats]:
        raise OSError(5, "Input/output error")


class Watch:
    """An engine with archive, one turn at a time. Frames come every `step_s`, in all cameras at once."""

    def __init__(self, model: LlavaOnevision, archive: Archive, reader: Reader, **options: Any) -> None:
        self.clock, self.counters, self.gaps = Clock(), Counters(), GapLog()
        self.archive, self.reader, self.model = archive, reader, model
        names = [f"cam{number}" for number in range(options.pop("cameras", 1))]
        carriers, by = options.pop("carriers", 4), {"fifo": {}}
        self.cameras = {name: Camera(Mailbox(2), make_bank(model, carriers, 2, by, camera=name)) for name in names}
        method = recall.make(options.pop("recall", {"route": {}}))
        how = How(self.bank().policy.positions, Limits(carriers + options.pop("recalled", 4)))
        self.recaller = Recaller(method, how, reader)
        self.newest: dict[str, float] = {}
        outlook = Outlook(self.newest.get, self.gaps.between, keep=Filing(archive), clock=self.clock)
        settings = AnswerSettings(**{"max_tokens": 4, "time_zone": "UTC", **options})
        self.engine = Engine(make_encoder(model), self.recaller, self.cameras, settings, outlook, self.counters)
        self.answers: list[Answer] = []
        self.chunks: list[str] = []
        self.asked = 0
        self.seen = dict.fromkeys(names, 0)

    def bank(self, camera: str = "cam0") -> Any:
        return self.cameras[camera].bank

    def watch(self, count: int, step_s: float = 1.0, cameras: tuple[str, ...] | None = None) -> None:
        """`count` more frames. The clock moves on to when the last one came; all of them are archived then."""
        for _ in range(count):
            for name in cameras or tuple(self.cameras):
                self.cameras[name].mailbox.put(picture(self.seen[name], name, self.clock.now_s))
                self.seen[name] += 1
            self.engine.notify()
            self.engine.turn()
            self.clock.now_s += step_s
        self.clock.now_s -= step_s
        assert self.archive.flush(WAIT_S)

    def ask(self, question: str = "what?", **fields: Any) -> None:
        query = Query(**{"id": f"q{self.asked}", "question": question, "received_s": self.clock.now_s, **fields})
        self.asked += 1
        self.engine.ask(query, Sinks(self.chunks.append, self.answers.append))

    def settle(self, wait_s: float = WAIT_S) -> list[Answer]:
        """Turn until everything that was asked is answered."""
        end_s = time.monotonic() + wait_s
        while len(self.answers) < self.asked:
            assert time.monotonic() < end_s, "no answer"
            self.engine.turn()
            if not self.engine.queued or all(job.waits for job in self.engine._answers._active):
                time.sleep(0.001)
        return self.answers

    def answer(self, question: str = "what?", **fields: Any) -> Answer:
        """Ask one and wait for it."""
        self.ask(question, **fields)
        return self.settle()[-1]


@contextmanager
def watching(
    model: LlavaOnevision, folder: Path, reader: type[Reader] = Reader, path: Path | None = None, **options: Any
) -> Iterator[Watch]:
    """Everything is closed at the end, and no thread is left. `path`: what `reader` reads instead of the archive."""
    before = set(threading.enumerate())
    fixed = setup(model, ArchiveSettings(dtype=options.pop("dtype", "float32")))
    archive = Archive.open(folder / "archive.sqlite", replace(fixed, commit_every_s=0.01))
    own = reader(path or archive.path)
    watch = Watch(model, archive, own, **options)
    try:
        yield watch
    finally:
        if isinstance(own, SlowReader):
            own.go.set()
        watch.recaller.close()
        assert archive.close(WAIT_S)
    assert set(threading.enumerate()) <= before, "threads are left"
