"""Carriers out of the archive into plain files that other programs read.

    index.jsonl           one line a carrier: row, camera, frame, first_s, last_s, count, score, picture, whole
    pictures/*.jpg        named by camera, time and id
    carriers.safetensors  float32 keys and values [n, L, Hkv, Dh], digests [n, D]; row i belongs to line i

The tensors are written piece by piece: an export of any size takes little memory.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from math import prod
from pathlib import Path
from typing import IO, Any

from memory.archive.inspect import Progress, batches
from memory.archive.reader import FAR_S, Reader
from memory.archive.types import ArchiveError, Floats

_META = (
    "SELECT frames.id, name, frame, first_s, last_s, count, score"
    " FROM frames JOIN cameras ON cameras.id = frames.camera"
)


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written. `broken` rows have a line, but zeros for arrays."""

    rows: int
    pictures: int
    broken: int


class _Tensors:
    """A safetensors file of known shapes, filled in any order."""

    def __init__(self, path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
        header: dict[str, Any] = {}
        at = 0
        for name, shape in shapes.items():
            size = 4 * prod(shape)
            header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, at + size]}
            at += size
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        self._begin = 8 + len(text)
        self._places = {name: (item["data_offsets"][0], 4 * prod(shapes[name][1:])) for name, item in header.items()}
        self._file: IO[bytes] = path.open("xb")
        self._file.write(len(text).to_bytes(8, "little") + text)
        self._file.truncate(self._begin + at)

    def put(self, name: str, row: int, array: Floats) -> None:
        """One row."""
        offset, width = self._places[name]
        self._file.seek(self._begin + offset + row * width)
        self._file.write(array.astype("<f4").tobytes())

    def close(self) -> None:
        """Every row is there."""
        self._file.close()


def export(
    reader: Reader,
    target: Path,
    camera: str | None,
    span_s: tuple[float | None, float | None],
    progress: Progress,
) -> Exported:
    """Everything of `camera` (None: all) that touches `span_s`, into the new or empty folder `target`.

    Raises ArchiveError when the folder is not empty or cannot be written.
    """
    since_s = -FAR_S if span_s[0] is None else span_s[0]
    until_s = FAR_S if span_s[1] is None else span_s[1]
    where = "first_s <= ? AND last_s >= ?"
    values: tuple[float, ...] = (until_s, since_s)
    if camera is not None:
        where, values = f"camera = ? AND {where}", (reader.camera_id(camera), *values)
    try:
        target.mkdir(parents=True, exist_ok=True)
        if any(target.iterdir()):
            raise ArchiveError(f"{target} is not empty; give a new folder", "not_empty")
        (target / "pictures").mkdir()
        rows = sum(len(ids) for ids in batches(reader, where, values))
        shapes = {
            "keys": (rows, *reader.shape.heads),
            "values": (rows, *reader.shape.heads),
            "digests": (rows, reader.shape.width),
        }
        tensors = _Tensors(target / "carriers.safetensors", shapes)
        done = pictures = broken = 0
        with (target / "index.jsonl").open("x", encoding="utf-8") as index:
            for ids in batches(reader, where, values):
                kept = ids[: rows - done]  # what came meanwhile is not part of it
                more = _write(reader, target, tensors, index, (done, kept))
                done, pictures, broken = done + len(kept), pictures + more[0], broken + more[1]
                progress(done, rows)
        tensors.close()
    except OSError as error:
        raise ArchiveError(f"{target}: {error.strerror or error}", "io") from error
    return Exported(done, pictures, broken)


def _write(
    reader: Reader, target: Path, tensors: _Tensors, index: IO[str], part: tuple[int, list[int]]
) -> tuple[int, int]:
    start, ids = part
    marks = ",".join("?" * len(ids))
    metas = {item[0]: item for item in reader.select(f"{_META} WHERE frames.id IN ({marks})", ids)}
    good, keys, values = reader.carriers(ids)
    with_digest, digests = reader.digests(ids)
    rows = {row_id: start + number for number, row_id in enumerate(ids)}
    for number, row_id in enumerate(good):
        tensors.put("keys", rows[row_id], keys[number])
        tensors.put("values", rows[row_id], values[number])
    for number, row_id in enumerate(with_digest):
        tensors.put("digests", rows[row_id], digests[number])
    whole, jpegs = set(good) & set(with_digest), reader.pictures(ids)
    for row_id in ids:
        _, camera, frame, first_s, last_s, count, score = metas.get(row_id, (row_id, "", -1, 0.0, 0.0, 0, 0.0))
        name = None
        if row_id in jpegs:
            stamp = datetime.fromtimestamp(first_s, UTC).strftime("%Y%m%dT%H%M%SZ")
            name = f"pictures/{camera}-{stamp}-{row_id}.jpg"
            (target / name).write_bytes(jpegs[row_id])
        line = {"row": rows[row_id], "camera": camera, "frame": frame, "first_s": first_s, "last_s": last_s}
        line |= {"count": count, "score": score, "picture": name, "whole": row_id in whole}
        index.write(json.dumps(line) + "\n")
    return len(jpegs), len(ids) - len(whole)
