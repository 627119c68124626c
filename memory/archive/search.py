"""Coarse to fine: from days over hours to the minutes that may score highest for a query, and their carriers.

    days --best DAYS by bound--> hours --best HOURS--> minutes, by bound, until `limit` carriers are gathered
    + carriers of minutes that no pool knows yet      + carriers that only reach into the range

A bound says what a pool could score at most, not what it does score: with beams this wide the search is not exact
when a range is long (`docs/archive.md` has the measured share that it finds), and exact scores are the caller's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from memory.archive.pools import LEVELS_S, Bounds, bucket_of, decode
from memory.archive.types import Floats, Row
from stream.types import Span

if TYPE_CHECKING:
    from memory.archive.reader import Reader

BEAM = (40, 24)  # days, hours that are looked into: as many minutes' pools are read as fit into 20 ms
PIECE = 128  # pools
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
    buckets: list[int] | None = None
    for level in (2, 1, 0):
        ranked = _ranked(reader, wanted, level, buckets)
        if level:
            children = round(LEVELS_S[level] / LEVELS_S[level - 1])
            chosen = ranked[: BEAM[2 - level]]
            buckets = [bucket * children + child for bucket in sorted(chosen) for child in range(children)]
    for minute in ranked:
        if len(found) >= wanted.limit:
            break
        for row in _minute(reader, wanted, minute, wanted.limit - len(found)):
            found.setdefault(row.id, row)
    return sorted(found.values(), key=lambda row: (row.span.first_s, row.id))


def _ranked(reader: Reader, wanted: Wanted, level: int, among: list[int] | None) -> list[int]:
    """Buckets of `level` that touch the range, best bound first."""
    shape = reader.shape
    groups = shape.layers * shape.kv_heads
    first, last = (bucket_of(at_s, level) for at_s in (wanted.since_s, wanted.until_s))
    buckets, records = [], []
    size = groups * (4 + 2 * shape.head_width)
    for start, end in _runs(among, first, last):
        query = "SELECT bucket, data FROM pools WHERE camera = ? AND level = ? AND bucket BETWEEN ? AND ?"
        for bucket, data in reader.select(query, (wanted.key, level, start, end)):
            if len(data) == size:
                buckets.append(bucket)
                records.append(data)
    query_of_heads = wanted.query.reshape(groups, shape.head_width)
    scores = _scores(records, query_of_heads)
    return [buckets[index] for index in np.argsort(-scores, kind="stable")]


def _scores(records: list[bytes], query: Floats) -> Floats:
    """In pieces that stay in a processor's cache."""
    parts = []
    for start in range(0, len(records), PIECE):
        bounds: Bounds = decode(records[start : start + PIECE], *query.shape)
        parts.append(bounds.score(query))
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _runs(among: list[int] | None, first: int, last: int) -> list[tuple[int, int]]:
    """Stretches of consecutive buckets, cut to the range."""
    if among is None:
        return [(first, last)]
    runs: list[tuple[int, int]] = []
    for bucket in among:
        if not first <= bucket <= last:
            continue
        if runs and runs[-1][1] == bucket - 1:
            runs[-1] = (runs[-1][0], bucket)
        else:
            runs.append((bucket, bucket))
    return runs


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
        found += _minute(reader, wanted, minute, room - len(found))
    return found


def _minute(reader: Reader, wanted: Wanted, minute: int, most: int) -> list[Row]:
    query = f"{_ROW} WHERE camera = ? AND first_s >= ? AND first_s < ? AND first_s <= ? AND last_s >= ? LIMIT ?"
    values = (wanted.key, minute * 60.0, minute * 60.0 + 60.0, wanted.until_s, wanted.since_s, most)
    return [_row(wanted.camera, item) for item in reader.select(query, values)]


def _row(camera: str, item: tuple[Any, ...]) -> Row:
    row_id, frame, first_s, last_s, count, score = item
    return Row(row_id, camera, frame, Span(first_s, last_s, count), score or 0.0)
