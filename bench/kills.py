"""Does a kill -9 lose anything? A daemon that absorbs, answers, saves and erases is killed at random moments.

    python bench/kills.py [--kills 200] [--quick] [--seed 0] [--out FILE]

Every time: what an outside reader saw committed just before the kill must be there afterwards, whole, with frame
numbers that only grow; the daemon must start again, answer about before the kill and name the gap. Kinds of moments:

    watching   at any time while frames are absorbed and questions answered
    starting   at any time of a start
    stopping   at any time after a SIGTERM, while answers are finished and banks are saved
    erasing    at any time after an erasure was asked for, while banks are saved and rows are deleted
    minute     around the moment at which the banks are saved every minute

Ends with one JSON line; `--out` writes it to a file too. `start_s` is from the process's start to `ready`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from tqdm import tqdm
from where import commit, date, machine

from daemon.demo.broker import EmbeddedBroker
from memory.archive import Reader, Row, erase, schema
from memory.archive.inspect import verify
from stream.train.film import film
from stream.train.world import Street
from tests.brokers import Mosquitto
from tests.system.client import Caller
from tests.system.rig import Rig
from tests.system.untrained import make_checkpoint

FILM_S = 8.0
CAMERAS = ("door", "road")
GATE = [{"stride": {"fps": 4}}]
WEIGHTS = {"watching": 60, "starting": 14, "stopping": 12, "erasing": 12, "minute": 2}
LIFE_S = 2.5  # at most, after a start, before something happens
STOP_S, ERASE_S = 0.5, 2.0  # how long that takes at most, about
MINUTE_S = 60.0
START_S = 60.0  # at most, on a busy machine
ANSWER_S = 20.0
SETTLED_S = 60.0
ERASED_S = 0.6  # length of an erased range


@dataclass(slots=True)
class Tally:
    """What came of all kills of one kind, or of all."""

    kills: int = 0
    lost: int = 0  # carriers that were committed, or are listed, and cannot be read
    disorder: int = 0  # frame numbers that do not grow
    start_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    failed_starts: int = 0
    asked: int = 0  # starts with something before them
    answered: int = 0  # of those, after which a question about before the kill was answered from then
    gap_named: int = 0


class Archive:
    """What is known to be committed, seen from outside."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[int, Row] = {}
        self.erased: list[tuple[float, float]] = []

    def look(self) -> None:
        """Note every row that is committed now."""
        if not self.path.exists():
            return
        reader = Reader(self.path)
        for camera in CAMERAS:
            for row in reader.rows(camera, None, None):
                self.known[row.id] = row
        reader.close()

    def check(self) -> tuple[int, int]:
        """(carriers lost, frame numbers out of order) of what lies on the disk while nobody writes."""
        if not self.path.exists():
            return len(self.known), 0
        reader = Reader(self.path)
        rows = {row.id: row for camera in CAMERAS for row in reader.rows(camera, None, None)}
        missing = [row for row in self.known.values() if row.id not in rows and not self._erased(row)]
        found = verify(reader, lambda *_: None)
        reader.close()
        disorder = 0
        for camera in CAMERAS:
            frames = [row.frame for _, row in sorted(rows.items()) if row.camera == camera]
            disorder += sum(right <= left for left, right in pairwise(frames))
        problems = len(found.problems) + found.pictures_lost
        return len(missing) + found.lost + problems, disorder

    def erase(self, rng: random.Random) -> None:
        """Ask the running daemon to erase a short time, as `longwatch forget` does."""
        if not self.known:
            return
        since_s = rng.choice(list(self.known.values())).span.first_s
        self.erased.append((since_s, since_s + ERASED_S))
        db = schema.connect(self.path, read_only=False)
        erase.request(db, time.time(), None, *self.erased[-1])
        db.close()

    def settled(self) -> bool:
        """Whether every erasure is done."""
        reader = Reader(self.path)
        (left,) = next(reader.select("SELECT count(*) FROM erasures WHERE done_s IS NULL", ()))
        reader.close()
        return bool(left == 0)

    def remains(self) -> int:
        """Carriers that should have been erased."""
        reader = Reader(self.path)
        rows = [row for camera in CAMERAS for row in reader.rows(camera, None, None)]
        reader.close()
        return sum(self._erased(row) for row in rows)

    def _erased(self, row: Row) -> bool:
        return any(since_s <= row.span.first_s <= until_s for since_s, until_s in self.erased)


