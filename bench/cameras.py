"""What do cameras cost? 1080p25 files through the real thing, with everything that may be left undone, and without.

    python bench/cameras.py [--cameras 8] [--still N] [--seconds S] [--key-s 1] [--videos DIR] [--quick] [--out FILE]

Half of the cameras (`--still`) look at a scene in which nothing moves, with a sensor's noise; the others at streets,
and at real clips where `--videos` has some, scaled to 1080p. A source thread each, the engine with the tiny model, and
an event loop that does what the daemon's does. `less` and `all` are measured one after the other, in one process.

`core` is the processor time of the camera's thread, per cent of one core. `age` is how old the newest picture is that
was looked at (`heard`: or packet that came), at every tick of the loop; `memory` how long ago the newest absorbed
moment ends. `lag` is how late the loop wakes from sleeps of 5 ms, beside that of a process that does nothing else.
Ends with one JSON line; `--out` writes it to a file.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from tqdm import tqdm
from where import commit, date, machine

from daemon import logs
from daemon.app import SWITCH_S
from daemon.core import Core, build
from daemon.engine import Camera, Engine
from daemon.metrics import Counters
from daemon.outlook import Outlook
from daemon.settings import Settings, parse
from memory.bank import MemoryBank
from stream import gate
from stream.doze import OFF, Thrift
from stream.mailbox import Mailbox
from stream.source import Source, SourceConfig, Surroundings
from stream.train.film import film
from stream.train.script import Style
from stream.train.world import Street
from stream.types import Frame

WIDTH, HEIGHT, FPS = 1920, 1080, 25
FILM_S = 10.0  # drawn; then the packets are repeated, as a camera has no end
LEAD_S = 4.0  # before it: an encoder's first pictures are worse than its others
NOISE = 1.5  # grey levels, of a sensor by day
GATE: list[dict[str, dict[str, float]]] = [{"stride": {"fps": 2}}, {"still": {}}]
SETTLE_S = 11.0  # until still cameras doze
TICK_S = 0.005
BUSY = Style(pause_s=0.5)
EMPTY = Style(pause_s=1e9, fixtures=(), parcels=0.0)
REAL = ("lobby_table_visitors.mp4", "road_overhead_cars.mp4", "residential_street_cars.mp4", "cat_alley_portrait.mp4")

SLEEPER = """
import sys, time
late, end, tick = [], time.monotonic() + float(sys.argv[1]), float(sys.argv[2])
print("ready", flush=True)
while (began := time.monotonic()) < end:
    time.sleep(tick)
    late.append(time.monotonic() - began - tick)
