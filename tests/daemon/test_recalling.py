"""Questions through the engine into a real archive: which time they read, what answers name, what stays as it is."""

from __future__ import annotations

import io
import sqlite3
from pathlib import Path

import pytest
from PIL import Image

from daemon.messages import Answer
from memory import recall
from stream.model import tiny
from stream.model.llava_onevision import LlavaOnevision
from tests.daemon.recalling import CAUTIOUS, T0, CountingReader, colour, small_model, watching
from tests.memory.test_bank import state
from tests.models import random_model

HOUR_S = 3600.0


@pytest.fixture(scope="module")
def model() -> LlavaOnevision:
    """Without trained pointer heads."""
    return small_model()


@pytest.fixture(scope="module")
def pointing() -> LlavaOnevision:
    """With pointer heads (which point anywhere)."""
    return random_model()


# -- the asked time


@pytest.mark.parametrize(
    ("question", "fields", "asked_s", "read"),
    [
        ("what passed in the last hour?", {}, (2 * HOUR_S, None), 7),  # it is 13:00 now
        ("in the last hour, what passed?", {}, (2 * HOUR_S, None), 7),
        ("between 10:00 and 10:30 what passed?", {}, (0.0, HOUR_S / 2), 4),
        ("what passed?", {"since_s": T0 + HOUR_S, "until_s": T0 + 2 * HOUR_S}, (HOUR_S, 2 * HOUR_S), 7),
        ("what passed?", {"until_s": T0 + 600.0}, (None, 600.0), 2),
        ("what passed in the last hour?", {"since_s": T0 + 7200.0, "until_s": T0 + 7200.0}, (7200.0, 7200.0), 1),
        ("what passed?", {}, (None, None), 16),
    ],
)
def test_a_question_reads_the_time_that_it_says(
    model: LlavaOnevision,
    tmp_path: Path,
    question: str,
    fields: dict[str, float],
    asked_s: tuple[float | None, float | None],
    read: int,
) -> None:
    with watching(model, tmp_path, recalled=12) as watch:
        watch.watch(19, 600.0)  # from ten to one; the bank holds half an hour
        answer = watch.answer(question, **fields, evidence=16)
    since_s, until_s = (None if end is None else T0 + end for end in asked_s)
    if asked_s[0] == 2 * HOUR_S and "last" in question:
        since_s = T0 + 2 * HOUR_S
    assert answer.status == "ok"
    assert (answer.asked_from_s, answer.asked_to_s) == (since_s, until_s)
    assert answer.carriers == read == len(answer.evidence)
    held = [T0 + 600.0 * frame for frame in range(15, 19)]
    assert answer.recalled == sum(item.span.first_s not in held for item in answer.evidence)
    assert all(item.span.overlaps(since_s, until_s) for item in answer.evidence)


@pytest.mark.parametrize(
    ("question", "read"),
    [
        ("What passed in the last hour?", "What passed?"),
        ("Yesterday, what passed between 9 and 10?", "what passed?"),
        ("yesterday?", "yesterday?"),  # nothing else is left to ask
        ("what passed first?", "what passed first?"),
    ],
)
def test_the_words_that_say_a_time_are_not_read_by_the_model(
    model: LlavaOnevision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, question: str, read: str
) -> None:
    found: list[str] = []
    whole = model.question_ids
    monkeypatch.setattr(model, "question_ids", lambda text: (found.append(text), whole(text))[1])
    with watching(model, tmp_path) as watch:
        watch.watch(2)
        watch.answer(question)
    assert found == [read]


def test_where_nothing_lies_in_the_asked_time_that_is_said(model: LlavaOnevision, tmp_path: Path) -> None:
    with watching(model, tmp_path, carriers=3) as watch:
        watch.watch(9)
        for fields in ({"since_s": T0 - 100.0, "until_s": T0 - 50.0}, {"since_s": T0 + 9000.0}):
            answer = watch.answer(**fields)
            assert (answer.status, answer.text) == ("no_evidence", "nothing is remembered of that time")
            assert (answer.evidence, answer.confidence, answer.carriers) == ((), None, 0)
            assert (answer.memory_from_s, answer.memory_to_s) == (T0, T0 + 8.0)


