"""A month of one camera through the real archive, at fast forward: commits, memory, disk, quota, recall.

    python bench/soak.py [--carriers 1000000 | --quick] [--folder DIR]

Simulated carriers of the real shape (0.5B: 24 layers, 2 heads of 64, width 896) at 1 frame a second behind a keyframe
gate, which keeps more by day than by night, so that a million carriers are 30 days. Their vectors move slowly (AR(1) in
24 directions, minutes long, and daylight), each frame adds noise of its own, and now and then something shows up for
a few seconds: a direction of its own is added (a planted needle). Pictures are JPEGs of the procedural street. What is
real: archive, thread, encoding, file, disk. What is not: the pace; the clock is passed in.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from memory.archive import Archive, Entry, Outage, Quota, Reader, Setup, Shape, predicted_bytes
from stream.train.world import Street
from stream.types import Span

REAL = Shape(24, 2, 64, 896)
BEGIN_S = 1_760_000_000.0 - 1_760_000_000.0 % 86_400
KEPT_A_S = 1_000_000 / (30 * 86_400)  # mean of the gate
RANK, NOISE = 24, 0.5  # directions that move slowly; noise of each frame, per channel, where those have 1
NEEDLE = 1.0  # strength of a planted event, per channel
NARROW, WINNERS = 512, 32
BATCH = 8  # carriers a commit: more than a camera brings in the second between two commits
WAIT_S = 120.0
CAMERA = "street"


@dataclass(slots=True)
class FastClock:
    """Time as the stream brings it along."""

    now_s: float = BEGIN_S

    def wall_s(self) -> float:
        """Seconds since the epoch."""
        return self.now_s

    def monotonic_s(self) -> float:
        """Seconds of stream."""
        return self.now_s - BEGIN_S


@dataclass(slots=True)
class Life:
    """Carriers of one camera, in blocks, and the needles planted among them."""

    shape: Shape
    carriers: int
    seed: int = 0
    needles: list[set[int]] = field(default_factory=list)  # frames of each; kept small: memory is watched

    def __iter__(self) -> Iterator[Entry]:
        rng = np.random.default_rng(self.seed)
        jpegs, heads = pictures(self.seed), int(np.prod(self.shape.heads))
        size = 2 * heads + self.shape.width
        basis = rng.standard_normal((RANK, size)).astype(np.float32) / RANK**0.5
        base = rng.standard_normal(size).astype(np.float32) * 2
        state = rng.standard_normal(RANK).astype(np.float32)
        now_s, every = BEGIN_S, max(500, self.carriers // 120)
        noise = rng.standard_normal(size, np.float32)
        for frame in range(self.carriers):
            noise = np.roll(noise, 977) if frame % 8 else rng.standard_normal(size, np.float32)  # eight times as fast
            now_s += float(rng.geometric(min(1.0, KEPT_A_S * _busy(now_s))))
            state = state * 0.99 + rng.standard_normal(RANK, np.float32) * 0.141
            row = base + state @ basis + NOISE * noise
            if frame % every < 4 and frame >= every:
                if frame % every == 0:
                    self.needles.append(set())
                row[:heads] += NEEDLE * self.direction(len(self.needles) - 1)
                self.needles[-1].add(frame)
            keys, values, digest = row[:heads], row[heads : 2 * heads], row[2 * heads :]
            arrays = (digest, keys.reshape(self.shape.heads), values.reshape(self.shape.heads))
            yield Entry(CAMERA, frame, Span(now_s, now_s), 1.0, *arrays, jpegs[frame % len(jpegs)])

    def direction(self, needle: int) -> np.ndarray:
        """What a planted event adds to the keys, [L * Hkv * Dh]."""
        rng = np.random.default_rng([self.seed, needle])
        return rng.standard_normal(int(np.prod(self.shape.heads)), np.float32)


def pictures(seed: int, count: int = 32, width_px: int = 160) -> list[bytes]:
    """JPEGs of the street, some 3 KB each."""
    street, found = Street(seed, 3_600.0), []
    for number in range(count):
        target = io.BytesIO()
        image = Image.fromarray(street.render(number * 100.0, 2 * width_px, width_px * 3 // 2))
        image.resize((width_px, width_px * 3 // 4)).save(target, "JPEG", quality=60)
        found.append(target.getvalue())
    return found


def run(carriers: int, folder: Path, shape: Shape = REAL, queries: int = 200, seed: int = 0) -> dict[str, Any]:
    """Everything; `folder` gets some 11 KB a carrier, and keeps them."""
    path, life = folder / "archive.sqlite", Life(shape, carriers, seed)
    result = write(path, life)
    result |= quota(folder / "quota.sqlite", Life(shape, min(carriers, 20_000), seed + 1))
    result |= recall(path, life, queries)
    return result


def write(path: Path, life: Life) -> dict[str, Any]:
    """The stream goes in; commits, memory and disk are watched."""
    clock, jpeg_bytes, minutes, minute = FastClock(), 0, 0, 0
    archive = Archive.open(path, Setup(life.shape, "soak", clock=clock, commit_every_s=5.0, batch=BATCH))
    commits: list[float] = []
    memory: list[tuple[float, float, float]] = []  # simulated hours, real hours, MB
    began_s, newest = time.monotonic(), None
    for entry in tqdm(life, total=life.carriers, desc="write", unit="carrier", disable=None):
        clock.now_s = entry.span.first_s
        if newest is not None and clock.now_s - newest.span.last_s > 1:
            archive.extend(CAMERA, newest.frame, clock.now_s - 1)  # the gate said: still the same
        archive.put(entry)
        newest, jpeg_bytes = entry, jpeg_bytes + len(entry.jpeg)
        minutes, minute = minutes + (clock.now_s // 60 != minute), clock.now_s // 60
        if entry.frame % BATCH == BATCH - 1:
            if not archive.flush(WAIT_S):
                raise RuntimeError(f"the archive stands still: {archive.state()}")
            commits.append(archive.state().commit_ms_last)
        if entry.frame % max(64, life.carriers // 500) == 0:
            memory.append((clock.monotonic_s() / 3_600, (time.monotonic() - began_s) / 3_600, resident_mb()))
    archive.flush(WAIT_S)
    state = archive.state()
    archive.close(WAIT_S)
    if state.written != life.carriers or state.dropped or not state.ok:
        raise RuntimeError(f"carriers were lost: {state}")
    disk = path.stat().st_size
    foretold = predicted_bytes(life.carriers, minutes, jpeg_bytes / life.carriers, life.shape)
    return {
        "carriers": life.carriers,
        "simulated_days": round(clock.monotonic_s() / 86_400, 2),
        "write_s": round(time.monotonic() - began_s, 1),
        "commit_ms_p50": _quantile(commits, 0.5),
        "commit_ms_p99": _quantile(commits, 0.99),
        "commit_ms_max": round(max(commits), 2),
        "checkpoint_ms_max": round(state.checkpoint_ms_max, 1),
        **_slopes(memory),
        "disk_bytes": disk,
        "predicted_bytes": foretold,
        "disk_error": round(disk / foretold - 1, 4),
        "picture_bytes": round(jpeg_bytes / life.carriers),
    }


def quota(path: Path, life: Life) -> dict[str, Any]:
    """A quota of a third of what comes: looked at after every commit, in the books and on the disk."""
    limit = predicted_bytes(life.carriers // 3, life.carriers // 60, 3_000.0, life.shape)
    clock = FastClock()
    archive = Archive.open(
        path, Setup(life.shape, "soak", quota=Quota(limit), clock=clock, commit_every_s=5.0, batch=BATCH)
    )
    booked = on_disk = 0
    for entry in tqdm(life, total=life.carriers, desc="quota", unit="carrier", disable=None):
        clock.now_s = entry.span.first_s
        archive.put(entry)
        if entry.frame % BATCH == BATCH - 1:
            archive.flush(WAIT_S)
            booked, on_disk = max(booked, archive.state().bytes), max(on_disk, path.stat().st_size)
    archive.note_gap(Outage(CAMERA, clock.now_s, None, "ended"))
    archive.flush(WAIT_S)
    state = archive.state()
    archive.close(WAIT_S)
    return {
        "quota_bytes": limit,
        "quota_booked_max": booked,
        "quota_file_max": on_disk,
        "quota_exceeded": booked > limit,
        "quota_pruned": state.pruned,
        "quota_commit_ms_p99": round(state.commit_ms_p99, 2),
    }


def recall(path: Path, life: Life, queries: int) -> dict[str, Any]:
    """A question over everything: narrow, read keys, score, read the winners; and against scoring everything."""
    reader = Reader.open(path)
    rng = np.random.default_rng(5)
    times, cpu_times, narrow_times, found = [], [], [], []
    for number in tqdm(range(queries + 5), desc="recall", unit="question", disable=None):
        direction = life.direction(number % len(life.needles))
        wanted = direction + 0.5 * rng.standard_normal(direction.shape, np.float32)
        query = wanted.reshape(life.shape.heads)
        start_s, cpu_s = time.perf_counter(), time.process_time()
        rows = reader.narrow(CAMERA, None, None, query, NARROW)
        middle_s = time.perf_counter()
        ids, keys = reader.keys([row.id for row in rows])
        scores = keys.reshape(len(ids), -1) @ query.reshape(-1)
        best = [ids[index] for index in np.argsort(-scores)[:WINNERS]]
        reader.carriers(best)
        end_s = time.perf_counter()
        if number >= 5:  # the first open the file and fill caches
            times.append(1e3 * (end_s - start_s))
            cpu_times.append(1e3 * (time.process_time() - cpu_s))
            narrow_times.append(1e3 * (middle_s - start_s))
        if number < len(life.needles):
            found.append((wanted, set(best)))
    exact = exhaustive(reader, [wanted for wanted, _ in found])
    needles = [{frame + 1 for frame in frames} for frames in life.needles]
    reader.close()
    return {
        "recall_ms_p50": _quantile(times, 0.5),
        "recall_ms_p95": _quantile(times, 0.95),
        "recall_cpu_ms_p95": _quantile(cpu_times, 0.95),
        "load": round(os.getloadavg()[0], 1),
        "narrow_ms_p50": _quantile(narrow_times, 0.5),
        "needles": len(found),
        "needles_found": _share(best & needle for (_, best), needle in zip(found, needles, strict=True)),
        "needles_found_exhaustive": _share(best & needle for best, needle in zip(exact, needles, strict=True)),
        "top32_overlap": round(
            float(np.mean([len(best & true) / WINNERS for (_, best), true in zip(found, exact, strict=True)])), 3
        ),
    }


def exhaustive(reader: Reader, queries: list[np.ndarray]) -> list[set[int]]:
    """The best of all carriers for each query."""
    wanted = np.stack(queries)
    last = reader.newest(CAMERA)
    count = last.id if last is not None else 0
    best_scores = np.full((len(queries), WINNERS), -np.inf, np.float32)
    best_ids = np.zeros((len(queries), WINNERS), np.int64)
    for start in tqdm(range(1, count + 1, 2_048), desc="exhaustive", disable=None):
        ids, keys = reader.keys(range(start, min(start + 2_048, count + 1)))
        scores = np.concatenate([best_scores, wanted @ keys.reshape(len(ids), -1).T], axis=1)
        known = np.concatenate([best_ids, np.broadcast_to(np.asarray(ids), (len(queries), len(ids)))], axis=1)
        top = np.argpartition(-scores, WINNERS, axis=1)[:, :WINNERS]
        best_scores, best_ids = np.take_along_axis(scores, top, 1), np.take_along_axis(known, top, 1)
    return [set(row.tolist()) for row in best_ids]


def resident_mb() -> float:
    """Of this process, now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4_096 / 1e6


