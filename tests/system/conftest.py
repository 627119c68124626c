"""What the system tests share: a checkpoint, clips, and rigs of real processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.brokers import Mosquitto
from tests.conftest import VIDEOS
from tests.fakes import make_video
from tests.system.footage import make_full_hd
from tests.system.rig import Clips, Rig
from tests.system.untrained import make_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny geometry with random weights: these tests must not depend on what a training run gave."""
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "random")


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    if (VIDEOS / "manifest.json").exists():
        return Clips(
            VIDEOS / "residential_street_cars.mp4",
            VIDEOS / "road_overhead_cars.mp4",
            VIDEOS / "warehouse_worker.mp4",
            VIDEOS / "buzzard_closeup.mp4",
        )
    folder = tmp_path_factory.mktemp("clips")
    small = [make_video(folder / f"{name}.mp4", 80, 10, (360, 640)) for name in ("street", "road", "hall")]
    return Clips(*small, make_video(folder / "large.mp4", 80, 10, (540, 960)))


@pytest.fixture(scope="session")
def full_hd(tmp_path_factory: pytest.TempPathFactory, clips: Clips) -> Path:
    """What a usual camera sends: 1920x1080 at 25 frames/s."""
    return make_full_hd(tmp_path_factory.mktemp("full_hd") / "street.mp4", clips.street)


@pytest.fixture(scope="module")
def rigs(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Iterator[Callable[[], Rig]]:
    """Makes rigs that end with the module; each has a Mosquitto of its own."""
    with ExitStack() as stack:

        def make() -> Rig:
            folder = tmp_path_factory.mktemp("rig")
            broker = Mosquitto(folder).start()
            stack.callback(broker.stop)
            return stack.enter_context(Rig(folder, broker, str(checkpoint)))

        yield make


@pytest.fixture
def rig(tmp_path: Path, checkpoint: Path) -> Iterator[Rig]:
    """One rig for one test."""
    broker = Mosquitto(tmp_path).start()
    try:
        with Rig(tmp_path, broker, str(checkpoint)) as made:
            yield made
    finally:
        broker.stop()