# -- now or past


def test_a_question_about_now_passes_the_archive_by(model: LlavaOnevision, tmp_path: Path) -> None:
    with watching(model, tmp_path, CountingReader) as watch:
        watch.watch(12)
        reader = watch.reader
        assert isinstance(reader, CountingReader)
        now = watch.answer("what is visible now?")
        assert (now.status, reader.searches, now.recalled, now.carriers) == ("ok", 0, 0, 4)
        past = watch.answer("what passed first?")
        assert (past.status, reader.searches, past.recalled, past.carriers) == ("ok", 1, 4, 8)
        early = watch.answer("what is visible?", until_s=T0 + 3.0)
        assert (reader.searches, early.recalled, early.carriers) == (2, 4, 4), "a time that was asked for is looked up"


def test_where_the_question_looked_decides_when_heads_were_trained_to_point(
    pointing: LlavaOnevision, tmp_path: Path
) -> None:
    for recent, searches in ((1e-9, 0), (1.0, 1)):
        folder = tmp_path / str(recent)
        folder.mkdir()
        with watching(pointing, folder, CountingReader, recall={"route": {"recent": recent}}) as watch:
            watch.watch(9)
            watch.answer("what passed first?")
            assert isinstance(watch.reader, CountingReader)
            assert watch.reader.searches == searches


# -- what answers name


@pytest.mark.parametrize("with_pointer", [False, True])
def test_what_left_the_bank_is_evidence_with_its_picture(
    model: LlavaOnevision, pointing: LlavaOnevision, tmp_path: Path, with_pointer: bool
) -> None:
    with watching(pointing if with_pointer else model, tmp_path) as watch:
        watch.watch(12)
        assert watch.bank().frames == [8, 9, 10, 11]
        answer = watch.answer("what passed?", since_s=T0 + 3.0, until_s=T0 + 3.5)
    (item,) = answer.evidence
    assert (item.camera, item.span.first_s, round(item.weight, 5)) == ("cam0", T0 + 3.0, 1.0)
    with Image.open(io.BytesIO(item.jpeg)) as picture:
        assert picture.size == (320, 180)
        middle = picture.convert("RGB").getpixel((100, 100))
    assert isinstance(middle, tuple)
    assert all(abs(got - want) < 8 for got, want in zip(middle, colour(3), strict=True))
    assert (answer.memory_from_s, answer.memory_to_s) == (T0, T0 + 11.0), "what is archived is remembered"
    assert (answer.evicted, answer.recalled) == (8, 1)


