"""Coarse to fine: from hours over minutes to the carriers that may score highest for a query.

    sketches of all hours of the range --best MINUTES--> pools of those minutes --> by sketch and by bound in turn,
        the carriers of minutes until `limit` are gathered
    + carriers of minutes that no pool knows yet, and those that only reach into the range

The search is not exact when a range is long: a sketch is an estimate, a bound says what could be and not what is.
`docs/archive.md` has the measured share that it finds. Exact scores are the caller's, over the keys of what comes back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from memory.archive import sketch
from memory.archive.pools import HOUR, MINUTE, bucket_of, decode
from memory.archive.types import Floats, Row
from stream.types import Span

if TYPE_CHECKING:
    from memory.archive.reader import Reader

MINUTES = 128  # whose pools are read
PIECE = 64  # records scored at a time: what stays in a processor's cache
_ROW = "SELECT id, frame, first_s, last_s, count, score FROM frames"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for. `query` [L, Hkv, Dh]."""

    camera: str
    key: int
    since_s: float
    until_s: float
    query: Floats
    limit: int


def narrow(reader: Reader, wanted: Wanted) -> list[Row]:
    """At most `wanted.limit` rows in time order."""
    found = {row.id: row for row in _direct(reader, wanted)}
    minutes = by_sketch(reader, wanted, MINUTES)
    for minute in _in_turn(minutes, by_bound(reader, wanted, minutes)):
        if len(found) >= wanted.limit:
            break
        for row in _of_minute(reader, wanted, minute, wanted.limit - len(found)):
            found.setdefault(row.id, row)
    return sorted(found.values(), key=lambda row: (row.span.first_s, row.id))


def by_sketch(reader: Reader, wanted: Wanted, most: int) -> list[int]:
    """Minutes of the range, best estimate first."""
    query = "SELECT bucket, data FROM pools WHERE camera = ? AND level = ? AND bucket BETWEEN ? AND ?"
    first, last = (bucket_of(at_s, HOUR) for at_s in (wanted.since_s, wanted.until_s))
    rows = reader.select(query, (wanted.key, HOUR, first, last))
    seen = reader.directions() @ wanted.query.reshape(-1)
    all_minutes, all_scores = [], []
    while part := list(islice(rows, PIECE)):
        whole = [(hour, data) for hour, data in part if len(data) % sketch.ENTRY_BYTES == 0]
        minutes, scores = sketch.score([hour for hour, _ in whole], [data for _, data in whole], seen)
        inside = (minutes >= bucket_of(wanted.since_s, MINUTE)) & (minutes <= bucket_of(wanted.until_s, MINUTE))
        all_minutes.append(minutes[inside])
        all_scores.append(scores[inside])
    if not all_minutes:
        return []
    return sketch.best(np.concatenate(all_minutes), np.concatenate(all_scores), most)


def _in_turn(one: list[int], other: list[int]) -> Iterator[int]:
    """Each minute once: what an estimate of single carriers puts first, and what a bound over all of them does."""
    yield from dict.fromkeys(chain.from_iterable(zip(one, other, strict=False)))


def by_bound(reader: Reader, wanted: Wanted, minutes: list[int]) -> list[int]:
    """`minutes` by the most that their carriers can score, best first."""
    shape = reader.shape
    groups = shape.layers * shape.kv_heads
    size = groups * (4 + 2 * shape.head_width)
    known: list[int] = []
    scores: list[float] = []
    for start in range(0, len(minutes), PIECE):
        part = sorted(minutes[start : start + PIECE])
        marks = ",".join("?" * len(part))
        query = f"SELECT bucket, data FROM pools WHERE camera = ? AND level = ? AND bucket IN ({marks})"
        found = [item for item in reader.select(query, (wanted.key, MINUTE, *part)) if len(item[1]) == size]
        bounds = decode([data for _, data in found], groups, shape.head_width) if found else None
        known += [bucket for bucket, _ in found]
        scores += bounds.score(wanted.query.reshape(groups, -1)).tolist() if bounds is not None else []
    return [known[index] for index in np.argsort(-np.asarray(scores), kind="stable")]


def _direct(reader: Reader, wanted: Wanted) -> list[Row]:
    """Rows that no pool speaks for: of stale minutes, newest first, and the long ones from before the range."""
    room = wanted.limit // 2
    query = (
        f"{_ROW} WHERE camera = ? AND last_s - first_s > 60 AND first_s < ? AND last_s >= ?"
        " ORDER BY first_s DESC LIMIT ?"
    )
    found = [_row(wanted.camera, item) for item in reader.select(query, (wanted.key, *(wanted.since_s,) * 2, room))]
    span = (wanted.since_s // 60, wanted.until_s // 60)
    stale = "SELECT minute FROM stale WHERE camera = ? AND minute BETWEEN ? AND ? ORDER BY minute DESC"
    for (minute,) in list(reader.select(stale, (wanted.key, *span))):
        if len(found) >= room:
            break
        found += _of_minute(reader, wanted, minute, room - len(found))
    return found


def _of_minute(reader: Reader, wanted: Wanted, minute: int, most: int) -> list[Row]:
    query = f"{_ROW} WHERE camera = ? AND first_s >= ? AND first_s < ? AND first_s <= ? AND last_s >= ? LIMIT ?"
    values = (wanted.key, minute * 60.0, minute * 60.0 + 60.0, wanted.until_s, wanted.since_s, most)
    return [_row(wanted.camera, item) for item in reader.select(query, values)]


def _row(camera: str, item: tuple[Any, ...]) -> Row:
    row_id, frame, first_s, last_s, count, score = item
    return Row(row_id, camera, frame, Span(first_s, last_s, count), score or 0.0)
