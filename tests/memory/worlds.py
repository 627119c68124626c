"""What the tests of recall share: a camera of which everything was seen, a small bank, an archive that kept it all."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from memory import recall, retain
from memory.archive import Archive, Entry, Reader
from memory.bank import MemoryBank, Policy
from memory.recall import Asked, Look, Method, Rows
from memory.recall.search import EVER, How, Limits, Range, search
from memory.view import MemoryView
from stream.policy import Paper
from stream.positions import TABLE as SCHEMES
from stream.types import Budget, Carrier, Part, Pointer, Span
from tests.memory import archives
from tests.memory.test_bank import SMALL

GEO = replace(SMALL, layers=2, kv_heads=2, head_width=4, width=6, visual=3, grid=(1, 3), max_positions=4096)
SHAPE = archives.Shape(GEO.layers, GEO.kv_heads, GEO.head_width, GEO.width)
SYSTEM, STEP_S = 5, 10.0
T0 = archives.T0
NOW_S = T0 + 500.0
POINTER = Pointer(layer=1, heads=(1, 2))


@dataclass(frozen=True)
class Picks(Method):
    """Reads the rows whose bit is set: any choice that a method could make."""

    bits: int = -1
    paper: ClassVar[Paper] = Paper("", "", "baseline")

    def select(self, asked: Asked, rows: Rows, room: int) -> Sequence[int]:
        return [index for index in range(len(rows)) if self.bits >> index & 1][:room]


@dataclass
class World:
    """A camera of which everything was seen, a bank that is too small for it, and an archive that is not."""

    seen: list[Carrier]  # as they were absorbed
    last_s: list[float]  # until when each was shown
    bank: MemoryBank
    reader: Reader

    def how(self, room: int = 1000, span: Range = EVER, scan: int = 1024) -> How:
        return How(self.bank.policy.positions, Limits(room, scan), span)

    def view(self, span: Range = EVER) -> MemoryView:
        return self.bank.fork(span.since_s, span.until_s, NOW_S)

    def search(self, method: recall.Recall, room: int = 1000, span: Range = EVER, scan: int = 1024) -> MemoryView:
        return search(method, self.view(span), asked(), self.reader, self.how(room, span, scan))

    def only(self, frames: Sequence[int], size: int | None = None) -> MemoryBank:
        """A bank that holds exactly these: what a search for them must look like."""
        fresh = self.bank.policy.budget.detail_frames
        detailed = {item.frame for item in self.seen[max(0, len(self.seen) - fresh) :]} if fresh else set[int]()
        other = new_bank(size or max(1, len(frames)), fresh, scheme_of(self.bank), self.bank.camera)
        for frame in frames:
            item = self.seen[frame]
            other.add(item if frame in detailed else without_detail(item))
            other.extend(self.last_s[frame])
        return other


def without_detail(carrier: Carrier) -> Carrier:
    """The same as the archive has it: no visual tokens."""
    keys, values = carrier.detail.keys[:, :, :0], carrier.detail.values[:, :, :0]
    return replace(carrier, detail=Part(keys, values, carrier.detail.places[:0]))


def scheme_of(bank: MemoryBank) -> str:
    return type(bank.policy.positions).__name__.lower()


def new_bank(
    carriers: int, detail: int, scheme: str, camera: str = "door", by: dict[str, Any] | None = None
) -> MemoryBank:
    positions = SCHEMES[scheme](SYSTEM, GEO.visual)
    return MemoryBank(camera, GEO, Policy(Budget(carriers, detail), retain.make(by or {"fifo": {}}), positions))


def made(frame: int, camera: str = "door", at_s: float | None = None) -> Carrier:
    """A carrier whose every number is found nowhere else."""
    generator = torch.Generator().manual_seed(frame)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    first_s = T0 + STEP_S * frame if at_s is None else at_s
    heads, detail = (GEO.layers, GEO.kv_heads, GEO.head_width), (GEO.layers, GEO.kv_heads, GEO.visual, GEO.head_width)
    tensors = (noise(GEO.width), noise(*heads), noise(*heads))
    own = Part(noise(*detail), noise(*detail), torch.arange(GEO.visual))
    return Carrier(camera, frame, Span(first_s, first_s), *tensors, own, jpeg=b"jpeg%d" % frame)


def entry(item: Carrier, last_s: float) -> Entry:
    arrays = (item.digest.numpy(), item.keys.numpy(), item.values.numpy())
    return Entry(item.camera, item.frame, replace(item.span, last_s=last_s), 0.5, *arrays)


def asked(pointer: Pointer | None = None, seed: int = 3) -> Asked:
    generator = torch.Generator().manual_seed(seed)
    newest, mean = torch.randn(2, GEO.layers, 4, GEO.head_width, generator=generator)
    words = torch.randn(GEO.width, generator=generator)
    return Asked("what passed first?", Look(newest, mean, words, 0.1, pointer))


NUMBERS = itertools.count()


def world(
    archive: Archive,
    count: int,
    grown: Sequence[float] = (),
    bank: tuple[int, int, str] = (4, 2, "compact"),
    by: dict[str, Any] | None = None,
) -> World:
    """`count` frames, one in `STEP_S`; the n-th is shown for `grown[n]` seconds. `bank`: M, k, scheme."""
    camera = f"cam{next(NUMBERS)}"
    seen = [made(frame, camera) for frame in range(count)]
    last_s = [item.span.first_s + (grown[item.frame] if item.frame < len(grown) else 0.0) for item in seen]
    own = new_bank(*bank, camera, by)
    for item, end_s in zip(seen, last_s, strict=True):
        own.add(item)
        own.extend(end_s)
    archives.fill(archive, [entry(item, end_s) for item, end_s in zip(seen, last_s, strict=True)])
    return World(seen, last_s, own, archive.reader())


def frames(view: MemoryView) -> list[int]:
    return [moment.frame for moment in view.moments]


def same(found: MemoryView, wanted: MemoryView) -> None:
    """All that an answer is made of, bit by bit; pictures apart, which this archive does not keep."""
    assert frames(found) == frames(wanted)
    assert [moment.span for moment in found.moments] == [moment.span for moment in wanted.moments]
    assert torch.equal(found.past.positions, wanted.past.positions)
    assert torch.equal(found.source, wanted.source)
    assert torch.equal(found.past.keys, wanted.past.keys)
    assert torch.equal(found.past.values, wanted.past.values)
    assert torch.equal(found.digests, wanted.digests)
    assert (found.count, found.now_s) == (wanted.count, wanted.now_s)
