"""An engine driven by hand, one turn at a time, with a clock that moves when told."""

from __future__ import annotations

from typing import Any

from daemon.engine import Camera, Engine
from daemon.gaps import GapLog
from daemon.job import Sinks
from daemon.messages import Answer, Query
from daemon.metrics import Counters
from daemon.outlook import Outlook
from daemon.recaller import Recaller
from daemon.settings import AnswerSettings
from memory.recall.all import All
from memory.recall.search import How, Limits
from stream.mailbox import Mailbox
from stream.model.llava_onevision import LlavaOnevision
from tests.models import make_bank, make_encoder, random_frames


class Clock:
    """Time that moves when told."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def wall_s(self) -> float:
        return self.now_s

    def monotonic_s(self) -> float:
        return self.now_s


class Bench:
    """An engine driven by hand, one turn at a time."""

    def __init__(self, model: LlavaOnevision, cameras: int = 1, gaps: GapLog | None = None, **settings: Any) -> None:
        self.clock, self.counters = Clock(), Counters()
        self.encoder = make_encoder(model)
        self.cameras = {
            f"cam{number}": Camera(Mailbox(2), make_bank(model, 6, 2, camera=f"cam{number}"))
            for number in range(cameras)
        }
        self.newest: dict[str, float] = {}
        outlook = Outlook(newest_s=self.newest.get, gaps=(gaps or GapLog()).between, clock=self.clock)
        limits = AnswerSettings(**{"max_tokens": 4, **settings})
        how = How(make_bank(model, 6, 2).policy.positions, Limits(6))
        self.engine = Engine(self.encoder, Recaller(All(), how), self.cameras, limits, outlook, self.counters)
        self.answers: list[Answer] = []
        self.chunks: list[tuple[str, str]] = []

    def frames(self, count: int = 1, camera: str = "cam0", seed: int = 0, first: int = 0) -> None:
        for frame in random_frames(first + count, seed, camera)[first:]:
            self.cameras[camera].mailbox.put(frame)
            self.engine.notify()
            self.engine.turn()

    def ask(self, query_id: str = "q", **fields: Any) -> None:
        query = Query(**{"id": query_id, "question": "what?", "received_s": self.clock.now_s, **fields})
        self.engine.ask(query, Sinks(lambda text: self.chunks.append((query_id, text)), self.answers.append))

    def settle(self, turns: int = 40) -> list[Answer]:
        for _ in range(turns):
            self.engine.turn()
        return self.answers
