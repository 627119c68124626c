"""The bounded memory of one camera: at most M carriers, preallocated, in time order, and the last k frames in detail.

    lane    keys and values [L, Hkv, M, Dh] in slots: written in place, never moved, read in place by the next frame
    order   [ slot of oldest, ..., slot of newest ]   time order is a list of slot numbers
    free    slots not in order; len(order) + len(free) == M, always

A question gets a `MemoryView`, which is a copy: asking changes nothing. One thread owns a bank.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from memory.detail import Detail, Item
from memory.parts import Parts
from memory.recover import Recovery
from memory.retain import Choice, Retain, Rows
from memory.snapshot import State, remainder
from memory.view import MemoryView, Moment
from stream.errors import SnapshotError
from stream.kv import Extent, Lane, Past, Work
from stream.model import Geometry
from stream.positions import Positions
from stream.types import Budget, Carrier, Frame, Span


@dataclass(slots=True)
class _Entry:
    """Bookkeeping of one occupied slot."""

    frame: int
    span: Span
    jpeg: bytes


@dataclass(frozen=True, slots=True)
class Policy:
    """How a bank behaves: built once from the settings."""

    budget: Budget
    retain: Retain
    positions: Positions
    seed: int = 0
    companions: int = 0  # at most, a carrier: see stream/carrier
    recover: bool = False  # tiny keys are kept of carriers that leave: see memory/recover.py
    before: int | None = None  # a frame reads only so many carriers, the newest; None: all


class MemoryBank:
    """See the module. All tensors, `held_bytes` of them, are made at the start; there is one JPEG a carrier beside."""

    def __init__(self, camera: str, geometry: Geometry, policy: Policy) -> None:
        self.camera, self.geometry, self.policy = camera, geometry, policy
        geo, size = geometry, policy.budget.carriers
        empty = torch.zeros(geo.layers, geo.kv_heads, 0, geo.head_width, dtype=geo.dtype, device=geo.device)
        self._lane = Lane(empty, Extent(policy.positions.system, size, geo.visual + 1 + policy.companions))
        self._keys, self._values = self._lane.raw, self._lane.values  # [L, Hkv, M, Dh]
        self._digests = empty.new_zeros(size, geo.width)  # [M, D]
        self._entries: list[_Entry | None] = [None] * size
        self._order: list[int] = []
        self._free = list(range(size - 1, -1, -1))
        self._detail = Detail(geometry, policy.budget.detail_frames)
        self._companions = Parts(geometry, size, policy.companions)  # by slot
        self._left = Recovery() if policy.recover else None
        self._rng = torch.Generator().manual_seed(policy.seed)
        self._newest_frame = -1
        self._sealed = False
        self.absorbed = 0
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._order)

    @property
    def spans(self) -> list[Span]:
        """Of the remembered carriers, in time order."""
        return [entry.span for entry in self._held()]

    @property
    def moments(self) -> list[Moment]:
        """Of the remembered carriers: frame number, span and picture, in time order."""
        return [Moment(entry.frame, entry.span, entry.jpeg) for entry in self._held()]

    @property
    def frames(self) -> list[int]:
        """Frame numbers of the remembered carriers, in time order."""
        return [entry.frame for entry in self._held()]

    @property
    def newest_frame(self) -> int:
        """Highest frame number ever absorbed, by this bank or the one it was restored from; -1 before the first.

        That frame is held, unless it was forgotten.
        """
        return self._newest_frame

    @property
    def newest_last_s(self) -> float | None:
        """End of the newest held span, wall seconds; None when nothing is held."""
        entry = self._entries[self._order[-1]] if self._order else None
        return None if entry is None else entry.span.last_s

    @property
    def held_bytes(self) -> int:
        """Tensor bytes: the same at every moment of the bank's life."""
        digests = self._digests.numel() * self._digests.element_size()
        return self._lane.nbytes + self._detail.nbytes + self._companions.nbytes + digests

    def work(self, frame: Frame) -> Work:
        """What absorbing `frame` takes: the lane with every carrier where it stands then. Nothing is copied."""
        now_s = frame.wall_s
        slots = torch.tensor(self._order, dtype=torch.long)
        self._lane.place(slots, self.policy.positions.carriers(self.spans, now_s))
        if self.policy.before is not None:
            self._lane.narrow(self._order[max(0, len(self._order) - self.policy.before) :])
        return Work(frame, self._lane, self.next_positions(now_s))

    def past(self, now_s: float) -> Past:
        """What the next frame may look back on, as a copy: all carriers."""
        slots = torch.tensor(self._order, dtype=torch.long, device=self._keys.device)
        positions = self.policy.positions.carriers(self.spans, now_s)
        return Past(self._keys[:, :, slots], self._values[:, :, slots], positions)

    def next_positions(self, now_s: float) -> Tensor:
        """Where the next frame's visual tokens and its carrier stand, float32 [N+1]."""
        return self.policy.positions.frame(len(self), Span(now_s, now_s), now_s)

    @torch.inference_mode()
    def add(self, carrier: Carrier) -> Choice | None:
        """Remember `carrier`, the newest; when full, one other leaves. Returns what left and how."""
        assert carrier.frame > self.newest_frame, "frames come in order"
        choice = None
        if not self._free:
            choice, carrier = self._make_room(carrier)
        slot = self._free.pop()
        self._write(slot, carrier)
        self._entries[slot] = _Entry(carrier.frame, carrier.span, carrier.jpeg)
        self._order.append(slot)
        self._detail.add(carrier)
        self._newest_frame, self._sealed = carrier.frame, False
        self.absorbed += 1
        return choice

    def extend(self, last_s: float) -> None:
        """The newest frame is still what the camera shows: its span grows to `last_s`, unless it was sealed."""
        if self._order and not self._sealed:
            newest = self._entries[self._order[-1]]
            assert newest is not None
            newest.span = replace(newest.span, last_s=max(newest.span.last_s, last_s))

    def seal(self) -> None:
        """The newest span is over: nobody saw what came after it, so it grows no more. Ends with the next frame."""
        self._sealed = True

    @torch.inference_mode()
    def fork(
        self,
        since_s: float | None = None,
        until_s: float | None = None,
        now_s: float = 0.0,
        newest: int | None = None,
    ) -> MemoryView:
        """What is held of the asked range: carriers, and the detail of recent frames. `newest`: so many frames alone.

        Positions are assigned anew among what is read. The view is a copy. See `memory/recall` for what a question
        reads of it, and what else.
        """
        held = self._held()
        whole = list(self._detail) if newest is None else list(self._detail)[-newest:]
        from_frame = -1 if newest is None or not held else (whole[0].frame if whole else held[-newest:][0].frame)
        chosen = [
            index
            for index, entry in enumerate(held)
            if entry.frame >= from_frame and entry.span.overlaps(since_s, until_s)
        ]
        read = [held[index] for index in chosen]
        spans, frames = [entry.span for entry in read], [entry.frame for entry in read]
        slots = torch.tensor([self._order[index] for index in chosen], dtype=torch.long, device=self._keys.device)
        scheme = self.policy.positions
        parts = [Past(self._keys[:, :, slots], self._values[:, :, slots], scheme.carriers(spans, now_s))]
        source, places = list(range(len(read))), [self.geometry.visual] * len(read)
        fresh = [item for item in whole if item.span.overlaps(since_s, until_s)]
        found = [(bisect_left(frames, item.frame), item.span, item.part) for item in fresh]
        in_full = {item.frame for item in fresh}  # their companions are among their visual tokens
        for rank, (entry, slot) in enumerate(zip(read, slots.tolist(), strict=True)):
            part = self._companions[slot] if entry.frame not in in_full else None
            found += [(rank, entry.span, part)] if part is not None else []
        for rank, span, part in sorted(found, key=lambda item: item[0]):
            if rank == len(frames):
                continue
            parts.append(Past(part.keys, part.values, scheme.frame(rank, span, now_s)[part.places]))
            source += [rank] * len(part)
            places += part.places.tolist()
        return MemoryView(
            camera=self.camera,
            past=Past.join(parts),
            source=torch.tensor(source, dtype=torch.long),
            places=torch.tensor(places, dtype=torch.long),
            moments=tuple(Moment(entry.frame, entry.span, entry.jpeg) for entry in read),
            digests=self._digests[slots],
            count=len(read),
            now_s=now_s,
            held_from_s=min((entry.span.first_s for entry in held), default=None),
            held_to_s=max((entry.span.last_s for entry in held), default=None),
            newest_frame=self._newest_frame,
            evicted=self.evicted,
            left=() if self._left is None else self._left.within(since_s, until_s),
        )

    @torch.inference_mode()
    def forget(self, since_s: float | None, until_s: float | None) -> int:
        """Erase [since_s, until_s], None is open: carriers, pictures, detail; how many carriers went.

        See `remainder` for which go. Freed slots hold zeros. Later carriers stay, which once read the erased ones.
        """
        frames, order, gone = self.frames, self._order, set[int]()
        for rank, entry in enumerate(self._held()):
            left = remainder(entry.span, since_s, until_s)
            if left is None:
                gone.add(rank)
            elif left != entry.span:
                entry.span = left
                self._sealed = self._sealed or rank == len(order) - 1
        self._sealed = self._sealed or len(order) - 1 in gone  # else a span before would grow over what was erased

        def stays(item: Item) -> bool:
            owner = bisect_left(frames, item.frame)  # the one that took the frame in, where it is not held itself
            return owner not in gone and remainder(item.span, since_s, until_s) is not None

        self._detail.keep(stays)
        freed = [order[rank] for rank in sorted(gone)]
        self._lane.free(freed)
        if self._left is not None:
            self._left.forget(since_s, until_s)
        self._companions.clear(freed)
        for slot in freed:
            self._entries[slot] = None
            self._digests[slot].zero_()
        self._order = [slot for rank, slot in enumerate(order) if rank not in gone]
        self._free += freed
        return len(freed)

    @torch.inference_mode()
    def state(self, now_s: float) -> State:
        """A copy of all that must survive a restart, for `memory.snapshot.save`. Recent detail is not in it."""
        held = self._held()
        slots = torch.tensor(self._order, dtype=torch.long, device=self._keys.device)
        return State(
            camera=self.camera,
            spans=tuple(entry.span for entry in held),
            frames=tuple(entry.frame for entry in held),
            jpegs=tuple(entry.jpeg for entry in held),
            keys=self._keys.index_select(2, slots).cpu(),
            values=self._values.index_select(2, slots).cpu(),
            digests=self._digests.index_select(0, slots).cpu(),
            absorbed=self.absorbed,
            evicted=self.evicted,
            newest_frame=self._newest_frame,
            rng=self._rng.get_state().numpy().tobytes(),
            saved_s=now_s,
        )

    @torch.inference_mode()
    def restore(self, state: State) -> None:
        """Go on from `state`; the bank must be new. Where it holds more than M, the newest M stay.

        The newest span is sealed: nobody watched since. Another precision is converted.
        Raises SnapshotError (`misfit`) for another camera or geometry; the bank is then still empty.
        """
        assert self._newest_frame < 0, "only a new bank is restored"
        self._check_fit(state)
        size = self.policy.budget.carriers
        held = len(state.frames)
        state = state.only(range(max(0, held - size), held))
        count = len(state.frames)
        self._keys[:, :, :count] = state.keys
        self._values[:, :, :count] = state.values
        self._digests[:count] = state.digests
        rows = zip(state.frames, state.spans, state.jpegs, strict=True)
        self._entries[:count] = [_Entry(frame, span, jpeg) for frame, span, jpeg in rows]
        self._order, self._free = list(range(count)), list(range(size - 1, count - 1, -1))
        for slot in self._order:
            self._lane.hold(slot)
        self.absorbed, self.evicted = state.absorbed, state.evicted + held - count
        self._newest_frame, self._sealed = state.newest_frame, True

    def check_integrity(self) -> None:
        """Prove that every slot is held once or free once, in time order, within the byte limit."""
        assert sorted(self._order + self._free) == list(range(self.policy.budget.carriers)), "a slot is lost or doubled"
        held = self._held()
        assert all(left.frame < right.frame for left, right in pairwise(held)), "out of time order"
        assert all(self._entries[slot] is None for slot in self._free), "a free slot is occupied"
        assert all(entry.frame <= self._newest_frame for entry in held), "held, but never absorbed"
        spare = torch.tensor(self._free, dtype=torch.long, device=self._digests.device)
        turned = self._lane.keys[:, :, self._lane.extent.system + spare]
        parts = (self._keys[:, :, spare], turned, self._values[:, :, spare], self._digests[spare])
        assert not any(self._companions[slot] for slot in self._free), "a free slot still has companions"
        assert not any(part.any() for part in parts), "a free slot still holds what was forgotten"
        assert self._lane.held() == sorted(self._order), "a frame would read other slots than those that are held"

    def _check_fit(self, state: State) -> None:
        """Raises SnapshotError unless this bank can go on from `state`; takes over its random generator."""
        if state.camera != self.camera:
            raise SnapshotError(f"a bank of camera {state.camera} cannot be that of {self.camera}", "misfit")
        geo = self.geometry
        layers, heads, _, head_width = state.keys.shape
        found = (layers, heads, head_width, state.digests.shape[1])
        fits = (geo.layers, geo.kv_heads, geo.head_width, geo.width)
        if found != fits:
            text = f"the saved bank of camera {self.camera} has (L, Hkv, Dh, D) = {found}, model {geo.name} has {fits}"
            raise SnapshotError(text, "misfit")
        try:
            self._rng.set_state(torch.frombuffer(bytearray(state.rng), dtype=torch.uint8))
        except (RuntimeError, ValueError) as fault:
            text = f"the saved bank of camera {self.camera} has a random state that this torch cannot read"
            raise SnapshotError(text, "misfit") from fault

    def _held(self) -> list[_Entry]:
        return [entry for slot in self._order if (entry := self._entries[slot]) is not None]

    def _write(self, slot: int, carrier: Carrier) -> None:
        self._keys[:, :, slot] = carrier.keys
        self._values[:, :, slot] = carrier.values
        self._digests[slot] = carrier.digest
        self._lane.hold(slot)
        if carrier.companions is not None and self.policy.companions:
            self._companions.put(slot, carrier.companions)

    def _make_room(self, newest: Carrier) -> tuple[Choice, Carrier]:
        """Free one slot by the policy's choice; returns it, and `newest` as it is to be stored."""
        slots = torch.tensor(self._order, dtype=torch.long, device=self._digests.device)
        digests = torch.cat((self._digests.index_select(0, slots), newest.digest[None]))
        spans, frames = [*self.spans, newest.span], [*self.frames, newest.frame]
        rows = Rows(digests, spans, frames, self.absorbed + 1)
        choice = self.policy.retain.choose(rows, self._rng)
        assert 0 <= choice.leaves < len(self._order), "retention never names the newest"
        slot = self._order[choice.leaves]
        if self._left is not None:
            self._left.note(frames[choice.leaves], spans[choice.leaves], digests[choice.leaves])
        if choice.into is not None:
            newest = self._take_in(choice, slot, newest)
        self._order.remove(slot)
        self._entries[slot] = None
        self._companions.clear([slot])
        self._free.append(slot)
        self.evicted += 1
        return choice, newest

    def _take_in(self, choice: Choice, slot: int, newest: Carrier) -> Carrier:
        """The survivor covers the time of the one in `slot`; with `merge` it becomes their weighted mean."""
        leaving = self._entries[slot]
        assert leaving is not None
        assert choice.into is not None
        own = len(self._order) == choice.into
        into = None if own else self._entries[self._order[choice.into]]
        span = newest.span if into is None else into.span
        joined = leaving.span.join(span)
        if choice.how == "merge":
            share = leaving.span.count / joined.count
            old = (self._keys[:, :, slot], self._values[:, :, slot], self._digests[slot])
            if into is None:
                new = (newest.keys, newest.values, newest.digest)
                mean = [before * share + after * (1 - share) for before, after in zip(old, new, strict=True)]
                newest = replace(newest, keys=mean[0], values=mean[1], digest=mean[2])
            else:
                target = self._order[choice.into]
                for tensor in (self._keys, self._values):
                    tensor[:, :, target] = tensor[:, :, slot] * share + tensor[:, :, target] * (1 - share)
                self._digests[target] = old[2] * share + self._digests[target] * (1 - share)
                self._lane.hold(target)
        if into is None:
            return replace(newest, span=joined)
        into.span = joined
        return newest
