"""How many bytes things take on disk: page size, footprint of a row, and the size of a whole archive foretold.

From SQLite's file format (sqlite.org/fileformat2.html): a leaf page of U bytes has an 8-byte head; a cell is a
2-byte pointer, two varints (length, id) and the payload; a payload above U - 35 goes to overflow pages of U - 4. Rows
come in order of id, so that leaf pages are filled to the last cell that fits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from memory.archive import sketch
from memory.archive.codec import digest_codec, head_codec
from memory.archive.types import Dtype, Shape

PAGE_SIZES = (8_192, 16_384, 32_768, 65_536)
META_ROW_BYTES = 150  # a row of `frames` and its entries in three indexes, half-full pages included
_WASTE = 0.12
_RECORD_HEAD = 9  # head of the record: serial types, checksum


@dataclass(frozen=True, slots=True)
class Layout:
    """Sizes of one archive's records."""

    page: int
    head_bytes: int  # keys, or values
    digest_bytes: int
    pool_bytes: int

    def footprint(self, picture_bytes: int) -> int:
        """Bytes of disk that one carrier takes, with its share of pages not quite full."""
        total = 2 * share(self.page, self.head_bytes) + share(self.page, self.digest_bytes) + META_ROW_BYTES
        return round(total + (mixed_share(self.page, picture_bytes) if picture_bytes else 0))

    @property
    def pool_footprint(self) -> int:
        """Bytes of disk that the pool of a minute takes, with its index entry."""
        return round(share(self.page, self.pool_bytes)) + 40

    @property
    def hour_footprint(self) -> int:
        """Bytes of disk that the sketches of a full hour take, with their index entry."""
        return round(share(self.page, sketch.FULL_BYTES)) + 40


def layout(shape: Shape, dtype: Dtype) -> Layout:
    """The smallest page size that wastes at most an eighth of what keys and values take."""
    head = head_codec(shape, dtype).record_bytes
    wasted = [(share(page, head) / head - 1, page) for page in PAGE_SIZES]
    page = next((page for waste, page in wasted if waste <= _WASTE), min(wasted)[1])
    pool = 2 * math.prod(shape.heads) + 4 * shape.layers * shape.kv_heads
    return Layout(page, head, digest_codec(shape, dtype).record_bytes, pool)


def share(page: int, payload: int) -> float:
    """Bytes of disk per row, of rows that are all `payload` bytes long."""
    payload += _RECORD_HEAD
    if payload > page - 35:
        least = (page - 12) * 32 // 255 - 23
        local = least + (payload - least) % (page - 4)
        local = local if local <= page - 35 else least
        overflow = math.ceil((payload - local) / (page - 4))
        return overflow * page + page / ((page - 8) // (local + 4 + 9))
    return page / ((page - 8) // (payload + 2 + 6))


def mixed_share(page: int, payload: int) -> float:
    """Bytes of disk per row, of rows about `payload` bytes long: on average half a cell at a page's end is empty."""
    cell = payload + _RECORD_HEAD + 8
    return share(page, payload) if cell > page // 2 else page * cell / (page - 8 - cell / 2)


def predicted_bytes(rows: int, minutes: int, picture_bytes: float, shape: Shape, dtype: Dtype = "int8") -> int:
    """Size of the archive of `rows` carriers of one camera, spread over `minutes` minutes, pictures of that mean size.

    Bytes of the main file; the log beside it adds at most a few megabytes while the writer runs.
    """
    sizes = layout(shape, dtype)
    pools = minutes * sizes.pool_footprint + minutes / 60 * sizes.hour_footprint
    return round(rows * sizes.footprint(round(picture_bytes)) + pools + 16 * sizes.page)
