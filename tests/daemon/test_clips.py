"""`bench/clips.py`: every system reads what it should and nothing later, and a broken folder ends in one line."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from daemon.core import Core
from daemon.replay import Ask, Replay, replay
from daemon.session import Session
from daemon.settings import Settings, parse
from memory import retain
from memory.bank import MemoryBank, Policy
from memory.recall.all import All
from stream.positions import TABLE
from stream.types import Budget
from tests.fakes import make_audio, make_video
from tests.models import make_encoder, random_model

SYSTEMS = {"blind", "window4", "uniform", "hybrid", "full"}
CHANGE_S, SECONDS, FPS = 6, 12, 5


def asked(name: str, ask_at: float, kind: str, text: str, right: int) -> dict[str, Any]:
    return {"id": name, "ask_at": ask_at, "kind": kind, "question": text, "choices": ["Red", "Blue"], "right": right}


ASKED = [  # not in order of time
    asked("two-1", 3, "realtime", "Which colour?", 0),
    asked("two-3", 11.5, "backward", "What came last?", 1),
    asked("two-2", 8.5, "realtime", "And now?", 1),
]


def two_colours(index: int, size: tuple[int, int]) -> np.ndarray:
    """Red for six seconds, then blue; the shade drifts, so that no picture is quite the one before."""
    image = np.zeros((*size, 3), np.uint8)
    image[..., 0 if index < CHANGE_S * FPS else 2] = 150 + index
    return image


def write(folder: Path, *questions: dict[str, Any], file: str = "two.mp4") -> Path:
    text = json.dumps({"clips": [{"file": file, "seconds": SECONDS, "questions": questions}]})
    (folder / "manifest.json").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def clips() -> Iterator[Any]:
    """The script as a module; its neighbours are found as when it is run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).resolve().parents[2] / "bench")
        yield importlib.import_module("clips")
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("clips")
    make_video(made / "two.mp4", frames=SECONDS * FPS, fps=FPS, size=(48, 64), draw=two_colours)
    return write(made, *ASKED)


@pytest.fixture(scope="module")
def core() -> Core:
    model = random_model()
    positions = TABLE["spaced"](len(model.system()), model.geometry.visual)
    policy = Policy(Budget(5, 2), retain.make({"adjacent": {}}), positions)
    return Core(make_encoder(model), policy, All(), 0)


@pytest.fixture(scope="module")
def settings() -> Settings:
    gate = [{"stride": {"fps": 1}}]
    return parse({"cameras": {"replay": {"url": "file"}}, "gate": gate, "answer": {"max_tokens": 6}}, "t")


@pytest.fixture(scope="module")
def watched(clips: Any, core: Core, settings: Settings, folder: Path) -> Any:
    (clip,) = clips.load(folder)
    return clips.watch(core, settings, folder / "two.mp4", clip)


