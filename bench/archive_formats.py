"""SQLite in WAL mode against append-only segments, for records of about 12 KB: what a store of carriers would cost.

    python bench/archive_formats.py [--records 20000] [--batch 1] [--folder DIR]

Both get the same records (id, time, 12,288 bytes), committed in batches. `lazy` leaves the flush to the system (no
committed record is lost when the process is killed), `flush` waits for the disk at each commit (nor when power goes).
Measured: commit p50/p99, bytes on disk, random reads, and truly erasing 1 % of the time range in the middle.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sqlite3
import struct
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from tqdm import tqdm

RECORD_BYTES = 12_288
SEGMENT_BYTES = 64 << 20
HEADER = struct.Struct("<IIqd")  # length, crc32, id, wall seconds
CHECKPOINT_BYTES = 4 << 20


class Segments:
    """Files of 64 MiB that only grow; an index of offsets in memory, as a reader would have to build at start."""

    def __init__(self, folder: Path, *, flush: bool) -> None:
        self._folder, self._flush = folder, flush
        self._index: dict[int, tuple[Path, int]] = {}
        self._file, self._number = self._open(0), 0

    def _open(self, number: int) -> int:
        return os.open(self._folder / f"{number:06d}.seg", os.O_CREAT | os.O_RDWR | os.O_APPEND)

    def commit(self, records: list[tuple[int, float, bytes]]) -> None:
        """Append and, when asked, wait for the disk."""
        at = os.fstat(self._file).st_size
        if at > SEGMENT_BYTES:
            os.close(self._file)
            self._number, at = self._number + 1, 0
            self._file = self._open(self._number)
        parts = []
        for number, wall_s, data in records:
            parts.append(HEADER.pack(len(data), zlib.crc32(data), number, wall_s) + data)
            self._index[number] = (self._folder / f"{self._number:06d}.seg", at)
            at += len(parts[-1])
        os.write(self._file, b"".join(parts))
        if self._flush:
            os.fdatasync(self._file)

    def maintain(self) -> None:
        """Nothing to do between commits."""

    def read(self, number: int) -> bytes:
        """One record, checked."""
        path, at = self._index[number]
        with path.open("rb") as file:
            file.seek(at)
            length, crc, _, _ = HEADER.unpack(file.read(HEADER.size))
            data = file.read(length)
        assert zlib.crc32(data) == crc
        return data

    def erase(self, since_s: float, until_s: float) -> None:
        """A range can only go by rewriting every segment that it touches."""
        for path in sorted(self._folder.glob("*.seg")):
            kept, hit, content, at, end = [], False, path.read_bytes(), 0, 0
            while at < len(content):
                length, _, number, wall_s = HEADER.unpack_from(content, at)
                size = HEADER.size + length
                if since_s <= wall_s <= until_s:
                    hit = True
                    del self._index[number]
                else:
                    self._index[number] = (path, end)
                    kept.append(content[at : at + size])
                    end += size
                at += size
            if hit:
                fresh = path.with_suffix(".new")
                with fresh.open("wb") as file:
                    file.writelines(kept)
                    os.fsync(file.fileno())
                fresh.replace(path)

    def close(self) -> None:
        """The last segment."""
        os.close(self._file)


class Sqlite:
    """One file; rows in order of id, an index over time, checkpoints between commits."""

    def __init__(self, folder: Path, *, flush: bool, page: int = 16_384) -> None:
        self._wal = folder / "store.sqlite-wal"
        self._db = sqlite3.connect(folder / "store.sqlite", isolation_level=None)
        for pragma in (
            f"page_size={page}",
            "journal_mode=WAL",
            f"synchronous={'FULL' if flush else 'NORMAL'}",
            "wal_autocheckpoint=0",
            "secure_delete=ON",
        ):
            self._db.execute(f"PRAGMA {pragma}").fetchall()
        self._db.execute("CREATE TABLE records(id INTEGER PRIMARY KEY, wall_s REAL, crc INTEGER, data BLOB)")
        self._db.execute("CREATE INDEX records_time ON records(wall_s)")

    def commit(self, records: list[tuple[int, float, bytes]]) -> None:
        """One transaction."""
        rows = [(number, wall_s, zlib.crc32(data), data) for number, wall_s, data in records]
        self._db.execute("BEGIN")
        self._db.executemany("INSERT INTO records VALUES(?, ?, ?, ?)", rows)
        self._db.execute("COMMIT")

    def maintain(self) -> None:
        """Checkpoint when the log is long; not part of a commit."""
        if self._wal.stat().st_size > CHECKPOINT_BYTES:
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def read(self, number: int) -> bytes:
        """One record, checked."""
        crc, data = self._db.execute("SELECT crc, data FROM records WHERE id = ?", (number,)).fetchone()
        assert zlib.crc32(data) == crc
        return bytes(data)

    def erase(self, since_s: float, until_s: float) -> None:
        """Deleted pages are overwritten with zeros, and the log is emptied."""
        self._db.execute("DELETE FROM records WHERE wall_s BETWEEN ? AND ?", (since_s, until_s))
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Checkpoints too."""
        self._db.close()


