"""`python -m memory.archive.scrub FILE`: zero what lies unused inside a database's leaf pages.

`secure_delete` zeroes what is deleted, but when rows move between pages their old copies stay behind in the space
between a page's cell pointers and its cells. Nothing refers to that space, so readers may go on meanwhile; the writer
must be away, since it would write its cached pages back. Run as a process of its own: closing a file drops every lock
that this process holds on it, and with them the locks of SQLite.
"""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

_LEAVES = (10, 13)  # index and table leaf pages; free pages are all zero, overflow pages begin with a page number
_INTERIOR = (2, 5)
_HEAD = struct.Struct(">BHHHB")  # kind, first free block, cells, start of the cells, fragments


def scrub(path: Path) -> int:
    """Bytes that were zeroed. The log must be empty. Raises OSError."""
    file = os.open(path, os.O_RDWR)
    try:
        head = os.pread(file, 18, 0)
        if not head.startswith(b"SQLite format 3\0"):
            return 0
        page = int.from_bytes(head[16:18], "big")
        page = 65_536 if page == 1 else page
        zeroed = sum(_clean(file, at, page) for at in range(0, os.fstat(file).st_size, page))
        os.fsync(file)
        return zeroed
    finally:
        os.close(file)


def _clean(file: int, at: int, page: int) -> int:
    start = at + (100 if at == 0 else 0)
    head = os.pread(file, _HEAD.size, start)
    if len(head) < _HEAD.size:
        return 0
    fields: tuple[int, ...] = _HEAD.unpack(head)
    kind, _, cells, content, _ = fields
    if kind not in _LEAVES + _INTERIOR:
        return 0
    begin = start + (8 if kind in _LEAVES else 12) + 2 * cells
    length = at + (content or 65_536) - begin
    if length <= 0 or begin + length > at + page or not any(os.pread(file, length, begin)):
        return 0
    os.pwrite(file, bytes(length), begin)
    return length


if __name__ == "__main__":
    scrub(Path(sys.argv[1]))
