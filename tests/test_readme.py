"""What README.md and docs/ tell people to type works: commands, make targets, configurations, payloads, links."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from daemon import __main__ as cli
from daemon import unit
from daemon.methods import check_methods
from daemon.settings import Settings, parse
from daemon.wire import AnswerWire, CameraState, ChunkWire, DaemonStatus, FrigateWire, QueryWire
from daemon.yamlfile import read_yaml
from stream.errors import ConfigError
from tests.fakes import make_video
from tests.models import save_random

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
ONE_CAMERA = {"cameras": {"door": {"url": "rtsp://camera.example/sub"}}}
# shell words that are the system's own; what they do to it cannot be tried in a test
SYSTEM = {"systemctl", "journalctl", "install", "cp", "apt-get"}
RUN_FOR_REAL = {"check", "replay", "unit"}
INSTALLED = Path("/opt/longwatch/.venv/bin/longwatch")


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(text: str, page: str) -> Iterator[Block]:
    for found in re.finditer(r"^```(\w*)[^\n]*\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
        yield Block(page, text.count("\n", 0, found.start()) + 1, found[1], found[2])


ALL = [block for path in PAGES for block in blocks(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)))]


def of_kind(*kinds: str) -> list[Block]:
    return [block for block in ALL if block.kind in kinds]


def commands(text: str) -> Iterator[list[str]]:
    """The words of every command; `sudo` and the shell of `sudo sh -c '...'` taken off, redirections too."""
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["sudo"]:
            words = words[1:]
        if words[:2] == ["sh", "-c"]:
            yield from commands(words[2])
        elif words:
            yield words[: words.index(">")] if ">" in words else words


COMMANDS = [(str(block), words) for block in of_kind("sh", "shell", "bash") for words in commands(block.text)]


def having(*programs: str) -> Any:
    found = [(place, words) for place, words in COMMANDS if Path(words[0]).name in programs]
    return pytest.mark.parametrize(("place", "words"), found, ids=[place for place, _ in found])


def test_the_pages_hold_what_is_checked_here() -> None:
    """Else a new spelling of the fences would make every test below pass by finding nothing."""
    counts = {kind: len(of_kind(kind)) for kind in ("sh", "yaml", "json")}
    assert all(count >= 4 for count in counts.values()), counts
    assert {Path(words[0]).name for _, words in COMMANDS} >= {"longwatch", "make", "mosquitto_pub", "mosquitto_sub"}
    assert {block.kind for block in ALL} <= {"sh", "yaml", "json", "text", ""}
    assert [str(block) for block in ALL if block.kind == "" and block.page != "README.md"] == []


def test_no_command_goes_unchecked() -> None:
    checked = {"longwatch", "make", "mosquitto_pub", "mosquitto_sub", "mosquitto_rr", *SYSTEM}
    assert [(place, words) for place, words in COMMANDS if Path(words[0]).name not in checked] == []


# -- longwatch -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random(tmp_path_factory.mktemp("checkpoint") / "random")


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the pages speak of."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(unit, "installation", lambda: (INSTALLED, ()))
    make_video(tmp_path / "clip.mp4", frames=30)
    shutil.copy(ROOT / "configs" / "example.yaml", tmp_path / "longwatch.yaml")
    return tmp_path


def call(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["longwatch", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code if isinstance(ended.value.code, int) else 0


@having("longwatch")
def test_longwatch_commands_work(
    place: str,
    words: list[str],
    desk: Path,
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    command, *args = words[1:]
    if command in RUN_FOR_REAL:
        more = ["--model", str(checkpoint)] if command == "replay" else []
        assert call([command, *args, *more], monkeypatch) == 0, capfd.readouterr().err
        assert capfd.readouterr().out
        return
    assert options_exist(command, args, monkeypatch, capfd), place


def options_exist(
    command: str, args: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> bool:
    """Whether `longwatch command` has every option in `args`, by its own help."""
    capfd.readouterr()
    monkeypatch.setenv("COLUMNS", "200")
    group = args[:1] if command == "archive" else []  # its options are those of `archive stats` and the like
    assert call([command, *group, "--help"], monkeypatch) == 0
    known = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", capfd.readouterr().out))
    return {arg for arg in args if re.match(r"--?[a-z]", arg)} <= known


def test_the_option_check_can_fail(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    assert options_exist("ask", ["x", "--since", "1"], monkeypatch, capfd)
    assert not options_exist("ask", ["x", "--sinse", "1"], monkeypatch, capfd)
    assert not options_exist("run", ["--camera", "x"], monkeypatch, capfd)


# -- make, Mosquitto -------------------------------------------------------------------------------------------------


@having("make")
def test_make_targets_exist(place: str, words: list[str]) -> None:
    args = words[1:]
    if args[:1] == ["-C"]:
        args = args[2:]
    done = subprocess.run(["make", "-n", *args], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{place}: {done.stderr}"


@cache
def options_of(program: str) -> frozenset[str]:
    """What a Mosquitto client's own help lists; empty where the client is not installed."""
    path = shutil.which(program)
    if path is None:
        return frozenset()
    done = subprocess.run([path, "--help"], capture_output=True, text=True, timeout=10, check=False)
    return frozenset(re.findall(r"(?<![\w-])-{1,2}[A-Za-z][\w-]*", done.stdout + done.stderr))


