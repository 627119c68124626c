"""What README.md and docs/ tell people to type works: commands, make targets, configurations, payloads, links."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from daemon import __main__ as cli
from daemon import unit
from daemon.methods import check_methods
from daemon.settings import Settings, parse
from daemon.yamlfile import read_yaml
from stream.errors import ConfigError
from tests.fakes import make_video
from tests.models import save_random
from tests.pages import ALL, COMMANDS, PAGES, ROOT, Block, of_kind, option, program, watches

# shell words that are the system's own; what they do to it cannot be tried in a test
SYSTEM = {"systemctl", "journalctl", "install", "cp", "apt-get"}
RUN_FOR_REAL = {"check", "replay", "unit", "watch"}
GROUPS = {"archive", "watch"}  # their options are those of `archive stats` and the like
INSTALLED = Path("/opt/longwatch/.venv/bin/longwatch")


def having(*programs: str) -> Any:
    found = [(place, words) for place, words in COMMANDS if program(words) in programs]
    return pytest.mark.parametrize(("place", "words"), found, ids=[place for place, _ in found])


def test_the_pages_hold_what_is_checked_here() -> None:
    """Else a new spelling of the fences would make every test below pass by finding nothing."""
    counts = {kind: len(of_kind(kind)) for kind in ("sh", "yaml", "json")}
    assert all(count >= 4 for count in counts.values()), counts
    assert {program(words) for _, words in COMMANDS} >= {"longwatch", "make", "mosquitto_pub", "mosquitto_sub"}
    assert {block.kind for block in ALL} <= {"sh", "yaml", "json", "text", ""}
    assert [str(block) for block in ALL if block.kind == "" and block.page != "README.md"] == []


def test_no_command_goes_unchecked() -> None:
    """Those that need a running daemon are also run: `tests/system/test_docs.py`."""
    checked = {"longwatch", "make", "curl", "mosquitto_pub", "mosquitto_sub", "mosquitto_rr", *SYSTEM}
    assert [(place, words) for place, words in COMMANDS if program(words) not in checked] == []


# -- longwatch -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random(tmp_path_factory.mktemp("checkpoint") / "random")


@pytest.fixture
def desk(tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the pages speak of; its configuration has the standing questions of all pages."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(unit, "installation", lambda: (INSTALLED, ()))
    make_video(tmp_path / "clip.mp4", frames=30)
    (tmp_path / "truth.json").write_text('{"spans": [[0.5, 1.5]]}', encoding="utf-8")
    raw = yaml.safe_load((ROOT / "configs" / "example.yaml").read_text(encoding="utf-8"))
    watch = {name: {**spec, "cameras": []} for name, spec in watches().items()}
    raw |= {"model": {"path": str(checkpoint)}, "watch": {**raw["watch"], **watch}}
    (tmp_path / "longwatch.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
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
        assert capfd.readouterr().out or command == "watch"  # nothing happens in the clip
        return
    assert options_exist(command, args, monkeypatch, capfd), place


def options_exist(
    command: str, args: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> bool:
    """Whether `longwatch command` has every option in `args`, by its own help."""
    capfd.readouterr()
    monkeypatch.setenv("COLUMNS", "200")
    group = args[:1] if command in GROUPS else []
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


# what may be published, and the schema of its payload when it is JSON
TAKEN = {
    r"longwatch/([a-z0-9_]+/)?query": "query",
    r"longwatch/watch/[a-z0-9_]+/set": "watch",
    r"longwatch/[a-z0-9_]+/enabled/set": "",
    r"longwatch/forget": "forget",
    r"longwatch/diary": "diary_query",
}


@having("mosquitto_pub", "mosquitto_rr")
def test_what_is_published_is_taken(place: str, words: list[str]) -> None:
    topic, payload = option(words, "-t"), option(words, "-m") or ""
    schema = next((name for pattern, name in TAKEN.items() if re.fullmatch(pattern, topic or "")), None)
    assert schema is not None, f"{place}: nobody listens to {topic}"
    if payload.startswith("{"):
        jsonschema.validate(json.loads(payload), read_schema(schema))


@having("mosquitto_sub", "mosquitto_rr")
def test_what_is_subscribed_to_is_published(place: str, words: list[str]) -> None:
    text = (ROOT / "docs" / "mqtt.md").read_text(encoding="utf-8")
    known = [*re.findall(r"^\| `([^`]+)` \| out", text, re.MULTILINE), "homeassistant/device/<id>/config"]
    topic = option(words, "-e", "-t") or ""
    assert any(overlaps(topic, name) for name in known), f"{place}: nothing comes on {topic}"


def overlaps(pattern: str, name: str) -> bool:
    """Whether a subscription (`+`, `#`) can meet a topic with places to fill in (`<id>`)."""
    parts, names = pattern.split("/"), name.split("/")
    if "#" in parts:
        parts = parts[:-1]
        names = names[: len(parts)]
    pairs = zip(parts, names, strict=False)
    return len(parts) == len(names) and all(part in ("+", name) or name.startswith("<") for part, name in pairs)


def test_the_topic_check_can_fail() -> None:
    assert overlaps("longwatch/answer/#", "longwatch/answer/<id>/chunk")
    assert overlaps("longwatch/+/state", "longwatch/<camera>/state")
    assert not overlaps("longwatch/answers/#", "longwatch/answer/<id>")
    assert not overlaps("longwatch/door", "longwatch/<camera>/state")


# -- configurations and payloads -------------------------------------------------------------------------------------


def settings_of(text: str, folder: Path) -> Settings:
    """A block as a whole file; a section alone gets the cameras beside it that it speaks of."""
    path = folder / "block.yaml"
    path.write_text(text, encoding="utf-8")
    raw = read_yaml(path)
    named = [name for spec in (raw.get("watch") or {}).values() for name in spec.get("cameras", [])]
    settings = parse(
        {"cameras": {name: {"url": f"rtsp://{name}.example/sub"} for name in ["door", *named]}, **raw}, str(path)
    )
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


def read_schema(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "daemon" / "schemas" / f"{name}.json").read_text(encoding="utf-8"))
    return found


SCHEMAS = {path.stem: read_schema(path.stem) for path in (ROOT / "daemon" / "schemas").glob("*.json")}
# what others send refuses unknown keys; of what we send an example shows every key there is
IN = {name for name, schema in SCHEMAS.items() if schema.get("additionalProperties") is False}


def check_payload(text: str) -> str:
    """The name of the schema file that a payload fits."""
    raw = json.loads(text)
    alike = max(SCHEMAS, key=lambda name: len(set(raw) & set(SCHEMAS[name]["properties"])) - (name not in IN) / 2)
    fits = [name for name, schema in SCHEMAS.items() if not faults(name, schema, raw)]
    assert fits, f"most like {alike}: " + "; ".join(faults(alike, SCHEMAS[alike], raw))
    return fits[0]


def faults(name: str, schema: dict[str, Any], raw: dict[str, Any]) -> list[str]:
    found = [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(raw)]
    found += [f"there is no {key!r}" for key in set(raw) - set(schema["properties"])]
    missing = set() if name in IN else set(schema["properties"]) - set(raw)
    return found + [f"{key!r} is missing: the example is older than the code" for key in missing]


@pytest.mark.parametrize("block", of_kind("json"), ids=str)
def test_payloads_are_valid(block: Block) -> None:
    check_payload(block.text)


@pytest.mark.parametrize(
    "text",
    [
        '{"question": "x", "camera": "y"}',
        '{"id": "a", "seq": -1, "text": ""}',
        '{"id": "a", "status": "ok", "answer": "x"}',
        '{"question": ""}',
        '{"question": "is it so?", "for": 3}',
    ],
)
def test_the_payload_check_can_fail(text: str) -> None:
    with pytest.raises(AssertionError):
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
