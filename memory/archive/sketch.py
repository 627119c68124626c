"""An hour in a few kilobytes: two carriers of each of its minutes, seen through 128 random directions.

    which      the carrier next to the minute's mean key, and the one farthest from it: the rule and the exception
    sketch     the product of its key [L * Hkv * Dh] with 128 random rows of +1 and -1, int8 with a scale
               (Johnson-Lindenstrauss; the rows as Achlioptas 2003)
    score      sketch . (rows . query) / 128, which is query . key, but for an error of about
               |query| |key| / sqrt(128)

Least and largest key of a whole hour say nearly nothing: in thousands of channels every hour reaches everywhere
(measured, see `docs/archive.md`). The sketches of a month are 12 MB, and scoring them takes milliseconds.
The rows come from a hash, not from a generator that another version of a library might change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from memory.archive.types import Floats

SIZE = 128
A_MINUTE = 2
ENTRY_BYTES = 1 + 4 + SIZE  # minute of the hour, scale, int8
FULL_BYTES = 60 * A_MINUTE * ENTRY_BYTES


def directions(channels: int) -> Floats:
    """[SIZE, channels] of +1 and -1; the same for ever."""
    bits = np.frombuffer(hashlib.shake_256(b"longwatch sketch 1").digest(SIZE * ((channels + 7) // 8)), np.uint8)
    signs = np.unpackbits(bits.reshape(SIZE, -1), axis=1)[:, :channels]
    found: Floats = signs.astype(np.float32) * 2 - 1
    return found


def choose(keys: Floats) -> Floats:
    """Of one minute's keys [n, channels] those that are sketched: at most A_MINUTE."""
    if len(keys) <= A_MINUTE:
        return keys
    away = np.square(keys - keys.mean(axis=0)).sum(axis=1)
    return keys[[int(np.argmin(away)), int(np.argmax(away))]]


def encode(minute: int, keys: Floats, rows: Floats) -> bytes:
    """What an hour's record holds of its `minute` (0 to 59): one entry for each of `keys` [n, channels]."""
    parts: list[bytes] = []
    for sketch in keys @ rows.T:
        scale = np.float32(np.abs(sketch).max() / np.float32(127))
        numbers = np.rint(sketch / (scale or np.float32(1))).astype(np.int8)
        parts.append(b"".join((bytes((minute,)), scale.tobytes(), numbers.data)))
    return b"".join(parts)


def replace(record: bytes, minute: int, entries: bytes) -> bytes:
    """An hour's record with other entries of one minute."""
    if len(record) % ENTRY_BYTES:
        record = b""  # damaged, or of another version
    parts = [record[at : at + ENTRY_BYTES] for at in range(0, len(record), ENTRY_BYTES)]
    return b"".join(part for part in parts if part[0] != minute) + entries


def score(hours: Sequence[int], records: Sequence[bytes], seen: Floats) -> tuple[NDArray[np.int64], Floats]:
    """(minutes since the epoch [n], estimates [n]) of all entries of these hours, for `rows @ query` [SIZE]."""
    counts = [len(record) // ENTRY_BYTES for record in records]
    raw = np.frombuffer(b"".join(records), np.uint8).reshape(sum(counts), ENTRY_BYTES)
    minutes = np.repeat(np.asarray(hours, np.int64) * 60, counts) + raw[:, 0]
    scales = np.ascontiguousarray(raw[:, 1:5]).view(np.float32)[:, 0]
    estimates = (raw[:, 5:].view(np.int8).astype(np.float32) @ seen) * scales / SIZE
    return minutes, np.asarray(estimates, np.float32)


def best(minutes: NDArray[np.int64], estimates: Floats, most: int) -> list[int]:
    """At most `most` different minutes, best estimate first."""
    few = min(A_MINUTE * most, len(estimates))
    top = np.argpartition(-estimates, few - 1)[:few] if few < len(estimates) else np.arange(len(estimates))
    order = top[np.argsort(-estimates[top], kind="stable")]
    return list(dict.fromkeys(minutes[order].tolist()))[:most]