@having("mosquitto_pub", "mosquitto_sub", "mosquitto_rr")
def test_mosquitto_options_exist(place: str, words: list[str]) -> None:
    known = options_of(words[0])
    if words[0] == "mosquitto_rr":
        known |= options_of("mosquitto_pub")  # it takes -m as well, and its help forgets to say so
    if not known:
        assert not os.environ.get("CI"), f"{words[0]} is not installed"
        pytest.skip(f"{words[0]} is not installed (apt install mosquitto-clients)")
    assert {word for word in words[1:] if re.match(r"--?[A-Za-z]", word)} <= known, place


@having("mosquitto_pub", "mosquitto_sub", "mosquitto_rr")
def test_mosquitto_lines_use_our_topics_and_payloads(place: str, words: list[str]) -> None:
    topic = words[words.index("-t") + 1]
    assert re.fullmatch(r"longwatch/(query|status|answer/.*|[a-z0-9_]+/(query|state|available))", topic), place
    if "-m" in words and (payload := words[words.index("-m") + 1]).startswith("{"):
        QueryWire.model_validate_json(payload)


# -- configurations and payloads -------------------------------------------------------------------------------------


def settings_of(text: str, folder: Path) -> Settings:
    """A block as a whole file; a section alone gets a camera beside it."""
    path = folder / "block.yaml"
    path.write_text(text, encoding="utf-8")
    settings = parse({**ONE_CAMERA, **read_yaml(path)}, str(path))
    check_methods(settings)
    return settings


@pytest.mark.parametrize("block", of_kind("yaml"), ids=str)
def test_configurations_are_valid(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in re.findall(r"\$\{(\w+)\}", block.text):
        monkeypatch.setenv(name, "x")
    settings_of(block.text, tmp_path)


@pytest.mark.parametrize("text", ["model: {paht: tiny}", "gate: [stil]", "cameras: {a: {}}"])
def test_the_configuration_check_can_fail(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        settings_of(text, tmp_path)


_SCHEMAS: tuple[tuple[str, str, type[BaseModel]], ...] = (
    ("event_id", "frigate", FrigateWire),
    ("question", "query", QueryWire),
    ("answer", "answer", AnswerWire),
    ("seq", "chunk", ChunkWire),
    ("uptime_s", "status", DaemonStatus),
    ("carriers", "state", CameraState),
)


def check_payload(text: str) -> None:
    """A payload that its schema file allows and its model reads; one of ours shows every key there is."""
    raw = json.loads(text)
    name, model = next((name, model) for key, name, model in _SCHEMAS if key in raw)
    schema = json.loads((ROOT / "daemon" / "schemas" / f"{name}.json").read_text(encoding="utf-8"))
    assert set(schema["required"]) <= set(raw)
    assert set(raw) <= set(schema["properties"])
    if name != "query":
        assert set(raw) == set(schema["properties"]), "an example that lacks a key is older than the code"
    model.model_validate_json(text)


@pytest.mark.parametrize("block", of_kind("json"), ids=str)
def test_payloads_are_valid(block: Block) -> None:
    check_payload(block.text)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"question": "x", "camera": "y"}', AssertionError),
        ('{"id": "a", "seq": -1, "text": ""}', ValidationError),
        ('{"id": "a", "status": "ok", "answer": "x"}', AssertionError),
        ('{"question": ""}', ValidationError),
    ],
)
def test_the_payload_check_can_fail(text: str, fault: type[Exception]) -> None:
    with pytest.raises(fault):
        check_payload(text)


# -- words -----------------------------------------------------------------------------------------------------------


def links(path: Path) -> Iterator[str]:
    return (link for link in re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8")) if "://" not in link)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    assert [link for link in links(path) if not (path.parent / link).exists()] == []


def test_mqtt_page_names_every_topic() -> None:
    from daemon.topics import Topics

    topics, text = Topics("longwatch"), (ROOT / "docs" / "mqtt.md").read_text(encoding="utf-8")
    per_camera: list[Callable[[str], str]] = [topics.camera_available, topics.camera_state, topics.snapshot]
    names = [topics.available, topics.status, topics.query, topics.answer("<id>"), topics.chunk(topics.answer("<id>"))]
    names += [call("<camera>") for call in per_camera]
    for name in [*names, topics.evidence("<id>", 0).replace("/0", "/<n>"), "longwatch/<camera>/query"]:
        assert f"| `{name}` |" in text, name


def test_camera_page_names_every_reason() -> None:
    from daemon.checks import _CAMERA_WAY_OUT

    text = (ROOT / "docs" / "cameras.md").read_text(encoding="utf-8")
    assert [reason for reason in (*_CAMERA_WAY_OUT, "ended") if f"`{reason}` |" not in text] == []


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 200