def measure(make: Callable[[Path], Segments | Sqlite], records: int, batch: int, folder: Path) -> dict[str, float]:
    """All figures of one store."""
    rng = random.Random(1)
    blob = rng.randbytes(RECORD_BYTES * 64)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        store, commits, upkeep = make(Path(name)), [], []
        for start in range(0, records, batch):
            rows = [(i, float(i), blob[i % 64 * 97 :][:RECORD_BYTES]) for i in range(start, start + batch)]
            commits.append(_timed(lambda rows=rows: store.commit(rows)))  # type: ignore[misc]
            upkeep.append(_timed(store.maintain))
        disk = sum(path.stat().st_size for path in Path(name).iterdir())
        wanted = [rng.randrange(records) for _ in range(2_000)]
        reads = [_timed(lambda number=number: store.read(number)) for number in wanted]  # type: ignore[misc]
        erase = _timed(lambda: store.erase(records * 0.5, records * 0.51))
        store.close()
    return {
        "commit_ms_p50": _quantile(commits, 0.5),
        "commit_ms_p99": _quantile(commits, 0.99),
        "upkeep_ms_max": round(max(upkeep), 2),
        "disk_per_payload": round(disk / (records * RECORD_BYTES), 3),
        "read_us_p50": round(1e3 * _quantile(reads, 0.5), 1),
        "read_us_p99": round(1e3 * _quantile(reads, 0.99), 1),
        "erase_ms": round(erase, 1),
    }


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


def _quantile(values: list[float], share: float) -> float:
    return round(sorted(values)[min(len(values) - 1, int(share * len(values)))], 4)


def _stores() -> Iterator[tuple[str, Callable[[Path], Segments | Sqlite]]]:
    for flush in (False, True):
        word = "flush" if flush else "lazy"
        yield f"segments {word}", lambda folder, flush=flush: Segments(folder, flush=flush)  # type: ignore[misc]
        for page in (4_096, 16_384):
            yield (
                f"sqlite {page} {word}",
                lambda folder, flush=flush, page=page: Sqlite(folder, flush=flush, page=page),  # type: ignore[misc]
            )


def main() -> None:
    """Print the table, then the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to measure; default: the system's")
    options = parser.parse_args()
    stores = tqdm(list(_stores()), desc="stores", unit="store", disable=None)
    found = {name: measure(make, options.records, options.batch, options.folder) for name, make in stores}
    titles = list(next(iter(found.values())))
    print(f"{'':20}" + "".join(f"{title:>18}" for title in titles))
    for name, row in found.items():
        print(f"{name:20}" + "".join(f"{row[title]:>18}" for title in titles))
    print(json.dumps({"bench": "archive_formats", "records": options.records, "batch": options.batch, **found}))


if __name__ == "__main__":
    main()
