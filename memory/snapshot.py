"""A bank on disk: versioned, checksummed, replaced in one step; and what is erased leaves it.

    line 1   longwatch bank <version> <bytes that follow> <blake2b of them>
    line 2   JSON: camera, identity of the model, shapes, spans, counts
    rest     keys, values, digests, state of the random generator, JPEGs; as they lie in memory, one after another

Not safetensors: it copies everything several times, and meanwhile every other Python thread waits.
A bank that is loaded goes on bit by bit as if it had never stopped, but for the recent detail: the visual tokens of
the last k frames are some 200 times a carrier's bytes and come back with the first k new frames.
One thread saves a path at a time. A save that was killed leaves the old file, and a `.partial` that the next removes.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt
from torch import Tensor

from stream.errors import SnapshotError
from stream.types import Span

VERSION = 1
_HEADER = re.compile(rb"longwatch bank (\d{1,9}) (\d{1,15}) ([0-9a-f]{64})\n")
_LONGEST_HEADER = 128  # bytes
_PARTIAL = ".partial"
_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in (torch.float32, torch.bfloat16, torch.float16)}
_Size = Annotated[int, Field(ge=1, le=0xFFFF)]  # one axis of a tensor


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """All that a bank must know to go on, in its own CPU memory: may be saved by any thread. Rows are in time order."""

    camera: str
    spans: tuple[Span, ...]
    frames: tuple[int, ...]
    jpegs: tuple[bytes, ...]
    keys: Tensor  # [L, Hkv, n, Dh] un-rotated
    values: Tensor  # [L, Hkv, n, Dh]
    digests: Tensor  # [n, D]
    absorbed: int
    evicted: int
    newest_frame: int  # highest number ever absorbed, held or not; -1 before the first
    rng: bytes  # of torch.Generator.get_state
    saved_s: float  # wall seconds

    def only(self, rows: Sequence[int]) -> State:
        """The state with these rows left, which are given in time order."""
        index = torch.tensor(rows, dtype=torch.long)
        return replace(
            self,
            spans=tuple(self.spans[row] for row in rows),
            frames=tuple(self.frames[row] for row in rows),
            jpegs=tuple(self.jpegs[row] for row in rows),
            keys=self.keys.index_select(2, index),
            values=self.values.index_select(2, index),
            digests=self.digests.index_select(0, index),
        )


class _Head(BaseModel):
    """Line 2 of a file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    camera: str
    identity: str
    dtype: str
    layers: _Size
    kv_heads: _Size
    head_width: _Size
    width: _Size
    spans: tuple[Span, ...]
    frames: tuple[int, ...]
    jpeg_bytes: tuple[NonNegativeInt, ...]  # length of each
    rng_bytes: NonNegativeInt
    absorbed: int
    evicted: int
    newest_frame: int
    saved_s: float


def remainder(span: Span, since_s: float | None, until_s: float | None) -> Span | None:
    """What is left of a carrier's span when [since_s, until_s] is erased; None: the carrier goes.

    A lone frame from before the range has only grown into it: its picture stays, its span ends where the range begins.
    """
    if not span.overlaps(since_s, until_s):
        return span
    if span.count == 1 and since_s is not None and span.first_s < since_s:
        return replace(span, last_s=since_s)
    return None


def save(state: State, path: Path, identity: str) -> None:
    """Replace `path` by this state, durably and in one step; `identity` names the model whose keys these are.

    Raises SnapshotError (`unwritable`), and then the old file is whole.
    """
    _write(path, _encode(state, identity), state.camera)


def load(path: Path, identity: str) -> State:
    """The state in `path`, proven whole and made by the model `identity`.

    Raises SnapshotError, whose `reason` says why. The file is never changed, whatever is wrong with it.
    """
    state, owner = _read(path)
    if owner != identity:
        text = f"{path} was saved by model {owner}, this one is {identity}; start with that model, or without this file"
        raise SnapshotError(text, "identity")
    return state


def scrub(path: Path, since_s: float | None, until_s: float | None) -> int:
    """Erase [since_s, until_s] from a file of any model, as MemoryBank.forget does; how many carriers went.

    Raises SnapshotError. The old file is unlinked, not overwritten: its blocks are the file system's to reuse.
    """
    state, identity = _read(path)
    left = [remainder(span, since_s, until_s) for span in state.spans]
    rows = [row for row, span in enumerate(left) if span is not None]
    spans = tuple(span for span in left if span is not None)
    if spans != state.spans:
        _write(path, _encode(replace(state.only(rows), spans=spans), identity), state.camera)
    else:
        _sweep(path)
    return len(left) - len(rows)


