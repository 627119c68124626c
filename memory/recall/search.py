"""From a bank's view to what a question reads: archive rows are fetched, a method chooses, a new view is made.

    view   carriers of the bank in the asked range | recent detail
    found  carriers chosen, bank and archive in time order | recent detail of the frames that stay

Runs outside the engine's thread: it reads the disk. A view is immutable, so nobody waits for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import groupby
from typing import Protocol

import torch
from torch import Tensor

from memory.archive.types import Floats, Row
from memory.recall import Asked, Recall, Rows
from memory.recall.score import linear
from memory.view import MemoryView, Moment
from stream.kv import Past
from stream.positions import Positions
from stream.types import Span


class Shelf(Protocol):
    """What a search needs of an archive (`memory.archive.Reader`). Rows that cannot be read are left out."""

    def narrow(self, camera: str, since_s: float | None, until_s: float | None, query: Floats, limit: int) -> list[Row]:
        """At most `limit` rows that touch the range, the likeliest by `query` [L, Hkv, Dh], in time order."""
        ...

    def spread(self, camera: str, since_s: float | None, until_s: float | None, limit: int) -> list[Row]:
        """At most `limit` rows that touch the range, evenly in time, in time order."""
        ...

    def digests(self, ids: Sequence[int]) -> tuple[list[int], Floats]:
        """(ids that could be read, [n, D])."""
        ...

    def keys(self, ids: Sequence[int]) -> tuple[list[int], Floats]:
        """(ids that could be read, [n, L, Hkv, Dh] un-rotated)."""
        ...

    def carriers(self, ids: Sequence[int]) -> tuple[list[int], Floats, Floats]:
        """(ids that could be read, keys, values [n, L, Hkv, Dh])."""
        ...

    def pictures(self, ids: Sequence[int]) -> dict[int, bytes]:
        """JPEGs by id; without those that have none."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a search may take."""

    room: int  # carriers that a question reads at most
    scan: int = 512  # archive rows whose keys are looked at one by one; before them pools narrow


@dataclass(frozen=True, slots=True)
class Range:
    """The asked time; None is open."""

    since_s: float | None = None
    until_s: float | None = None


EVER = Range()


@dataclass(frozen=True, slots=True)
class How:
    """What stays the same from question to question, and the range of this one."""

    positions: Positions
    limits: Limits
    range: Range = EVER


def search(method: Recall, view: MemoryView, asked: Asked, shelf: Shelf | None, how: How) -> MemoryView:
    """What `method` chooses of `view` and `shelf`. Changes neither."""
    files = _files(method, view, asked, shelf, how)
    order = sorted(range(view.count + len(files.frames)), key=lambda place: _frame(view, files, place))
    rows = Rows(
        frames=[_frame(view, files, place) for place in order],
        spans=[_span(view, files, place) for place in order],
        held=[place < view.count for place in order],
        digests=torch.cat((view.digests.float().cpu(), files.digests))[order],
        keys=torch.cat((view.past.keys[:, :, : view.count].float().cpu(), files.keys), dim=2)[:, :, order],
    )
    chosen = [[order[index] for index in group] for group in method.groups(asked, rows, how.limits.room)]
    if chosen == [[place] for place in range(view.count)]:
        return view
    return _compose(view, files, chosen, shelf, how)


@dataclass(frozen=True, slots=True)
class _Files:
    """Archive rows that may be read, without values and pictures."""

    ids: list[int]
    frames: list[int]
    spans: list[Span]
    digests: Tensor  # [m, D]
    keys: Tensor  # [L, Hkv, m, Dh]


def _files(method: Recall, view: MemoryView, asked: Asked, shelf: Shelf | None, how: How) -> _Files:
    layers, heads, _, width = view.past.keys.shape
    none = _Files([], [], [], torch.zeros(0, view.digests.shape[1]), torch.zeros(layers, heads, 0, width))
    if shelf is None or not method.reaches:
        return none
    since_s, until_s, limit = how.range.since_s, how.range.until_s, how.limits.scan
    if asked.look is None:
        found = shelf.spread(view.camera, since_s, until_s, limit)
    else:
        found = shelf.narrow(view.camera, since_s, until_s, linear(asked.look, heads).numpy(), limit)
    held = {moment.frame for moment in view.moments}
    newest = view.newest_frame if view.newest_frame >= 0 else float("inf")  # what came after the question is not read
    rows = {row.id: row for row in found if row.frame not in held and row.frame <= newest}
    if not rows:  # also of an archive that is not there, which knows no shapes
        return none
    ids, keys = shelf.keys(list(rows))
    good, digests = shelf.digests(ids)
    if len(good) < len(ids):
        left = set(good)
        keys = keys[[row_id in left for row_id in ids]]
    return _Files(
        ids=good,
        frames=[rows[row_id].frame for row_id in good],
        spans=[rows[row_id].span for row_id in good],
        digests=torch.from_numpy(digests),
        keys=torch.from_numpy(keys).permute(1, 2, 0, 3),
    )


