"""Arrays <-> bytes: int8 with one float16 scale per head (or 64 channels of a digest), and a checksum of every record.

    int8     [ scales float16 [G] | int8 [G, W] ]      element = scale * int8; the error is at most scale / 2
    float16  [ float16 [G * W] ]        float32  [ float32 [G * W] ]

Scaling per head is what leaves keys usable: heads differ by orders of magnitude, channels of one head less so. Where
single channels do stick out they do so in every carrier (a projection's bias): `Setup.base` takes that out.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memory.archive.types import Dtype, Floats, Shape

DIGEST_GROUP = 64
_LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True, slots=True)
class Codec:
    """`groups` scales over `width` elements each."""

    dtype: Dtype
    groups: int
    width: int

    @property
    def record_bytes(self) -> int:
        """Of one encoded array."""
        each = {"int8": 1, "float16": 2, "float32": 4}[self.dtype]
        return self.groups * self.width * each + (2 * self.groups if self.dtype == "int8" else 0)

    def encode(self, array: Floats) -> bytes:
        """Any shape of groups * width finite elements."""
        flat = np.asarray(array, np.float32).reshape(self.groups, self.width)
        if self.dtype != "int8":
            limit = _LARGEST if self.dtype == "float16" else np.inf
            return bytes(np.clip(flat, -limit, limit).astype(self.dtype).data)
        scales = np.minimum(np.abs(flat).max(axis=1) / 127, _LARGEST).astype(np.float16)
        divisor = np.where(scales > 0, scales, 1).astype(np.float32)[:, None]
        numbers = np.clip(np.rint(flat / divisor), -127, 127) * (scales > 0)[:, None]
        return b"".join((scales.data, numbers.astype(np.int8).data))

    def decode(self, records: Sequence[bytes]) -> Floats:
        """[n, groups, width] of n records of the right length."""
        raw = np.frombuffer(b"".join(records), np.uint8).reshape(len(records), self.record_bytes)
        if self.dtype != "int8":
            plain: NDArray[Any] = raw.view(self.dtype)
            return plain.astype(np.float32).reshape(len(records), self.groups, self.width)
        scales = np.ascontiguousarray(raw[:, : 2 * self.groups]).view(np.float16).astype(np.float32)
        numbers = raw[:, 2 * self.groups :].view(np.int8).reshape(len(records), self.groups, self.width)
        found: Floats = numbers * scales[:, :, None]
        return found


def head_codec(shape: Shape, dtype: Dtype) -> Codec:
    """For keys and for values."""
    return Codec(dtype, shape.layers * shape.kv_heads, shape.head_width)


def digest_codec(shape: Shape, dtype: Dtype) -> Codec:
    """For digests: one scale per 64 channels, or one for all where that does not divide."""
    groups = shape.width // DIGEST_GROUP if shape.width % DIGEST_GROUP == 0 else 1
    return Codec(dtype, groups, shape.width // groups)


def checksum(row_id: int, record: bytes) -> int:
    """crc32 over id and content: a record that turns up under another id is as wrong as one with a flipped bit."""
    return zlib.crc32(record, zlib.crc32(row_id.to_bytes(8, "little")))
