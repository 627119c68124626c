"""What is in an archive, and whether it is whole: `longwatch archive stats` and `verify`. Reads only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from memory.archive import schema
from memory.archive.reader import Reader
from memory.archive.types import Dtype, Shape

Progress = Callable[[int, int], object]  # done, of how many
STEP = 256
NEEDED = ("keys", '"values"', "digests")


@dataclass(frozen=True, slots=True)
class CameraStats:
    """One camera. `bytes` as the disk takes them; times are None where there is no carrier."""

    name: str
    rows: int
    bytes: int
    first_s: float | None
    last_s: float | None


@dataclass(frozen=True, slots=True)
class Stats:
    """One file."""

    path: Path
    file_bytes: int
    log_bytes: int
    version: int
    identity: str
    dtype: Dtype
    shape: Shape
    cameras: tuple[CameraStats, ...]
    outages: int
    erasures_pending: int
    set_aside: tuple[str, ...]


@dataclass(slots=True)
class Verified:
    """What `verify` found. `lost`: carriers whose keys, values or digest are wrong or gone."""

    rows: int = 0
    lost: int = 0
    pictures: int = 0
    pictures_lost: int = 0
    problems: list[str] = field(default_factory=list)  # of pages, as SQLite says it

    @property
    def whole(self) -> bool:
        """Nothing is wrong."""
        return not (self.lost or self.pictures_lost or self.problems)


def stats(reader: Reader, path: Path) -> Stats:
    """Reads a few pages only."""
    cameras = []
    for name, rows, size in list(reader.select("SELECT name, rows, bytes FROM cameras ORDER BY name", ())):
        extent = reader.extent(name)
        cameras.append(CameraStats(name, rows, size, *(extent[:2] if extent else (None, None))))
    log = path.with_name(path.name + "-wal")
    return Stats(
        path=path,
        file_bytes=path.stat().st_size,
        log_bytes=log.stat().st_size if log.exists() else 0,
        version=_number(reader, "PRAGMA user_version"),
        identity=reader.identity,
        dtype=reader.dtype,
        shape=reader.shape,
        cameras=tuple(cameras),
        outages=_number(reader, "SELECT count(*) FROM outages"),
        erasures_pending=_number(reader, "SELECT count(*) FROM erasures WHERE done_s IS NULL"),
        set_aside=tuple(item.name for item in schema.aside_files(path)),
    )


def verify(reader: Reader, progress: Progress) -> Verified:
    """Every record against its checksum, then every page as SQLite sees it. Reads the whole file twice."""
    found, total = Verified(), max(1, _number(reader, "SELECT sum(rows) FROM cameras"))
    for ids in batches(reader, "", ()):
        found.rows += len(ids)
        there = [reader.records(table, ids) for table in NEEDED]
        found.lost += sum(not all(row_id in part for part in there) for row_id in ids)
        have = _ids_with_pictures(reader, ids)
        found.pictures += have
        found.pictures_lost += have - len(reader.records("pictures", ids))
        progress(min(found.rows, total), total)
    if found.rows < total and _number(reader, "SELECT sum(rows) FROM cameras"):
        found.lost += total - found.rows  # rows that cannot even be listed
    found.problems = [text for (text,) in reader.select("PRAGMA quick_check(10)", ()) if text != "ok"]
    if reader.last_fault:
        found.problems.append(reader.last_fault)
    return found


def batches(reader: Reader, where: str, values: tuple[float | int, ...]) -> Iterator[list[int]]:
    """Ids of all rows for which `where` holds, in order. Over a page that cannot be read it jumps."""
    newest = _number(reader, "SELECT max(id) FROM frames")
    next_id, jump = 0, 1
    clause = f"AND {where} " if where else ""
    while next_id <= newest:
        faults = reader.faults
        query = f"SELECT id FROM frames WHERE id >= ? {clause}ORDER BY id LIMIT ?"
        ids = [row_id for (row_id,) in reader.select(query, (next_id, *values, STEP))]
        if ids:
            yield ids
            next_id, jump = ids[-1] + 1, 1
        elif reader.faults > faults:
            next_id, jump = next_id + jump, 2 * jump
        else:
            return


def _ids_with_pictures(reader: Reader, ids: list[int]) -> int:
    query = "SELECT count(*) FROM pictures WHERE id BETWEEN ? AND ?"
    return next((count for (count,) in reader.select(query, (ids[0], ids[-1]))), 0)


def _number(reader: Reader, query: str) -> int:
    return int(next((value for (value,) in reader.select(query, ())), 0) or 0)