def test_the_run_prints_tables_and_one_json_line(
    clips: Any, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips.main(["--videos", str(folder), "--quick", "--carriers", "3", "--out", str(tmp_path / "out.json")])
    *table, last = capsys.readouterr().out.splitlines()
    result = json.loads(last)
    assert result == json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert (result["bench"], result["n"], result["bank"]) == ("clips", 3, 3)
    assert result["kinds"] == {"backward": 1, "realtime": 2}
    assert set(result["systems"]) == SYSTEMS
    for name, system in result["systems"].items():
        assert system["n"] == 3
        assert set(system["choice"]) == set(system["free"]) == {"backward", "realtime", "all"}
        assert sum(line.startswith(f"{name} ") for line in table) == 2
    assert result["chance"] == {"backward": 0.5, "realtime": 0.5, "all": 0.5}
    assert result["constant"] == {"position": 1, "backward": 1.0, "realtime": 0.5, "all": 0.6667}


def test_an_option_scores_what_a_session_gives_the_same_words(clips: Any, core: Core, watched: Any) -> None:
    """Teacher forced over a batch of options of different lengths, against token by token."""
    model, (frames, stops, _) = core.model, watched
    *_, (_, bank) = clips.banks(core, "uniform", frames, stops)
    view, ids = bank.fork(now_s=11.5), model.question_ids("what is visible now?")
    session = Session(model, core.policy.positions, [view], ids, 5)
    while not session.done:
        session.step()
    (row,) = session.rows
    said = row.ids if row.steps == len(row.ids) else [*row.ids, min(model.stop_ids)]
    options = [model.answer_ids("a red car and nothing else"), said, model.answer_ids("a")]
    scores = clips.likelihoods(model, core.policy.positions, view, ids, options)
    assert scores[1] == pytest.approx(row.log_p / row.steps, abs=1e-4)
    alone = [clips.likelihoods(model, core.policy.positions, view, ids, [option])[0] for option in options]
    assert scores == pytest.approx(alone, abs=1e-4)
    assert all(math.isfinite(score) and score < 0 for score in scores)


def read(bank: MemoryBank) -> tuple[int, int]:
    """Moments and keys that a question reads."""
    view = bank.fork()
    return len(view.moments), len(view.past)


def test_every_system_reads_what_it_should(clips: Any, core: Core, watched: Any) -> None:
    frames, stops, tries = watched
    assert [stop.question.id for stop in stops] == ["two-1", "two-2", "two-3"]
    assert [item.system for item in tries] == ["hybrid"] * 3
    counts = [stop.count for stop in stops]
    for stop in stops:
        assert all(frame.wall_s <= stop.question.ask_at for frame in frames[: stop.count]), "nothing from later"
        assert stop.question.ask_at - stop.newest_s < 2 / FPS
    visual = core.model.geometry.visual
    sizes = {name: [read(bank) for _, bank in clips.banks(core, name, frames, stops)] for name in clips.OTHERS}
    assert counts[-1] == len(frames) == SECONDS
    assert sizes["blind"] == [(0, 0)] * 3
    assert sizes["window4"] == [(min(4, n), min(4, n) * (visual + 1)) for n in counts]
    assert sizes["uniform"] == [(min(5, n), min(5, n) + 2 * visual) for n in counts]
    assert sizes["full"] == [(n, n * (visual + 1)) for n in counts]


def test_window4_knows_nothing_older(clips: Any, core: Core, watched: Any) -> None:
    frames, stops, _ = watched
    *_, (_, whole) = clips.banks(core, "window4", frames, stops)
    cut = [replace(stops[-1], count=4)]
    ((_, alone),) = clips.banks(core, "window4", frames[-4:], cut)
    assert whole.frames == [frame.index for frame in frames[-4:]]
    assert torch.equal(whole.fork(now_s=11.5).past.keys, alone.fork(now_s=11.5).past.keys)


def test_hybrid_is_the_daemon(clips: Any, core: Core, settings: Settings, folder: Path, watched: Any) -> None:
    """The same frames in a bank made here, under the daemon's policy, give the replay's own answers and choices."""
    frames, stops, tries = watched
    asks = [Ask(stop.question.ask_at, stop.question.question) for stop in stops]
    assert [item.said for item in tries] == [
        answer.text for answer in replay(core, settings, Replay(folder / "two.mp4", asks))
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clips, "policy", lambda core, *_: core.policy)
        for (stop, bank), item in zip(clips.banks(core, "hybrid", frames, stops), tries, strict=True):
            assert clips.say(core, settings, bank, stop.question) == item.said
            assert clips.pick(core, bank, stop.question) == item.picked


def test_full_is_left_out_where_positions_end(
    clips: Any, core: Core, settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (clip,) = clips.load(folder)
    enough = core.policy.positions.bound(SECONDS, settings.answer.max_tokens + 64)
    monkeypatch.setattr(core.model, "geometry", replace(core.model.geometry, max_positions=enough - 1))
    tries = list(clips.play(core, settings, folder, clip))
    assert {item.system for item in tries} == SYSTEMS - {"full"}
    assert clips.summary(tries, clip.questions)["systems"]["full"] == {"n": 0, "choice": {}, "free": {}}


@pytest.mark.parametrize(
    ("said", "choices", "expected"),
    [
        ("A cat.", ["A dog", "A cat"], {1}),
        ("i saw the Cat", ["A dog", "A cat"], {1}),
        ("a category", ["A dog", "A cat"], set()),
        ("a dog and a cat", ["A dog", "A cat"], {0, 1}),
        ("yes, two people", ["Yes", "Yes, two people", "No"], {1}),
        ("yes", ["Yes, one", "Yes, two", "No"], set()),
        ("four", ["3", "4"], {1}),
        ("14", ["4", "1"], set()),
        ("at about 6.5 seconds", ["6.5 s", "5 s"], {0}),
        ("", ["4", "?"], set()),
    ],
)
def test_a_written_answer_names_an_option(clips: Any, said: str, choices: list[str], expected: set[int]) -> None:
    assert clips.named(said, choices) == expected


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"right": 2}, "two.mp4: two-1: right is 2, but there are 2 choices"),
        ({"right": "x"}, "two.mp4: two-1: right: "),
        ({"answer": "Blue"}, "two.mp4: two-1: answer is 'Blue', but choice 0 is 'Red'"),
        ({"choices": ["Red"]}, "two.mp4: two-1: choices: "),
        ({"choices": ["Red", " "]}, "two.mp4: two-1: a choice is empty"),
        ({"ask_at": -1}, "two.mp4: two-1: ask_at: "),
        ({"question": "why " * 3000}, "two-1: the question has "),
        ({"ask_at": 60}, "two.mp4: ends at 11.8 s, two-1 is asked at 60 s"),
    ],
)
def test_a_broken_question_is_named(
    clips: Any, folder: Path, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    (tmp_path / "two.mp4").write_bytes((folder / "two.mp4").read_bytes())
    write(tmp_path, {**ASKED[0], **change})
    assert words in fault(clips, tmp_path)


def test_a_broken_folder_is_named(clips: Any, folder: Path, tmp_path: Path) -> None:
    assert "manifest.json: not found" in fault(clips, tmp_path)
    for text in ("{", "[]", '{"clips": []}', '{"clips": [{"file": "a.mp4"}]}', "\0"):
        (tmp_path / "manifest.json").write_text(text, encoding="utf-8")
        assert str(tmp_path / "manifest.json") in fault(clips, tmp_path)
    write(tmp_path, ASKED[0])
    assert "two.mp4: no such file" in fault(clips, tmp_path)
    (tmp_path / "two.mp4").write_bytes(b"no video")
    assert "two.mp4" in fault(clips, tmp_path)
    (tmp_path / "two.mp4").write_bytes((folder / "two.mp4").read_bytes()[:1500])
    assert "two.mp4" in fault(clips, tmp_path)
    make_audio(tmp_path / "two.mp4")
    assert "two.mp4" in fault(clips, tmp_path)


def fault(clips: Any, folder: Path) -> str:
    """What the script says when it gives up on `folder`: one line."""
    with pytest.raises(SystemExit) as ended:
        clips.main(["--videos", str(folder)])
    text = str(ended.value.code)
    assert text.startswith("clips: ")
    assert "\n" not in text
    return text


def test_real_clips(clips: Any, videos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clips.main(["--videos", str(videos), "--quick"])
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["clips"] == 4
    assert result["n"] >= 20
    assert set(result["systems"]) == SYSTEMS
    assert all(system["n"] == result["n"] for system in result["systems"].values())
    assert result["chance"]["all"] == 0.25
