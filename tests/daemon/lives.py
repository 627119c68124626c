"""What the tests of the keeper share: a daemon's memory from its start to its end, orderly or not."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from daemon.core import Core
from daemon.engine import Camera, Engine
from daemon.gaps import GapLog
from daemon.keeper import Keeper
from daemon.metrics import Counters
from daemon.outlook import Outlook
from daemon.settings import AnswerSettings, ArchiveSettings, CameraSettings, Settings
from memory import recall, retain
from memory.bank import MemoryBank, Policy
from stream.mailbox import Mailbox
from stream.model.llava_onevision import LlavaOnevision
from stream.positions import Compact
from stream.types import Budget, Frame, Thumbnail
from tests.models import make_encoder

T0 = 1_700_000_000.0
WAIT_S = 20.0


def picture(index: int) -> Frame:
    rng = np.random.default_rng(index)
    target = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (36, 64, 3), dtype=np.uint8)).save(target, "JPEG")
    image = rng.integers(0, 256, (96, 96, 3), dtype=np.uint8)
    return Frame("door", index, 0, 0.0, T0 + 10.0 * index, image, Thumbnail(target.getvalue), 0.5)


class Life:
    """A daemon's memory from start to end, without cameras and broker."""

    def __init__(self, model: LlavaOnevision, folder: Path, by: dict[str, Any], **archive: Any) -> None:
        policy = Policy(Budget(4, 2), retain.make(by), Compact(len(model.system()), model.geometry.visual), seed=5)
        self.core = Core(make_encoder(model), policy, recall.make({"route": {}}), 4)
        own = ArchiveSettings(**{"folder": folder, "dtype": "float32", **archive})
        settings = Settings(cameras={"door": CameraSettings(url="rtsp://camera/1")}, archive=own)
        self.gaps, self.counters = GapLog(), Counters()
        self.keeper = Keeper(settings, self.core, self.gaps, self.counters)
        self.gaps.on_change = self.keeper.gap
        self.newest: dict[str, float] = {}
        self.erased: list[tuple[str | None, float, float]] = []

    def start(self) -> Life:
        self.keeper.open()
        self.kept = self.keeper.restore("door")
        self.camera = Camera(Mailbox[Frame](2), self.kept.bank)
        outlook = Outlook(self.newest.get, self.gaps.between, keep=self.keeper)
        cameras = {"door": self.camera}
        recaller = self.core.recaller()
        self.engine = Engine(self.core.encoder, recaller, cameras, AnswerSettings(), outlook, self.counters)
        self.keeper.attach(self.engine, lambda *what: self.erased.append(what))
        return self

    @property
    def bank(self) -> MemoryBank:
        return self.camera.bank

    def watch(self, *frames: int, grow_s: float = 0.0) -> Life:
        """Absorb these frames; each is still to be seen for `grow_s`."""
        for index in frames:
            frame = picture(index)
            self.camera.mailbox.put(frame)
            self.newest["door"] = frame.wall_s
            self.engine.notify()
            self.engine.turn()
            self.grow(grow_s)
        return self

    def grow(self, grow_s: float) -> None:
        """The newest frame is still to be seen."""
        self.newest["door"] += grow_s
        self.engine.turn()

    def commit(self) -> None:
        archive = self.keeper._archive
        assert archive is not None
        assert archive.flush(WAIT_S)

    def forget(self, since_s: float, until_s: float) -> None:
        archive = self.keeper._archive
        assert archive is not None
        archive.forget("door", since_s, until_s).result(WAIT_S)

    def end(self) -> None:
        self.keeper.close()

    def kill(self) -> None:
        """What was committed is there; nothing is saved."""
        self.keeper._engine = None
        self.keeper.close()
