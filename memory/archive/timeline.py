"""What a timeline shows of the archive: bins, moments with a picture, the picture nearest to a moment. Reads only.

The work is bounded by the number of bins, not by how much lies in them: a year costs what an hour costs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from memory.archive.reader import Reader
from stream.types import Span

COUNTED = 1000  # carriers of one bin at most: a count of this means as many or more
TRIED = 16  # carriers on each side of a moment, or of a slot, that are looked at for a picture


@dataclass(frozen=True, slots=True)
class Bin:
    """[since_s, until_s) of a camera. `newest_s`: when the newest carrier that reaches into it was first seen."""

    since_s: float
    until_s: float
    carriers: int  # that begin in it, `COUNTED` at most
    newest_id: int | None = None
    newest_s: float | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """A stored picture and the time for which it stands."""

    span: Span
    jpeg: bytes


def bins(reader: Reader, camera: str, since_s: float, until_s: float, count: int) -> list[Bin]:
    """`count` bins of equal length; a bin without a carrier has `newest_id` None."""
    key, step_s = reader.camera_id(camera), (until_s - since_s) / count
    begun = (
        f"SELECT count(*) FROM (SELECT 1 FROM frames WHERE camera = ? AND first_s >= ? AND first_s < ? LIMIT {COUNTED})"
    )
    newest = (
        "SELECT id, first_s, last_s FROM frames WHERE camera = ? AND first_s < ? ORDER BY first_s DESC, id DESC LIMIT 1"
    )
    found = []
    for number in range(count):
        from_s, to_s = since_s + number * step_s, since_s + (number + 1) * step_s
        item = Bin(from_s, to_s, 0)
        for row_id, first_s, last_s in reader.select(newest, (key, to_s)):
            if last_s >= from_s:
                carriers = sum(row[0] for row in reader.select(begun, (key, from_s, to_s)))
                item = Bin(from_s, to_s, carriers, row_id, first_s)
        found.append(item)
    return found


def illustrated(reader: Reader, ids: Sequence[int]) -> set[int]:
    """Of these carriers, those that have a picture; a few hundred at most."""
    marks = ",".join("?" * len(ids))
    return {row[0] for row in reader.select(f"SELECT id FROM pictures WHERE id IN ({marks})", list(ids))}


def first_pictures(reader: Reader, camera: str, since_s: float, until_s: float, slot_s: float) -> list[float]:
    """When the first carrier with a picture was first seen, of each slot that has one, oldest first.

    Slots of `slot_s` begin at multiples of it, whatever the time that is asked for: a later look finds the same ones.
    """
    key, found = reader.camera_id(camera), list[float]()
    begun = f"""SELECT first_s FROM (SELECT id, first_s FROM frames
        WHERE camera = ? AND first_s >= ? AND first_s < ? ORDER BY first_s LIMIT {TRIED}) AS begun
        WHERE EXISTS (SELECT 1 FROM pictures WHERE pictures.id = begun.id) ORDER BY first_s LIMIT 1"""
    for number in range(math.floor(since_s / slot_s), math.ceil(until_s / slot_s)):
        rows = reader.select(begun, (key, number * slot_s, (number + 1) * slot_s))
        found += [first_s for (first_s,) in rows if since_s <= first_s <= until_s]
    return found


def nearest_picture(reader: Reader, camera: str, at_s: float) -> Picture | None:
    """The stored picture whose span lies nearest to `at_s`; None where none of the carriers around it has one."""
    key, columns = reader.camera_id(camera), "SELECT id, first_s, last_s, count FROM frames WHERE camera = ?"
    before = reader.select(f"{columns} AND first_s <= ? ORDER BY first_s DESC LIMIT {TRIED}", (key, at_s))
    after = reader.select(f"{columns} AND first_s > ? ORDER BY first_s LIMIT {TRIED}", (key, at_s))
    spans = {row_id: Span(first_s, last_s, frames) for row_id, first_s, last_s, frames in (*before, *after)}
    for row_id in sorted(spans, key=lambda row_id: (distance_s(spans[row_id], at_s), -spans[row_id].first_s)):
        if jpeg := reader.pictures([row_id]).get(row_id):
            return Picture(spans[row_id], jpeg)
    return None


def distance_s(span: Span, at_s: float) -> float:
    """How far `at_s` lies outside of `span`; 0 within."""
    return max(0.0, span.first_s - at_s, at_s - span.last_s)