def _compose(
    view: MemoryView, files: _Files, chosen: Sequence[Sequence[int]], shelf: Shelf | None, how: How
) -> MemoryView:
    """A view of the groups `chosen`, each read as one: places below `view.count` are the bank's, the others the
    archive's; in time order."""
    found = _Found(view, files, shelf, [place for group in chosen for place in group])
    groups = [[place for place in group if found.there(place)] for group in chosen]  # some were erased meanwhile
    groups = [group for group in groups if group]
    moments = [found.moment(group) for group in groups]
    positions = how.positions.carriers([moment.span for moment in moments], view.now_s)
    like = view.past.keys
    if groups:
        keys = torch.stack([mean([found.keys(place) for place in group]) for group in groups], dim=2)
        values = torch.stack([mean([found.values(place) for place in group]) for group in groups], dim=2)
        digests = torch.stack([mean([found.digest(place) for place in group]) for group in groups])
    else:
        keys, values, digests = like[:, :, :0], view.past.values[:, :, :0], view.digests[:0]
    ranks = {place: rank for rank, group in enumerate(groups) for place in group}
    tokens = detail(view, ranks, how)
    return replace(
        view,
        past=Past.join([Past(keys, values, positions), *(part for part, _, _ in tokens)]),
        source=torch.tensor([*range(len(groups)), *(rank for part, rank, _ in tokens for _ in range(len(part)))]),
        places=torch.cat((torch.full((len(groups),), how.positions.visual), *(own for _, _, own in tokens))),
        moments=tuple(moments),
        digests=digests,
        count=len(groups),
        recalled=sum(any(place >= view.count for place in group) for group in groups),
    )


class _Found:
    """What is read of chosen places: the bank's carriers, and the archive's with values and pictures."""

    def __init__(self, view: MemoryView, files: _Files, shelf: Shelf | None, places: Sequence[int]) -> None:
        self._view, self._files, self._like = view, files, view.past.keys
        self._values: dict[int, Tensor] = {}
        self._pictures: dict[int, bytes] = {}
        ids = [files.ids[place - view.count] for place in places if place >= view.count]
        if shelf is not None and ids:
            good, _, found = shelf.carriers(ids)
            self._values = dict(zip(good, torch.from_numpy(found), strict=True))
            self._pictures = shelf.pictures(good)

    def there(self, place: int) -> bool:
        return place < self._view.count or self._files.ids[place - self._view.count] in self._values

    def keys(self, place: int) -> Tensor:
        if place < self._view.count:
            return self._like[:, :, place]
        return self._files.keys[:, :, place - self._view.count].to(self._like)

    def values(self, place: int) -> Tensor:
        if place < self._view.count:
            return self._view.past.values[:, :, place]
        return self._values[self._files.ids[place - self._view.count]].to(self._like)

    def digest(self, place: int) -> Tensor:
        if place < self._view.count:
            return self._view.digests[place]
        return self._files.digests[place - self._view.count].to(self._view.digests)

    def moment(self, group: Sequence[int]) -> Moment:
        """The newest of the group, over the time of all."""
        last = group[-1]
        if last < self._view.count:
            newest = self._view.moments[last]
        else:
            row = last - self._view.count
            picture = self._pictures.get(self._files.ids[row], b"")
            newest = Moment(self._files.frames[row], self._files.spans[row], picture)
        spans = [_span(self._view, self._files, place) for place in group]
        return replace(newest, span=reduce(Span.join, spans))


def mean(rows: Sequence[Tensor]) -> Tensor:
    """Of equal shapes; one alone stays bit for bit."""
    return rows[0] if len(rows) == 1 else torch.stack([row.float() for row in rows]).mean(0).to(rows[0].dtype)


def detail(view: MemoryView, ranks: Mapping[int, int], how: How) -> list[tuple[Past, int, Tensor]]:
    """The visual tokens of carriers that stay, moved to their new ranks; with rank and places."""
    found = []
    tokens = range(view.count, len(view.past))
    for place, run in groupby(tokens, key=lambda token: int(view.source[token])):
        if place not in ranks:
            continue
        own = list(run)
        part, span = slice(own[0], own[-1] + 1), view.moments[place].span
        moved = how.positions.frame(ranks[place], span, view.now_s) - how.positions.frame(place, span, view.now_s)
        where = view.past.positions[part] + moved[0]  # `time` tells a frame by when it came, not by its grown span
        past = Past(view.past.keys[:, :, part], view.past.values[:, :, part], where)
        found.append((past, ranks[place], view.places[part]))
    return found


def _frame(view: MemoryView, files: _Files, place: int) -> int:
    return view.moments[place].frame if place < view.count else files.frames[place - view.count]


def _span(view: MemoryView, files: _Files, place: int) -> Span:
    return view.moments[place].span if place < view.count else files.spans[place - view.count]