late.sort()
print(1000 * late[-1], 1000 * late[int(0.99 * len(late))])
"""


# -- footage -----------------------------------------------------------------------------------------------------------


def encode(path: Path, pictures: list[np.ndarray], noise: float, key_s: float) -> None:
    """RGB pictures of any size, again and again, as 1080p H.264 at 25 frames/s: LEAD_S and FILM_S."""
    rng = np.random.default_rng(0)
    grain = rng.normal(0, noise, (HEIGHT * 3 // 2 + 64, WIDTH)).astype(np.int8) if noise else None
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=Fraction(FPS))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = {"preset": "ultrafast", "tune": "zerolatency", "crf": "24", "g": str(round(key_s * FPS))}
        planes: dict[int, np.ndarray] = {}
        for number in range(round((LEAD_S + FILM_S) * FPS)):
            which = number % len(pictures)
            if which not in planes:
                small = av.VideoFrame.from_ndarray(pictures[which], format="rgb24")
                planes = {which: small.reformat(WIDTH, HEIGHT, format="yuv420p").to_ndarray()}
            plane = planes[which]
            if grain is not None:
                plane = plane.copy()
                top, left = int(rng.integers(64)), int(rng.integers(WIDTH))
                light = plane[:HEIGHT].astype(np.int16) + np.roll(grain[top : top + HEIGHT], left, axis=1)
                plane[:HEIGHT] = np.clip(light, 0, 255)
            frame = av.VideoFrame.from_ndarray(plane, format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def prolong(film_path: Path, path: Path, seconds: float) -> Path:
    """What follows LEAD_S in `film_path`, again and again: a key frame is there, and nothing reaches beyond it."""
    with av.open(str(film_path)) as source, av.open(str(path), "w") as out:
        stream = source.streams.video[0]
        copy = out.add_stream_from_template(stream)
        assert stream.time_base is not None
        step, lead = round(FILM_S / stream.time_base), round(LEAD_S / stream.time_base)
        for turn in range(int(seconds // FILM_S) + 1):
            source.seek(0)
            for packet in source.demux(stream):
                if packet.dts is None or packet.pts is None or packet.pts < lead:
                    continue
                packet.pts = packet.dts = packet.pts - lead + turn * step  # no B-frames
                packet.stream = copy
                out.mux(packet)
    return path


def street(folder: Path, seed: int, style: Style, seconds: float) -> list[np.ndarray]:
    """A drawn street, RGB."""
    film(Street(seed, seconds, style), folder / "street.mp4", (640, 360), FPS)
    with av.open(str(folder / "street.mp4")) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def clip(path: Path) -> list[np.ndarray]:
    """The first FILM_S of a real clip at our rate, RGB, at its own size."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        rate = float(stream.average_rate or FPS)
        found = []
        for number, frame in enumerate(container.decode(stream)):
            if number > FILM_S * rate:
                break
            found.append(frame.to_ndarray(format="rgb24"))
    count = round(len(found) / rate * FPS)
    return [found[min(len(found) - 1, int(number * rate / FPS))] for number in range(count)]


@dataclass(frozen=True, slots=True)
class Scene:
    """What a camera looks at."""

    name: str
    kind: str  # still, moving
    path: Path


