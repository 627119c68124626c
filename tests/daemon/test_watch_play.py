"""`longwatch watch test`: a recording is played through the daemon's own path; its lines, its score, its exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from daemon import __main__ as cli
from daemon.core import build
from daemon.settings import Settings, parse
from daemon.watch.trial import Found, Trial, play, score
from memory.view import MemoryView
from stream.errors import CameraError
from stream.model.llava_onevision import LlavaOnevision
from stream.train.film import PLAIN, film
from stream.train.world import Street
from tests.daemon.recalling import small_model
from tests.fakes import make_audio
from tests.models import save_random

SECONDS, FPS = 24.0, 4
Spans = list[tuple[float, float]]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("street") / "street.mp4"
    film(Street(3, SECONDS, PLAIN), path, (160, 96), FPS)
    return path


@pytest.fixture(scope="module")
def busy(street: Path) -> Spans:
    """When anything is on the street; joined where less than two seconds lie between."""
    events = json.loads(street.with_suffix(".json").read_text(encoding="utf-8"))["events"]
    found: Spans = []
    for first_s, last_s in sorted((max(0.0, item["t_start"]), min(SECONDS, item["t_end"])) for item in events):
        if found and first_s < found[-1][1] + 2.0:
            found[-1] = found[-1][0], max(last_s, found[-1][1])
        else:
            found.append((first_s, last_s))
    assert found, "nothing happens on this street"
    return found


@pytest.fixture(scope="module")
def model() -> LlavaOnevision:
    return small_model()


class Oracle:
    """A judge that knows when it is so. It must be asked over what was seen until now, and nothing later."""

    def __init__(self, trial: Trial, spans: Spans) -> None:
        self._trial, self._spans = trial, spans
        self.asked_s: list[float] = []

    def probabilities(self, view: MemoryView, questions: Sequence[Sequence[int]]) -> list[float]:
        now_s = self._trial.seconds
        self.asked_s.append(now_s)
        assert view.moments[-1].span.last_s <= now_s
        return [0.9 if any(first_s <= now_s <= last_s for first_s, last_s in self._spans) else 0.1 for _ in questions]


def settings_for(**watch: Any) -> Settings:
    raw = {
        "cameras": {"door": {"url": "x"}},
        "gate": [{"stride": {"fps": 2}}],
        "memory": {"carriers": 8, "detail_frames": 1},
        "watch": {"busy": {"question": "is anything on the street?", "debounce_s": 0, "cameras": ["door"], **watch}},
    }
    return parse(raw, "test")


def played(model: LlavaOnevision, path: Path, spans: Spans, **watch: Any) -> tuple[list[Found], Trial, Oracle]:
    settings = settings_for(**watch)
    trial = Trial(build(settings, model), settings, settings.watch)
    oracle = trial._man._judge = Oracle(trial, spans)  # type: ignore[assignment]
    return list(play(trial, settings, path)), trial, oracle


def test_what_happens_is_told_when_it_happens(model: LlavaOnevision, street: Path, busy: Spans) -> None:
    found, trial, oracle = played(model, street, busy)
    assert trial.seconds == pytest.approx(SECONDS, abs=1.0)
    assert len(oracle.asked_s) >= SECONDS, "two frames a second, and each is asked about"
    own = score(found, busy, trial.seconds)
    assert (own.precision, own.recall, own.false_alarms_per_hour) == (1.0, 1.0, 0.0)
    assert own.median_delay_s is not None
    assert own.median_delay_s <= 1.0, "the next frame that the gate keeps, and a turn of the engine"
    assert [item.type for item in found] == ["new", "end"] * len(busy)


def test_a_recording_gives_the_same_each_time(model: LlavaOnevision, street: Path, busy: Spans) -> None:
    assert played(model, street, busy)[0] == played(model, street, busy)[0]


def test_schedule_and_cameras_do_not_keep_it_from_being_tried(model: LlavaOnevision, street: Path, busy: Spans) -> None:
    never = {"enabled": False, "schedule": [{"from": "03:00", "until": "03:01"}]}
    assert played(model, street, busy, **never)[0] == played(model, street, busy)[0]


def test_what_is_open_ends_with_the_recording(model: LlavaOnevision, street: Path) -> None:
    new, end = played(model, street, [(SECONDS / 2, SECONDS)])[0]
    assert (new.type, end.type) == ("new", "end")
    assert new.told_s == pytest.approx(SECONDS / 2, abs=1.0)
    assert end.end_s is not None
    assert end.end_s == pytest.approx(SECONDS, abs=1.0)


def test_what_is_no_video_is_said(model: LlavaOnevision, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    for path in (tmp_path / "text.mp4", make_audio(tmp_path / "sound.mp4"), tmp_path / "gone.mp4"):
        with pytest.raises(CameraError, match=path.name):
            played(model, path, [])


# -- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a question that is always so: from a probability of 0 on."""
    folder = tmp_path_factory.mktemp("config")
    raw = {
        "cameras": {"door": {"url": "x"}},
        "model": {"path": str(save_random(folder / "random")), "device": "cpu"},
        "gate": [{"stride": {"fps": 1}}],
        "watch": {"any": {"question": "is there anything?", "debounce_s": 0, "on_above": 0, "off_below": 0}},
    }
    path = folder / "longwatch.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """`longwatch watch test ...` in this process: exit code, stdout, stderr."""

    def attempt(*args: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["longwatch", "watch", "test", *map(str, args)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert isinstance(ended.value.code, int)
        return ended.value.code, *capfd.readouterr()

    return attempt


def test_the_command_says_each_event_and_how_right_they_were(
    run: Run, config: Path, street: Path, tmp_path: Path
) -> None:
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps({"spans": [[0, 5], [10, 12]]}))
    code, out, err = run("any", "--video", street, "--config", config, "--truth", truth)
    assert (code, "Traceback" in err) == (0, False)
    new, end, own = (json.loads(line) for line in out.splitlines())
    assert (new["type"], end["type"], new["name"]) == ("new", "end", "any")
    assert new["start_s"] == end["start_s"] <= 1.0
    assert end["end_s"] == pytest.approx(SECONDS, abs=1.5)
    assert (own["events"], own["spans"], own["precision"], own["recall"]) == (1, 2, 1.0, 1.0)
    assert own["false_alarms_per_hour"] == 0.0


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("nothing", "--video", "STREET", "--config", "CONFIG"), 78, "no standing question 'nothing' under `watch`"),
        (("any", "--video", "gone.mp4", "--config", "CONFIG"), 1, "gone.mp4: no such file"),
        (("any", "--video", "TEXT", "--config", "CONFIG"), 1, "text.mp4"),
        (("any", "--video", "STREET", "--config", "gone.yaml"), 78, "gone.yaml"),
        (("any", "--video", "STREET", "--config", "CONFIG", "--truth", "TEXT"), 78, "text.mp4: not"),
        (("any", "--video", "STREET", "--config", "CONFIG", "--truth", "gone.json"), 78, "gone.json: cannot be read"),
        (("any", "--config", "CONFIG"), 2, "--video"),
        (("--video", "STREET"), 2, "Missing argument 'name'"),
    ],
)
def test_what_is_wrong_is_one_line_and_an_exit_code(
    run: Run, config: Path, street: Path, tmp_path: Path, args: tuple[str, ...], code: int, says: str
) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    names = {"STREET": street, "CONFIG": config, "TEXT": text}
    found, out, err = run(*(names.get(item, item) for item in args))
    assert (found, out) == (code, "")
    assert "Traceback" not in err
    line = err.splitlines()[-1]
    assert line.startswith("longwatch: ")
    assert says in line
