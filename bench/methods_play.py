"""One stream past many rows of the method bench at once: every picture is drawn once, every question put to all.

Rows with the same bank share it, rows with the same encoder run in one forward. A row that fails is named with its
fault, and the others go on.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from methods_math import cosine
from methods_rows import FAULTS, Row
from probes import meant
from streams import Asked
from systems import answer

from daemon.core import Core
from daemon.filing import filed, setup
from daemon.recaller import Recaller
from daemon.session import Session
from daemon.settings import ArchiveSettings
from memory.archive import Archive
from memory.bank import MemoryBank
from memory.recall import Asked as Query
from memory.recall.search import EVER
from memory.view import MemoryView
from stream import gate
from stream.model import Model
from stream.tower import Tower
from stream.train.questions import right
from stream.types import Carrier, Frame, VisualTokens

FIXED = ("what is visible now?", "what passed first?")  # asked of all rows at the end of every stream, for the cosine
FLUSH_S = 30.0
SEEN_ONCE = 2048  # pictures whose visual tokens are kept


class Known:
    """A model that sees a picture once, where no tower method changes it. All else is its own.

    `taps`: blocks whose attention is kept of every picture; others are computed when they are asked for.
    """

    def __init__(self, model: Model, taps: Sequence[int] = ()) -> None:
        self._model, self._taps = model, tuple(taps)
        self._known: dict[tuple[bytes, tuple[int, ...]], VisualTokens] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def encode(self, images: np.ndarray, tower: Tower | None = None, taps: Sequence[int] = ()) -> list[VisualTokens]:
        """See `stream.model.Model.encode`."""
        if tower is not None:
            return self._model.encode(images, tower, taps)
        blocks = self._taps if set(taps) <= set(self._taps) else tuple(taps)
        keys = [(hashlib.blake2b(image.tobytes(), digest_size=16).digest(), blocks) for image in images]
        for key, image in zip(keys, images, strict=True):
            if key not in self._known:
                if len(self._known) >= SEEN_ONCE:
                    self._known.clear()
                self._known[key] = self._model.encode(image[None], None, blocks)[0]
        return [_afresh(self._known[key], taps) for key in keys]


def _afresh(tokens: VisualTokens, taps: Sequence[int]) -> VisualTokens:
    """The same tokens with these taps; what a tap keeps once it was read belongs to one reader."""
    return replace(tokens, taps={block: copy(tokens.taps[block]) for block in taps}) if tokens.taps else tokens


@dataclass(slots=True)
class Result:
    """What one stream gave, by row key."""

    kinds: list[str] = field(default_factory=list)  # of every question: now, past, rest
    rights: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    cosines: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    tokens: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  # see `Group.tokens`
    read: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  # bytes that a question reads
    judged_ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  # a frame, of gates
    frames: int = 0
    failed: dict[str, str] = field(default_factory=dict)

    def fail(self, key: str, error: Exception) -> None:
        """This row is out, and says why."""
        self.failed.setdefault(key, f"{type(error).__name__}: {error}"[:300])


@dataclass(slots=True)
class Group:
    """One bank, and the rows that read it."""

    core: Core
    bank: MemoryBank
    members: list[tuple[Row, Recaller]]
    archive: Archive | None = None
    gate: gate.Chain | None = None
    waiting: bool = False  # something is not yet on the disk

    def file(self, carrier: Carrier) -> None:
        """Remember what was absorbed; file it where there is an archive."""
        self.bank.add(carrier)
        if self.archive is not None:
            self.archive.put(filed(carrier, 1.0))
            self.waiting = True

    def views(self, text: str, now_s: float, result: Result) -> dict[str, MemoryView]:
        """What a question reads in every row; a row that fails is out."""
        view = self.bank.fork(now_s=now_s)
        if self.waiting and self.archive is not None:
            assert self.archive.flush(FLUSH_S), self.archive.state()
            self.waiting = False
        asked = Query(text)
        if any(recaller.looks for _, recaller in self.members):
            model = self.core.model
            session = Session(model, self.core.policy.positions, [view], model.question_ids(text), 1)
            session.step()
            asked = Query(text, session.look(0))
        found: dict[str, MemoryView] = {}
        for row, recaller in list(self.members):
            try:
                wanted = recaller.wants(asked, EVER)
                found[row.key] = recaller.submit([view], [asked], EVER).result()[0] if wanted else view
            except FAULTS as error:
                result.fail(row.key, error)
                self.members.remove((row, recaller))
                recaller.close()
        return found

    def close(self) -> None:
        """End the threads."""
        for _, recaller in self.members:
            recaller.close()
        if self.archive is not None:
            self.archive.close()


def grouped(rows: Sequence[Row], cores: Mapping[str, Core], folder: Path) -> list[Group]:
    """Banks for `rows`; those of `recall` with an archive beside them."""
    found: dict[str, Group] = {}
    for row in rows:
        core, same = cores[row.key], _same(row)
        if same not in found:
            bank = core.bank("street")
            path = folder / f"{len(found)}.sqlite"
            archive = Archive.open(path, setup(core.model, ArchiveSettings())) if row.stage == "recall" else None
            chain = gate.make([{row.method: row.options}]) if row.stage == "gate" else None
            found[same] = Group(core, bank, [], archive, chain)
        group = found[same]
        reader = None if group.archive is None else group.archive.reader()
        group.members.append((row, core.recaller(reader)))
    return list(found.values())


def _same(row: Row) -> str:
    """What rows of one bank have in common."""
    raw = row.settings()
    own = {name: value for name, value in raw["memory"].items() if name not in READS}
    shared = {"model": raw["model"], "memory": own, "gate": [row.method, row.options] if row.stage == "gate" else None}
    return json.dumps(shared, sort_keys=True, default=str)


READS = (
    "recall",
    "recalled",
    "focus",
    "focus_tokens",
)  # settings of what a question reads: the bank does not know them


def play(
    rows: Sequence[Row], cores: Mapping[str, Core], frames: Sequence[Frame], asked: Mapping[int, Sequence[Asked]]
) -> Result:
    """`frames` past all `rows`, `asked` put after these, and the cosines at the end against the first row's."""
    result = Result()
    with TemporaryDirectory(prefix="methods-") as folder:
        groups = grouped(rows, cores, Path(folder))
        for group in groups:
            group.core.encoder.forget()
        try:
            _play(groups, frames, asked, result)
            _compare(groups, rows[0].key, frames[result.frames - 1].wall_s, result)
        finally:
            for group in groups:
                group.close()
    return result