def scenes(folder: Path, wanted: argparse.Namespace, seconds: float) -> list[Scene]:
    """One file per camera; the same scene may be watched by several."""
    made: list[Scene] = []
    jobs: list[tuple[str, str, Any, float]] = [("still", "yard", lambda: street(folder, 3, EMPTY, 1.0)[:1], NOISE)]
    moving = wanted.cameras - wanted.still
    real = [wanted.videos / name for name in REAL] if wanted.videos else []
    for path in [path for path in real if path.exists()][: moving // 2]:
        jobs.append(("moving", path.stem, lambda path=path: clip(path), 0.0))
    jobs += [
        ("moving", f"street{seed}", lambda seed=seed: street(folder, seed, BUSY, FILM_S), NOISE) for seed in (1, 2)
    ]
    if wanted.quick:
        jobs = [jobs[0], jobs[-1]]
    for kind, name, draw, noise in tqdm(jobs, desc="making films", unit="film"):
        encode(folder / "film.mp4", draw(), noise, wanted.key_s)
        made.append(Scene(name, kind, prolong(folder / "film.mp4", folder / f"{name}.mp4", seconds)))
    still = [made[0]] * wanted.still
    others = [made[1 + number % (len(made) - 1)] for number in range(moving)]
    return [replace(scene, name=f"{scene.kind}{n}") for n, scene in enumerate([*still, *others])]


# -- the daemon's parts ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Watched:
    """One camera while it is measured."""

    scene: Scene
    source: Source
    mailbox: Mailbox[Frame]
    bank: MemoryBank
    age_s: list[float] = field(default_factory=list)
    heard_s: list[float] = field(default_factory=list)
    memory_s: list[float] = field(default_factory=list)
    cpu_s: float = 0.0
    before: dict[str, int] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """Everything that is counted, as of now."""
        stats, mail = self.source.stats(), self.mailbox.counts()
        return {"frames": stats.frames_in, "kept": stats.kept, "absorbed": mail.taken, "dropped": mail.dropped}


def thread_cpu_s(name: str) -> float:
    """Processor time of the running thread `name`."""
    for thread in threading.enumerate():
        if thread.name == name and thread.native_id is not None:
            return int(Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text().split()[0]) / 1e9
    return 0.0


def cameras(core: Core, engine_notify: Any, found: list[Scene], thrift: Thrift) -> dict[str, Watched]:
    """Readers, not started, and what stands between them and the engine: as `daemon/app.py` builds them."""
    side = core.model.geometry.image_px
    made = {}
    for scene in found:
        mailbox: Mailbox[Frame] = Mailbox(notify=engine_notify)
        config = SourceConfig(scene.name, str(scene.path), (side, side), thrift=thrift)
        source = Source(config, gate.make(GATE), mailbox.put, None, Surroundings())
        made[scene.name] = Watched(scene, source, mailbox, core.bank(scene.name))
    return made


async def watch(watched: dict[str, Watched], engine: Engine, seconds: float) -> list[float]:
    """The daemon's loop for `seconds`: how late it woke each time. Ages are written into `watched`."""
    late: list[float] = []
    end_s = time.monotonic() + seconds
    looked_s = 0.0
    while (began_s := time.monotonic()) < end_s:
        await asyncio.sleep(TICK_S)
        late.append(time.monotonic() - began_s - TICK_S)
        if began_s - looked_s < 0.1:
            continue
        looked_s, spans = began_s, engine.snapshot()
        for name, one in watched.items():
            stats, now_s = one.source.stats(), time.time()
            one.source.watchdog()
            if stats.last_wall_s is not None and stats.alive_wall_s is not None:
                one.age_s.append(now_s - stats.last_wall_s)
                one.heard_s.append(now_s - stats.alive_wall_s)
            if (end := spans.get(name, (0, None, None))[2]) is not None:
                one.memory_s.append(now_s - end)
    return late


class Outside:
    """Another process that sleeps and wakes likewise: what the machine, and who else works on it, does to the lag."""

    def __init__(self, seconds: float) -> None:
        command = [sys.executable, "-c", SLEEPER, str(seconds), str(TICK_S)]
        self._child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._child.stdout is not None
        self._child.stdout.readline()

    def lag_ms(self) -> dict[str, float]:
        """Its own, after `seconds`."""
        worst, p99 = (self._child.communicate()[0]).split()
        return {"max": float(worst), "p99": float(p99)}


def quantile(values: list[float], q: float) -> float:
    """The nearest-rank quantile; 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else 0.0


def measure(settings: Settings, found: list[Scene], thrift: Thrift, seconds: float) -> dict[str, Any]:
    """One run: everything started, settled, and watched for `seconds`."""
    core, counters = build(settings), Counters()
    watched: dict[str, Watched] = {}
    outlook = Outlook(lambda name: watched[name].source.stats().last_wall_s if name in watched else None)
    engine = Engine(core.encoder, core.recaller(), {}, settings.answer, outlook, counters)
    watched |= cameras(core, engine.notify, found, thrift)
    engine.exchange({name: Camera(one.mailbox, one.bank) for name, one in watched.items()})
    engine.start()
    for one in watched.values():
        one.source.start()
        time.sleep(0.3 / len(watched))  # as cameras are: not all at the same moment
    asyncio.run(watch(watched, engine, SETTLE_S))
    for name, one in watched.items():
        one.before, one.cpu_s = one.counts(), thread_cpu_s(f"camera-{name}")
        one.age_s, one.heard_s, one.memory_s = [], [], []
    began = time.monotonic(), time.process_time(), thread_cpu_s("engine"), counters.value("absorbed")
    outside = Outside(seconds)
    late = asyncio.run(watch(watched, engine, seconds))
    took_s = time.monotonic() - began[0]
    result = {
        "cores": (time.process_time() - began[1]) / took_s,
        "engine_core": (thread_cpu_s("engine") - began[2]) / took_s,
        "absorbed_fps": (counters.value("absorbed") - began[3]) / took_s,
        "lag_ms": {"max": 1000 * max(late), "p99": 1000 * quantile(late, 0.99)},
        "lag_outside_ms": outside.lag_ms(),
        "cameras": {name: line(one, took_s) for name, one in watched.items()},
    }
    for one in watched.values():
        one.source.stop()
    engine.stop()
    return result


def line(one: Watched, took_s: float) -> dict[str, Any]:
    """One camera's numbers."""
    counts = {key: value - one.before[key] for key, value in one.counts().items()}
    cpu_s = thread_cpu_s(f"camera-{one.scene.name}") - one.cpu_s
    ages = {"age_s": one.age_s, "heard_s": one.heard_s, "memory_s": one.memory_s}
    return {
        "kind": one.scene.kind,
        "film": one.scene.path.stem,
        "core": cpu_s / took_s,
        **counts,
        "absorbed_fps": counts["absorbed"] / took_s,
        **{name: {"max": max(values, default=0.0), "p95": quantile(values, 0.95)} for name, values in ages.items()},
        "skipped": dict(one.source.stats().skipped),
    }


def show(name: str, run: dict[str, Any]) -> None:
    """A table: cameras by kind."""
    lag = run["lag_ms"]
    print(
        f"\n{name}: {run['cores']:.2f} cores, engine {run['engine_core']:.2f}, {run['absorbed_fps']:.1f} absorbed "
        f"frames/s, loop late by at most {lag['max']:.1f} ms (p99 {lag['p99']:.1f}); "
        f"a process that only sleeps: {run['lag_outside_ms']['max']:.1f} ms (p99 {run['lag_outside_ms']['p99']:.1f})"
    )
    print(f"{'camera':10} {'film':23} {'core':>7} {'age':>6} {'p95':>6} {'heard':>6} {'memory':>7} {'drops':>6}   fps")
    for camera, got in run["cameras"].items():
        print(
            f"{camera:10} {got['film']:23} {100 * got['core']:6.2f}% {got['age_s']['max']:6.2f} "
            f"{got['age_s']['p95']:6.2f} {got['heard_s']['max']:6.2f} {got['memory_s']['max']:7.2f} "
            f"{got['dropped']:6} {got['absorbed_fps']:5.2f}"
        )
    for kind in ("still", "moving"):
        rows = [got for got in run["cameras"].values() if got["kind"] == kind]
        if rows:
            mean = 100 * sum(got["core"] for got in rows) / len(rows)
            oldest = max(got["age_s"]["max"] for got in rows)
            print(f"{len(rows)} {kind}: {mean:.2f} % of a core each; none older than {oldest:.2f} s")


def main() -> None:
    """Measure both ways and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cameras", type=int, default=8)
    parser.add_argument("--still", type=int, help="of these look at nothing that moves; default: half")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each of the two runs")
    parser.add_argument("--key-s", type=float, default=1.0, help="distance of key frames")
    parser.add_argument("--videos", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "videos")
    parser.add_argument("--switch-ms", type=float, default=1000 * SWITCH_S, help="see sys.setswitchinterval")
    parser.add_argument("--quick", action="store_true", help="6 seconds each, and two films")
    parser.add_argument("--out", type=Path, help="write the result there too")
    wanted = parser.parse_args()
    wanted.still = wanted.cameras // 2 if wanted.still is None else wanted.still
    seconds = 6.0 if wanted.quick else wanted.seconds
    settings = parse({"cameras": {"c": {"url": "unused"}}, "gate": GATE}, "bench")
    load = os.getloadavg()[0]
    logs.setup("warning")
    sys.setswitchinterval(wanted.switch_ms / 1000)
    with tempfile.TemporaryDirectory() as folder:
        found = scenes(Path(folder), wanted, SETTLE_S + seconds + 5.0)
        runs = {name: measure(settings, found, how, seconds) for name, how in (("less", Thrift()), ("all", OFF))}
    print(f"{machine()}; load before {load:.2f}; 1080p25 H.264, a key frame every {wanted.key_s:g} s; age in seconds")
    for name, run in runs.items():
        show(name, run)
    result = {
        "bench": "cameras",
        "seconds": seconds,
        "key_s": wanted.key_s,
        "gate": GATE,
        "thrift": asdict(Thrift()),
        **runs,
        "machine": machine(),
        "load_before": round(load, 2),
        "commit": commit(),
        "date": date(),
    }
    text = json.dumps(result)
    print(text)
    if wanted.out is not None:
        wanted.out.parent.mkdir(parents=True, exist_ok=True)
        wanted.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