class Asker:
    """Asks all the time, on a thread of its own."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self.answers = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        number = 0
        while not self._over.is_set():
            number += 1
            since = self._caller.mark()
            with suppress(AssertionError):  # the daemon was killed before it answered
                self._caller.ask(f"busy-{number}", "how many cars passed?", deadline_ms=2000)
                self._caller.wait(f"longwatch/answer/busy-{number}", since=since, timeout_s=1.0)
                self.answers += 1

    def close(self) -> None:
        """End it."""
        self._over.set()
        self._thread.join()


class Bench:
    """One run: the rig, the archive's book, and a tally by kind."""

    def __init__(self, rig: Rig, rng: random.Random) -> None:
        self.rig, self.rng = rig, rng
        self.archive = Archive(rig.folder / "memory" / "archive.sqlite")
        self.tallies = {kind: Tally() for kind in WEIGHTS}
        self.killed_s: float | None = None
        self.tracebacks = 0
        self._last = "watching"  # kind of the kill that the next start comes after
        self._questions = 0

    def kill(self, kind: str) -> None:
        """Start, live, kill, look."""
        began_s = self._launch()
        if kind == "starting":
            typical_s = statistics.median([s for tally in self.tallies.values() for s in tally.start_s] or [5.0])
            time.sleep(self.rng.uniform(0.0, typical_s))
        else:
            self._ready(began_s)
            self._live(kind, began_s)
        tally = self.tallies[kind]
        self.archive.look()
        daemon = self.rig.daemon
        assert daemon is not None
        if not daemon.alive and kind == "stopping":  # it was quicker
            self._end()
            return
        daemon.send(signal.SIGKILL)
        self.killed_s = time.time()
        self._end()
        lost, disorder = self.archive.check()
        tally.kills += 1
        tally.lost += lost
        tally.disorder += disorder
        self._last = kind

    def finish(self) -> None:
        """Start once more, let the erasures end, stop in order."""
        self._ready(self._launch())
        self.rig.until(self.archive.settled, "all erasures done", SETTLED_S)
        assert self.rig.daemon is not None
        self.rig.daemon.send(signal.SIGTERM)
        self.rig.daemon.wait()
        self._end()

    def _launch(self) -> float:
        began_s = time.time()
        self.rig.start(wait=False)
        return began_s

    def _ready(self, began_s: float) -> None:
        """Wait until it is up; ask about before."""
        tally, daemon = self.tallies[self._last], self.rig.daemon
        assert daemon is not None
        try:
            found = daemon.wait_log(r"timestamp=(\S+) .* event=ready", START_S)
        except AssertionError as error:
            tally.failed_starts += 1
            tqdm.write(f"no start after a kill while {self._last}: {str(error)[-800:]}")
            return
        ticks = Path(f"/proc/{daemon.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[11:13]
        tally.cpu_s.append(sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"))
        tally.start_s.append(datetime.fromisoformat(found[1]).timestamp() - began_s)
        if self.killed_s is not None and self.archive.known:
            self._ask_about_before(tally, self.killed_s)

    def _ask_about_before(self, tally: Tally, killed_s: float) -> None:
        self._questions += 1
        tally.asked += 1
        query_id, caller = f"before-{self._questions}", self.rig.caller
        since = caller.mark()
        since_s = min(row.span.first_s for row in self.archive.known.values())
        try:
            caller.ask(query_id, "what was there?", since=since_s, until=killed_s, cameras=list(CAMERAS))
            answer: Any = caller.wait(f"longwatch/answer/{query_id}", since=since, timeout_s=ANSWER_S).json()
        except AssertionError as error:
            tqdm.write(f"no answer after a kill while {self._last}: {error}")
            return
        spans = [item["span"] for item in answer["evidence"]]
        if answer["status"] == "ok" and spans and all(first_s <= killed_s for first_s, _ in spans):
            tally.answered += 1
        else:
            tqdm.write(f"not answered from before: {answer}")
        gaps = answer["memory"]["gaps"]
        named = {gap["camera"] for gap in gaps if gap["since"] <= killed_s and killed_s <= (gap["until"] or 1e12)}
        if named == set(CAMERAS):
            tally.gap_named += 1
        else:
            tqdm.write(f"gap at {killed_s:.1f} not named: {gaps[-4:]}")

    def _live(self, kind: str, began_s: float) -> None:
        daemon = self.rig.daemon
        assert daemon is not None
        if kind == "minute":
            ready_s = began_s + (self.tallies[self._last].start_s or [0.0])[-1]
            time.sleep(max(0.0, ready_s + MINUTE_S + self.rng.uniform(-0.1, 0.2) - time.time()))
            return
        time.sleep(self.rng.uniform(0.0, LIFE_S))
        if kind == "stopping":
            daemon.send(signal.SIGTERM)
            time.sleep(self.rng.uniform(0.0, STOP_S))
        elif kind == "erasing":
            self.archive.look()
            self.archive.erase(self.rng)
            time.sleep(self.rng.uniform(0.0, ERASE_S))

    def _end(self) -> None:
        """The process is reaped, its log looked through and put away."""
        daemon = self.rig.daemon
        assert daemon is not None
        daemon.wait()
        daemon.end()
        if "Traceback" in daemon.log():
            self.tracebacks += 1
            tqdm.write(f"a traceback; it ends: {daemon.log()[-800:]}")
        daemon.log_path.unlink()


def prepare(stack: ExitStack, folder: Path, seed: int) -> Rig:
    """Everything but the daemon: broker, checkpoint, a film of an invented street as both cameras."""
    clip = folder / "street.mp4"
    film(Street(seed, FILM_S), clip, fps=10)
    broker: Mosquitto | EmbeddedBroker
    if shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin"):
        broker = Mosquitto(folder).start()
    else:
        broker = EmbeddedBroker().start()
    stack.callback(broker.stop)
    rig = stack.enter_context(Rig(folder, broker, str(make_checkpoint(folder / "checkpoint"))))
    rig.urls = dict.fromkeys(CAMERAS, str(clip))
    rig.more = {"gate": GATE}
    return rig


def report(bench: Bench, asker: Asker, seed: int) -> dict[str, Any]:
    """The table, printed, and the JSON line's content."""
    head = f"{'killed while':12} {'kills':>5} {'lost':>5} {'disorder':>8} {'starts':>6} {'failed':>6} {'asked':>5} "
    print(head + f"{'answered':>8} {'gap named':>9} {'start p50':>9} {'max':>6} {'CPU p50':>8}")
    whole = Tally()
    for kind, tally in [*bench.tallies.items(), ("all", whole)]:
        times, cpu = tally.start_s or [0.0], tally.cpu_s or [0.0]
        print(
            f"{kind:12} {tally.kills:5} {tally.lost:5} {tally.disorder:8} {len(tally.start_s):6}"
            f" {tally.failed_starts:6} {tally.asked:5} {tally.answered:8} {tally.gap_named:9}"
            f" {statistics.median(times):8.2f}s {max(times):5.2f}s {statistics.median(cpu):7.2f}s"
        )
        if tally is not whole:
            for name in Tally.__slots__:
                setattr(whole, name, getattr(whole, name) + getattr(tally, name))
    remains = bench.archive.remains()
    print(f"{len(bench.archive.known)} carriers were known committed; {asker.answers} other questions were answered")
    print(f"{len(bench.archive.erased)} erasures, {remains} carriers left of them; {bench.tracebacks} tracebacks")
    return {
        "bench": "kills",
        "seed": seed,
        "kills": whole.kills,
        "kinds": {kind: tally.kills for kind, tally in bench.tallies.items()},
        "committed": len(bench.archive.known),
        "lost": whole.lost,
        "disorder": whole.disorder,
        "starts": len(whole.start_s),
        "failed_starts": whole.failed_starts,
        "asked_before": whole.asked,
        "answered_before": whole.answered,
        "gap_named": whole.gap_named,
        "erasures": len(bench.archive.erased),
        "erased_left": remains,
        "tracebacks": bench.tracebacks,
        "questions": asker.answers,
        "start_s_p50": round(statistics.median(whole.start_s), 2),
        "start_s_max": round(max(whole.start_s), 2),
        "start_cpu_s_p50": round(statistics.median(whole.cpu_s), 2),
        "load": round(os.getloadavg()[2], 1),  # processes that wanted a processor in the last quarter of an hour
        "machine": machine(),
        "commit": commit(),
        "date": date(),
    }


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="12 kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    wanted = 12 if args.quick else args.kills
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory(prefix="kills-") as name, ExitStack() as stack:
        rig = prepare(stack, Path(name), args.seed)
        bench = Bench(rig, rng)
        asker = Asker(stack.enter_context(rig.calling()))
        stack.callback(asker.close)
        with tqdm(total=wanted, unit="kill") as bar:
            while bar.n < wanted:
                kind = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0] if bar.n else "watching"
                before = sum(tally.kills for tally in bench.tallies.values())
                bench.kill(kind)
                bar.update(sum(tally.kills for tally in bench.tallies.values()) - before)
        bench.finish()
        found = report(bench, asker, args.seed)
    print(json.dumps(found))
    if args.out:
        args.out.write_text(json.dumps(found) + "\n", encoding="utf-8")
    if found["lost"] or found["disorder"] or found["failed_starts"] or found["erased_left"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
