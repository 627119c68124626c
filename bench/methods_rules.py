"""Standing questions by every method of `memory/rules`: the same yes-or-no questions, several at a time, on one memory.

A rule counts as right when its next token leans the right way, whatever else could be said. The bank is the daemon's.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from methods_math import cosine
from methods_play import Result
from methods_rows import FAULTS, Row
from streams import Stream

from daemon.core import Core
from memory import rules
from memory.rules import Reader
from memory.view import MemoryView
from stream.train.questions import KINDS, NO, YES, Question, ask

TOGETHER = 8  # rules at a time
MOMENTS = 10  # of a stream
TRIES = 6  # drafts of every kind at a moment


def play_rules(rows: Sequence[Row], core: Core, stream: Stream) -> Result:
    """`stream` past one bank, all `rows` asked at the same moments; cosines of chances are against the first row."""
    result, bank = Result(), core.bank("street")
    core.encoder.forget()
    last = len(stream.frames) - 1
    moments = set(np.linspace(last // 3, last, MOMENTS).round().astype(int).tolist())
    for step, frame in enumerate(stream.frames):
        result.frames += 1
        bank.add(core.encoder.absorb([bank.work(frame)])[0])
        items = list(drafts(stream, step))[:TOGETHER] if step in moments else []
        if items:
            result.kinds += ["now" if KINDS[item.kind] == "now" else "past" for item in items]
            _ask(rows, core, bank.fork(now_s=frame.wall_s), items, result)
    return result


def drafts(stream: Stream, step: int) -> Iterator[Question]:
    """Different questions about one moment that are answered with yes or no, kinds in turn."""
    known = set[str]()
    for attempt in range(TRIES):
        for number, kind in enumerate(KINDS):
            found = ask(stream.truth, kind, step, np.random.default_rng((*stream.key, 6, step, number, attempt)))
            if found is not None and found.answer in (YES, NO) and found.text not in known:
                known.add(found.text)
                yield found


def _ask(rows: Sequence[Row], core: Core, view: MemoryView, items: Sequence[Question], result: Result) -> None:
    """One moment's rules to every row."""
    model = core.model
    reader = Reader(model, core.policy.positions)
    ids = [model.question_ids(item.text) for item in items]
    yes, no = model.answer_ids(YES)[0], model.answer_ids(NO)[0]
    like: list[float] = []
    for row in rows:
        if row.key in result.failed:
            continue
        try:
            began_s = time.process_time()
            scores = rules.make({row.method: row.options}).scores(reader, view, ids)
            result.judged_ms[row.key].append(1000 * (time.process_time() - began_s))
        except FAULTS as error:
            result.fail(row.key, error)
            continue
        says = (scores[:, yes] > scores[:, no]).tolist()
        result.rights[row.key] += [said == (item.answer == YES) for said, item in zip(says, items, strict=True)]
        chances = torch.softmax(scores.float(), -1).flatten().tolist()
        like = like or chances
        result.cosines[row.key].append(cosine(chances, like))
        result.tokens[row.key].append(len(view.past) * row.options.get("share", 1.0))