def set_aside(path: Path, wall_s: float) -> Path:
    """Rename a file that cannot be used to `<name>.set-aside-<UTC>`, never over another; returns the new path.

    Raises SnapshotError; then the file is where it was, and must not be saved over.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(wall_s))
    target, number = path.with_name(f"{path.name}.set-aside-{stamp}"), 1
    while target.exists():
        number += 1
        target = path.with_name(f"{path.name}.set-aside-{stamp}-{number}")
    try:
        path.rename(target)
        _sync_folder(path.parent)
    except OSError as fault:
        raise SnapshotError(f"cannot set {path} aside: {_why(fault)}", "unwritable") from fault
    return target


def _encode(state: State, identity: str) -> list[memoryview]:
    """The parts of a file, none of them copied."""
    layers, kv_heads, _, head_width = state.keys.shape
    head = _Head(
        camera=state.camera,
        identity=identity,
        dtype=str(state.keys.dtype).removeprefix("torch."),
        layers=layers,
        kv_heads=kv_heads,
        head_width=head_width,
        width=state.digests.shape[1],
        spans=state.spans,
        frames=state.frames,
        jpeg_bytes=tuple(len(jpeg) for jpeg in state.jpegs),
        rng_bytes=len(state.rng),
        absorbed=state.absorbed,
        evicted=state.evicted,
        newest_frame=state.newest_frame,
        saved_s=state.saved_s,
    )
    line = head.model_dump_json().encode() + b"\n"
    tensors = (state.keys, state.values, state.digests)
    parts = [memoryview(line), *(tensor.flatten().view(torch.uint8).numpy().data for tensor in tensors)]
    parts += [memoryview(data) for data in (state.rng, *state.jpegs)]
    length = sum(part.nbytes for part in parts)
    return [memoryview(b"longwatch bank %d %d %s\n" % (VERSION, length, _checksum(parts))), *parts]


def _read(path: Path) -> tuple[State, str]:
    """The state and the identity of its model. Raises SnapshotError."""
    try:
        with path.open("rb") as file:
            header = _HEADER.fullmatch(file.readline(_LONGEST_HEADER))
            if header is None:
                raise SnapshotError(f"{path} is no saved bank", "foreign")
            version, length = int(header[1]), int(header[2])
            if version != VERSION:
                text = f"{path} has version {version}, this longwatch reads {VERSION}; use the longwatch that wrote it"
                raise SnapshotError(text, "version")
            there = os.fstat(file.fileno()).st_size - file.tell()
            if there != length:
                raise SnapshotError(f"{path} holds {there} bytes of {length}: it was cut off or added to", "truncated")
            payload = file.read(length)
    except FileNotFoundError as fault:
        raise SnapshotError(f"{path} does not exist", "missing") from fault
    except OSError as fault:
        raise SnapshotError(f"cannot read {path}: {_why(fault)}", "unreadable") from fault
    if _checksum([memoryview(payload)]) != header[3]:
        raise SnapshotError(f"{path} is damaged: its checksum does not match", "damaged")
    try:
        return _decode(payload)
    except (ValueError, KeyError) as fault:
        raise SnapshotError(f"{path} is damaged: {fault}", "damaged") from fault


def _decode(payload: bytes) -> tuple[State, str]:
    """The state and the identity of its model. Raises ValueError or KeyError where parts do not fit together."""
    start = payload.find(b"\n") + 1
    head = _Head.model_validate_json(payload[:start])
    dtype, rows = _DTYPES[head.dtype], len(head.frames)
    keys = (head.layers, head.kv_heads, rows, head.head_width)
    digests = (rows, head.width)
    tensor_bytes = [math.prod(shape) * dtype.itemsize for shape in (keys, keys, digests)]
    ends = list(accumulate((*tensor_bytes, head.rng_bytes, *head.jpeg_bytes), initial=start))
    if ends[-1] != len(payload) or len(head.spans) != rows or len(head.jpeg_bytes) != rows:
        raise ValueError(f"{rows} frames, {len(head.spans)} spans, {ends[-1]} bytes announced, {len(payload)} there")
    if any(left >= right for left, right in pairwise((-1, *head.frames, head.newest_frame + 1))):
        raise ValueError(f"frame numbers are out of order, the newest is {head.newest_frame}")
    whole = memoryview(payload)
    parts = [whole[left:right] for left, right in pairwise(ends)]
    state = State(
        camera=head.camera,
        spans=head.spans,
        frames=head.frames,
        jpegs=tuple(bytes(part) for part in parts[4:]),
        keys=_tensor(parts[0], dtype).reshape(keys),
        values=_tensor(parts[1], dtype).reshape(keys),
        digests=_tensor(parts[2], dtype).reshape(digests),
        absorbed=head.absorbed,
        evicted=head.evicted,
        newest_frame=head.newest_frame,
        rng=bytes(parts[3]),
        saved_s=head.saved_s,
    )
    return state, head.identity


def _write(path: Path, parts: Sequence[memoryview], camera: str) -> None:
    """The only way into `path`: a new file beside it, made durable, then renamed over it."""
    partial = None
    try:
        descriptor, name = tempfile.mkstemp(_PARTIAL, f"{path.name}.", path.parent)  # readable by the owner only
        partial = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(descriptor)
        partial.replace(path)
        _sync_folder(path.parent)
    except OSError as fault:
        if partial is not None:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
        text = f"cannot save the bank of camera {camera} to {path}: {_why(fault)}; the file saved before is whole"
        raise SnapshotError(text, "unwritable") from fault
    _sweep(path)


def _sweep(path: Path) -> None:
    """Remove what killed saves left: it may hold what was erased since."""
    ours = re.compile(rf"{re.escape(path.name)}\.[^.]+{re.escape(_PARTIAL)}")
    with suppress(OSError):  # then it stays until the next save
        for item in path.parent.iterdir():
            if ours.fullmatch(item.name):
                item.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Without it a rename may be lost with the power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _checksum(parts: Sequence[memoryview]) -> bytes:
    digest = hashlib.blake2b(digest_size=32)
    for part in parts:
        digest.update(part)
    return digest.hexdigest().encode()


def _tensor(data: memoryview, dtype: torch.dtype) -> Tensor:
    """In its own memory, 1-D."""
    return torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)


def _why(fault: OSError) -> str:
    return fault.strerror or str(fault)