def test_several_cameras_are_read_in_one_batch_and_named(
    model: LlavaOnevision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    whole = model.slab
    monkeypatch.setattr(model, "slab", lambda pasts, room: (sizes.append(len(pasts)), whole(pasts, room))[1])
    with watching(model, tmp_path, cameras=4) as watch:
        watch.watch(8, cameras=("cam0", "cam1"))
        watch.clock.now_s += 100.0
        watch.watch(1, cameras=("cam2",))
        sizes.clear()
        every = watch.answer("what passed first?", evidence=8)
        assert sizes == [4, 3], "once to look, once to answer"
        sizes.clear()
        early = watch.answer("what passed first?", until_s=T0 + 7.0)
        assert sizes == [4, 2]
        alone = watch.answer("what passed first?", cameras=("cam1",))
    lines = every.text.splitlines()
    assert [line.split(":")[0] for line in lines] == ["cam0", "cam1", "cam2", "cam3"]
    assert lines[3] == "cam3: camera cam3 has not been seen yet"
    assert lines[1].strip() == f"cam1: {alone.text}".strip(), "a batch gives what its cameras give one by one"
    assert {item.camera for item in every.evidence} == {"cam0", "cam1", "cam2"}
    assert early.text.splitlines()[2:] == [
        "cam2: nothing is remembered of that time",
        "cam3: camera cam3 has not been seen yet",
    ]


# -- gaps


def gaps_of(answer: Answer) -> list[tuple[float, float | None, str]]:
    return [(gap.since_s - T0, None if gap.until_s is None else gap.until_s - T0, gap.reason) for gap in answer.gaps]


def test_gaps_are_named_where_they_matter(model: LlavaOnevision, tmp_path: Path) -> None:
    with watching(model, tmp_path) as watch:
        watch.watch(7, 600.0)
        watch.gaps.down("cam0", T0 + 1300.0, "frozen")
        watch.gaps.up("cam0", T0 + 1700.0)
        inside = watch.answer("what passed?", since_s=T0 + 1200.0, until_s=T0 + 1800.0)
        assert gaps_of(inside) == [(1300.0, 1700.0, "frozen")]
        assert inside.text.endswith("The camera was not seen from 10:21 to 10:28 (no new picture came).")
        at_its_edge = watch.answer("what passed?", since_s=T0 + 1700.0, until_s=T0 + 3000.0)
        assert gaps_of(at_its_edge) == [(1300.0, 1700.0, "frozen")]
        outside = watch.answer("what passed?", since_s=T0 + 1701.0)
        assert (gaps_of(outside), "not seen" in outside.text) == ([], False)
        ever = watch.answer("what passed?")
        assert (gaps_of(ever), "not seen" in ever.text) == ([(1300.0, 1700.0, "frozen")], False), "long over"
        watch.gaps.down("cam0", T0 + 3500.0, "unreachable")
        now = watch.answer("what is visible now?")
        assert gaps_of(now)[1:] == [(3500.0, None, "unreachable")]
        assert now.text.endswith("The camera has not been seen since 10:58 (unreachable).")
        before = watch.answer("what passed?", until_s=T0 + 1200.0)
        assert (gaps_of(before), "not been seen" in before.text) == ([], False)
        nothing = watch.answer("what passed?", since_s=T0 + 3700.0)
        assert nothing.status == "no_evidence"
        assert nothing.text == (
            "nothing is remembered of that time. The camera has not been seen since 10:58 (unreachable)."
        )


# -- as it is written


def written(model: LlavaOnevision, monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    """What the network says, whatever it says."""
    monkeypatch.setattr(model, "decode", lambda ids: " ".join(words.split()[: len(ids)]))
    monkeypatch.setattr(type(model), "stop_ids", frozenset())


@pytest.mark.parametrize("question", ["what is visible now?", "what passed first?"])
@pytest.mark.parametrize("cameras", [1, 3])
def test_what_was_streamed_is_the_beginning_of_the_whole(
    model: LlavaOnevision, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, question: str, cameras: int
) -> None:
    written(model, monkeypatch, "a red car came")
    with watching(model, tmp_path, cameras=cameras) as watch:
        watch.watch(8)
        watch.gaps.down("cam0", T0 + 7.0, "ended")
        answer = watch.answer(question)
    names = [f"cam{number}: " if cameras > 1 else "" for number in range(cameras)]
    said = "\n".join(f"{name}a red car came" for name in names)
    which = "Camera cam0" if cameras > 1 else "The camera"
    assert answer.text == f"{said}. {which} has not been seen since 10:00 (the stream had ended)."
    assert watch.chunks[0] == f"{names[0]}a"
    assert answer.text == "".join(watch.chunks), "the sentence about the gap is the last of it"
    assert len(watch.chunks) == 4


def test_an_answer_without_words_has_its_gap_all_the_same(
    model: LlavaOnevision, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    written(model, monkeypatch, "")
    with watching(model, tmp_path) as watch:
        watch.watch(3)
        watch.gaps.down("cam0", T0 + 2.0, "ended")
        assert watch.answer().text == "The camera has not been seen since 10:00 (the stream had ended)."


@pytest.mark.parametrize("words", ["a red car came", "no car came by", "not seen so far"])
def test_nothing_of_a_guess_is_ever_streamed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: str) -> None:
    """`no` is a denial and needs no support, but `no car came by` is none."""
    model = random_model(card=tiny.CARD.model_copy(update={"trust": CAUTIOUS}))
    written(model, monkeypatch, words)
    with watching(model, tmp_path) as watch:
        watch.watch(6)
        answer = watch.answer("what is visible now?")
        assert (answer.status, answer.text) == ("no_evidence", "not seen")
        assert answer.evidence == ()
        assert "".join(watch.chunks) in ("", "not seen")
        watch.engine.configure(watch.engine._answers.settings.model_copy(update={"min_support": 0.0}))
        watch.chunks.clear()
        given = watch.answer("what is visible now?")
        assert (given.status, given.text) == ("ok", words)
        assert "".join(watch.chunks) == given.text
        assert len(watch.chunks) == 4, "word by word"
        assert all(item.confidence is not None and 0 <= item.confidence <= 1 for item in given.evidence)


def test_a_denial_is_given_without_support(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = random_model(card=tiny.CARD.model_copy(update={"trust": CAUTIOUS}))
    written(model, monkeypatch, "no")
    with watching(model, tmp_path, max_tokens=1) as watch:
        watch.watch(6)
        answer = watch.answer("did a bus stop?")
        assert (answer.status, answer.text) == ("ok", "no")


# -- asking changes nothing


def contents(path: Path) -> list[tuple[object, ...]]:
    """Every row of every table that tells what was seen."""
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        tables = ("frames", "keys", '"values"', "digests", "pictures", "outages", "erasures", "cameras")
        return [row for table in tables for row in db.execute(f"SELECT * FROM {table}")]


@pytest.mark.parametrize("name", sorted(recall.TABLE))
def test_asking_twice_gives_the_same_answer_by_any_method(model: LlavaOnevision, tmp_path: Path, name: str) -> None:
    with watching(model, tmp_path, recall={name: {}}) as watch:
        watch.watch(20)
        first, second = (watch.answer("what passed first?", evidence=8) for _ in range(2))
        assert (first.text, first.confidence, first.evidence) == (second.text, second.confidence, second.evidence)
        assert first.status == "ok"


def test_a_thousand_questions_leave_bank_and_archive_as_they_are(model: LlavaOnevision, tmp_path: Path) -> None:
    kinds = [(f"what passed {word}?", {}) for word in ("first", "last", "before", "after", "since", "ago", "red", "by")]
    kinds += [("what is visible now?", {}), ("what passed in the last minute?", {})]
    kinds += [("what passed?", {"since_s": T0 + start, "until_s": T0 + start + 3.0}) for start in range(10)]
    with watching(model, tmp_path, max_tokens=1, max_queue=1000) as watch:
        watch.watch(40)
        before, rows = state(watch.bank()), contents(watch.archive.path)
        for number in range(1000):
            question, fields = kinds[number % len(kinds)]
            watch.ask(question, **fields, stream=False)
        answers = watch.settle(200.0)
        assert state(watch.bank()) == before
        assert contents(watch.archive.path) == rows
        assert watch.counters.value("recall_faults") == watch.counters.value("question_faults") == 0
    said = {int(answer.id[1:]): (answer.status, answer.text, answer.confidence, answer.evidence) for answer in answers}
    assert len(said) == 1000
    assert all(said[number] == said[number % len(kinds)] for number in said)
    assert len(set(map(str, said.values()))) > 5, "and different questions get different ones"


def test_frames_that_come_while_a_question_is_answered_do_not_change_the_answer(
    model: LlavaOnevision, tmp_path: Path
) -> None:
    def asked(folder: Path, frames: int) -> Answer:
        folder.mkdir()
        with watching(model, folder, max_tokens=16) as watch:
            watch.watch(9)
            watch.ask("what is visible now?", evidence=8)
            watch.engine.turn()  # opened, and read once
            later = watch.clock.now_s
            for _ in range(frames):
                watch.engine._answering_s = 60.0  # frames get their turn between two words
                watch.watch(1)
                watch.clock.now_s = later
            assert watch.bank().newest_frame == 8 + frames
            return watch.settle()[0]

    quiet, busy = asked(tmp_path / "quiet", 0), asked(tmp_path / "busy", 6)
    assert (quiet.text, quiet.confidence, quiet.evidence) == (busy.text, busy.confidence, busy.evidence)
    assert quiet.carriers == busy.carriers == 4