def _play(groups: list[Group], frames: Sequence[Frame], asked: Mapping[int, Sequence[Asked]], result: Result) -> None:
    for step, frame in enumerate(frames[: max(asked, default=len(frames) - 1) + 1]):
        result.frames += 1
        absorb(groups, frame, result)
        for item in asked.get(step, ()):
            views = _views(groups, item.question.text, frame.wall_s, result)
            said = answer(groups[0].core, item.question.text, views)
            result.kinds.append(kind(item))
            for key, heard in said.items():
                result.rights[key].append(right(item.question, meant(item, heard.text), heard.span_s))


def kind(asked: Asked) -> str:
    """The column of a question."""
    from doless import kind as column  # imported here: its module loads much that only a full run needs

    return column(asked)


def absorb(groups: list[Group], frame: Frame, result: Result) -> None:
    """One frame into all banks whose gate keeps it; those that fail leave `groups`."""
    wanting: dict[int, list[tuple[Group, Frame]]] = defaultdict(list)
    for group in groups:
        own = frame
        if group.gate is not None:
            began_s = time.process_time()
            verdict = group.gate.judge(frame)
            for row, _ in group.members:
                result.judged_ms[row.key].append(1000 * (time.process_time() - began_s))
                result.tokens[row.key].append(float(verdict.keep))
            if not verdict.keep:
                group.bank.extend(frame.wall_s)
                continue
            own = replace(frame, score=verdict.score)
        wanting[id(group.core.encoder)].append((group, own))
    for batch in wanting.values():
        try:
            made = batch[0][0].core.encoder.absorb([group.bank.work(own) for group, own in batch])
        except FAULTS as error:
            for group, _ in batch:
                drop(groups, group, error, result)
            continue
        for (group, _), carrier in zip(batch, made, strict=True):
            guarded(groups, group, lambda group=group, carrier=carrier: _keep(group, carrier, result), result)


def _keep(group: Group, carrier: Carrier, result: Result) -> None:
    group.file(carrier)
    for row, _ in group.members:
        if row.stage in ("tower", "reduce", "prefill"):
            result.tokens[row.key].append(len(carrier.detail))
        elif row.stage == "carrier":
            result.tokens[row.key].append(1 + (0 if carrier.companions is None else len(carrier.companions)))


def guarded(groups: list[Group], group: Group, work: Callable[[], Any], result: Result) -> Any:
    """`work()`; None where it failed, and the group is gone."""
    try:
        return work()
    except FAULTS as error:
        drop(groups, group, error, result)
        return None


def drop(groups: list[Group], group: Group, error: Exception, result: Result) -> None:
    """The rows of a group are out."""
    for row, _ in group.members:
        result.fail(row.key, error)
    if group in groups:
        groups.remove(group)
    group.close()


def _views(groups: list[Group], text: str, now_s: float, result: Result) -> dict[str, MemoryView]:
    """What a question reads, by row; noted as tokens and bytes."""
    views: dict[str, MemoryView] = {}
    for group in list(groups):
        own = guarded(groups, group, lambda group=group: group.views(text, now_s, result), result)
        views |= own or {}
    for key, view in views.items():
        stage, keys = key.partition("/")[0], view.past.keys
        if stage in ("retain", "recall"):
            result.tokens[key].append(view.count)
        elif stage == "focus":
            result.tokens[key].append(len(view.past) - view.count)
        result.read[key].append(2 * keys.numel() * keys.element_size())
    return views


@torch.inference_mode()
def _compare(groups: list[Group], whole: str, now_s: float, result: Result) -> None:
    """The last hidden state of fixed questions, against that of row `whole`."""
    for text in FIXED:
        views = _views(groups, text, now_s, result)
        if whole not in views:
            return
        core = groups[0].core
        session = Session(core.model, core.policy.positions, list(views.values()), core.model.question_ids(text), 2)
        hidden = core.model.forward_all([session.ask()])[0][:, -1].float()
        like = hidden[list(views).index(whole)].tolist()
        for key, own in zip(views, hidden.tolist(), strict=True):
            result.cosines[key].append(cosine(own, like))
