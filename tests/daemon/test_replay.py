"""A replay is the same every time, and a question in it sees nothing of what comes after it."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import numpy as np
import pytest

from daemon.core import Core
from daemon.messages import Answer, Timing
from daemon.payloads import encode_answer
from daemon.replay import Ask, Replay, replay
from daemon.settings import Settings, parse
from daemon.topics import Topics
from memory import retain
from memory.bank import Policy
from memory.recall.all import All
from stream.errors import CameraError, QueryError
from stream.positions import TABLE
from stream.types import Budget
from tests.fakes import make_video
from tests.models import make_encoder, random_model

START_S = 1_795_000_000.0
FRAME_S = 0.1


@pytest.fixture(scope="module")
def core() -> Core:
    model = random_model()
    positions = TABLE["compact"](len(model.system()), model.geometry.visual)
    policy = Policy(Budget(4, 2), retain.make({"adjacent": {}}), positions)
    return Core(make_encoder(model), policy, All(), 0)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds in which a block moves all the time."""
    return make_video(tmp_path_factory.mktemp("replay") / "moving.mp4", frames=60)


def settings(**more: object) -> Settings:
    answer = {"max_tokens": 8, "evidence": 4}
    return parse(
        {"cameras": {"replay": {"url": "file"}}, "answer": answer, "gate": [{"stride": {"fps": 5}}], **more}, "t"
    )


def play(core: Core, path: Path, *asks: Ask, **more: object) -> list[Answer]:
    job = Replay(path, asks, START_S)
    return [dataclasses.replace(found, timing=Timing(0, None, 0)) for found in replay(core, settings(**more), job)]


ASKS = (Ask(1.0, "what is visible now?"), Ask(2.5, "what passed first?"), Ask(4.0, "nothing"))


def test_the_same_file_gives_the_same_answers(core: Core, clip: Path) -> None:
    first, again = play(core, clip, *ASKS), play(core, clip, *ASKS)
    assert first == again
    assert len(first) == 3
    assert len({found.evidence for found in first}) == 3, "different moments rest on different evidence"


def test_a_question_sees_frames_up_to_its_second_only(core: Core, clip: Path, tmp_path: Path) -> None:
    """The film up to the question, and nothing else, gives the same answer: text, evidence, confidence, memory."""
    (whole,) = play(core, clip, Ask(2.05, "what is visible now?"))
    begin = make_video(tmp_path / "begin.mp4", frames=21)  # its last picture stands at 2.0 s
    (cut,) = play(core, begin, Ask(2.05, "what is visible now?"))
    assert whole == cut
    (later,) = play(core, clip, Ask(2.3, "what is visible now?"))
    assert later.evidence != whole.evidence


def test_other_questions_before_change_nothing(core: Core, clip: Path) -> None:
    alone = play(core, clip, ASKS[2])[0]
    after = play(core, clip, *ASKS)[2]
    assert dataclasses.replace(alone, id="q3") == after


@pytest.mark.parametrize(
    "gate", [[{"stride": {"fps": 5}}], [{"stride": {"fps": 5}}, {"still": {}}], [{"stride": {"fps": 0.5}}]]
)
def test_nothing_named_lies_after_the_question(core: Core, clip: Path, gate: list[object]) -> None:
    asks = [Ask(round(0.15 + 0.35 * step, 2), "what passed?") for step in range(20)]
    for ask, found in zip(asks, play(core, clip, *asks, gate=gate), strict=True):
        at_s = START_S + ask.at_s
        assert found.asked_s == found.answered_s == at_s
        assert found.status == "ok"
        assert found.memory_to_s is not None
        assert found.memory_to_s <= at_s
        assert all(START_S <= item.span.first_s <= item.span.last_s <= at_s for item in found.evidence)
        assert found.newest_age_s is not None
        assert found.newest_age_s == pytest.approx(max(0.0, ask.at_s - 5.9), abs=FRAME_S + 1e-3)


def test_while_nothing_moves_the_memory_still_reaches_up_to_now(core: Core, tmp_path: Path) -> None:
    """The gate keeps one frame of a still scene; it stands for the whole time, not for its first moment."""
    still = make_video(tmp_path / "still.mp4", frames=60, draw=lambda _, size: np.full((*size, 3), 90, np.uint8))
    (found,) = play(core, still, Ask(5.05, "what is visible now?"), gate=[{"stride": {"fps": 5}}, {"still": {}}])
    assert found.memory_from_s == START_S
    assert found.memory_to_s == pytest.approx(START_S + 5.0, abs=0.11)
    assert found.newest_age_s is not None
    assert found.newest_age_s < 0.2


def test_questions_after_the_end_are_answered_from_the_whole_file(core: Core, clip: Path) -> None:
    (found,) = play(core, clip, Ask(60.0, "what passed?"))
    assert found.status == "ok"
    assert found.memory_to_s == pytest.approx(START_S + 5.9, abs=0.21)
    assert found.newest_age_s == pytest.approx(54.1, abs=0.11)


def test_the_very_first_frame_can_be_asked_about(core: Core, clip: Path) -> None:
    (found,) = play(core, clip, Ask(0.0, "what is visible now?"))
    assert found.status == "ok"
    assert [item.span.last_s for item in found.evidence] == [START_S]


def test_answers_come_in_order_of_time_and_ids_in_order_of_asking(core: Core, clip: Path) -> None:
    found = play(core, clip, Ask(3.0, "b"), Ask(1.0, "a"), Ask(3.0, "c"))
    assert [(item.id, item.asked_s - START_S) for item in found] == [("q2", 1.0), ("q1", 3.0), ("q3", 3.0)]


def test_no_topic_is_named_for_pictures_that_nobody_publishes(core: Core, clip: Path) -> None:
    (found,) = play(core, clip, ASKS[1])
    assert found.evidence
    assert b'"frame":"' not in encode_answer(found, Topics("longwatch"))


def test_realtime_takes_the_time_of_the_file(core: Core, tmp_path: Path) -> None:
    short = make_video(tmp_path / "short.mp4", frames=11)
    began_s = time.monotonic()
    list(replay(core, settings(), Replay(short, [], START_S, realtime=True)))
    assert 0.9 <= time.monotonic() - began_s < 5


def test_a_bad_file_is_a_camera_error(core: Core, tmp_path: Path) -> None:
    with pytest.raises(CameraError, match=r"none\.mp4: not found"):
        play(core, tmp_path / "none.mp4", ASKS[0])


@pytest.mark.parametrize(
    ("text", "at_s", "question"),
    [("12.5:what passed first?", 12.5, "what passed first?"), ("0: a:b ", 0.0, "a:b"), ("1e2:x", 100.0, "x")],
)
def test_a_question_with_its_second(text: str, at_s: float, question: str) -> None:
    assert Ask.parse(text) == Ask(at_s, question)


@pytest.mark.parametrize("text", ["", ":", "what?", "5", "5:", "5:  ", "-1:x", "inf:x", "nan:x", "12,5:x"])
def test_a_question_without_its_second_is_refused_by_name(text: str) -> None:
    with pytest.raises(QueryError, match="give seconds, a colon and a question") as caught:
        Ask.parse(text)
    assert " ".join(repr(text).split()) in str(caught.value)
