"""The attention rule, cell by cell, on a sequence small enough to read."""

from __future__ import annotations

import torch

from stream.rule import Layout, allow, frames

# system | frame 0: two visual, carrier | frame 1: two visual, carrier | question after 1: two | another: one
NAMES = ["s", "a", "b", "A", "c", "d", "C", "p", "q", "x"]


def layout(gone_first: int | None = None) -> Layout:
    made = frames(2, visual=2, system=1, questions=[(1, 2), (1, 1)])
    if gone_first is not None:
        made.gone[3] = gone_first
    return made


def reads(mask: torch.Tensor) -> dict[str, str]:
    return {
        NAMES[row]: "".join(NAMES[column] for column in torch.nonzero(mask[row]).flatten()) for row in range(len(NAMES))
    }


def test_who_reads_whom() -> None:
    assert reads(allow(layout())) == {
        "s": "s",
        "a": "sa",
        "b": "sab",
        "A": "sabA",
        "c": "sAc",
        "d": "sAcd",
        "C": "sAcdC",
        "p": "sACp",
        "q": "sACpq",
        "x": "sACx",
    }


def test_recent_detail_is_for_questions_only() -> None:
    found = reads(allow(layout(), detail=1))
    assert found["C"] == "sAcdC"
    assert found["p"] == "sAcdCp"
    assert reads(allow(layout(), detail=2))["p"] == "sabAcdCp"


def test_an_evicted_carrier_was_still_read_by_the_frame_that_pushed_it_out() -> None:
    found = reads(allow(layout(gone_first=1)))
    assert found["C"] == "sAcdC"
    assert found["p"] == "sCp"


def test_a_question_in_mid_stream_sees_nothing_of_what_comes_after() -> None:
    made = frames(2, visual=2, system=1, questions=[(0, 2), (1, 1)])
    found = reads(allow(made, detail=1))
    assert found["p"] == "sabAp"
    assert found["x"] == "sAcdCx"


def test_a_batch_is_its_rows() -> None:
    one, two = layout(), layout(gone_first=1)
    stacked = Layout(*(torch.stack(pair) for pair in zip(vars_of(one), vars_of(two), strict=True)))
    both = allow(stacked, torch.tensor([[[0]], [[2]]]))
    assert torch.equal(both[0], allow(one, 0))
    assert torch.equal(both[1], allow(two, 2))


def vars_of(made: Layout) -> list[torch.Tensor]:
    return [made.kind, made.step, made.owner, made.gone]