def _busy(wall_s: float) -> float:
    """How much more than on average happens at that time of the day; its mean is 1."""
    return 1 - 0.8 * float(np.cos(2 * np.pi * (wall_s % 86_400) / 86_400))


def _slopes(memory: list[tuple[float, float, float]]) -> dict[str, float]:
    """After a fifth to warm up."""
    table = np.asarray(memory[len(memory) // 5 :])
    slopes = [float(np.polyfit(table[:, column], table[:, 2], 1)[0]) for column in (0, 1)]
    return {
        "rss_mb": round(float(table[-1, 2]), 1),
        "rss_slope_mb_per_h": round(slopes[0], 5),  # of stream
        "rss_slope_mb_per_real_h": round(slopes[1], 2),
    }


def _quantile(values: list[float], share: float) -> float:
    return round(float(np.quantile(values, share)), 2)


def _share(hits: Iterator[set[int]]) -> float:
    return round(float(np.mean([bool(hit) for hit in hits])), 3)


def main() -> None:
    """Print the figures, then the JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--carriers", type=int, default=1_000_000)
    parser.add_argument("--quick", action="store_true", help="20,000 carriers")
    parser.add_argument("--folder", type=Path, help="on the disk to measure; default: the system's temporary folder")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        result = run(20_000 if options.quick else options.carriers, folder)
    finally:
        shutil.rmtree(folder)
    for name, value in result.items():
        print(f"{name:28} {value}")
    print(json.dumps({"bench": "soak", **result}))


if __name__ == "__main__":
    main()
