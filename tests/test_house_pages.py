"""What docs/home_assistant.md and docs/frigate.md tell people to paste is what it says."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2.nativetypes import NativeEnvironment

from daemon.hass import device
from daemon.settings import parse
from daemon.topics import Topics

DOCS = Path(__file__).resolve().parents[1] / "docs"
FILES = sorted((DOCS / "home_assistant").glob("*.yaml"))


class Loader(yaml.SafeLoader):
    """YAML with Home Assistant's `!input`."""


Loader.add_constructor("!input", lambda loader, node: f"input {loader.construct_scalar(node)}")  # type: ignore[arg-type]


def load(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), Loader)
    return found


def entities() -> set[str]:
    """The entities that Home Assistant makes of our announcement: the device's name, then the component's."""
    raw = {"cameras": {"front_door": {"url": "a"}}}
    parts = device(parse(raw, "test"), Topics("longwatch"))["cmps"].values()
    return {f"{part['p']}.longwatch_{part['name'].lower().replace(' ', '_')}" for part in parts}


def test_there_are_two_automations_and_a_blueprint() -> None:
    assert [path.name.partition("_")[0] for path in FILES] == ["automation", "automation", "blueprint"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_is_an_automation(path: Path) -> None:
    raw = load(path)
    assert raw["triggers"]
    assert raw["actions"]
    assert all("trigger" in item for item in raw["triggers"])
    assert all({"action", "delay", "wait_template"} & set(item) for item in raw["actions"])
    if "blueprint" in raw:
        wanted = set(re.findall(r"!input (\w+)", path.read_text(encoding="utf-8")))
        assert wanted == set(raw["blueprint"]["input"])
        assert raw["blueprint"]["domain"] == "automation"
    else:
        assert raw["alias"]
    for item in raw["triggers"]:
        if item["trigger"] == "mqtt":
            assert item["topic"] == Topics("longwatch").last_answer


def test_an_answer_that_the_broker_kept_is_not_told_again() -> None:
    """Home Assistant gets it at each of its starts, and an automation cannot see that a message was retained."""
    condition = load(DOCS / "home_assistant" / "automation_answer.yaml")["conditions"][0]["value_template"]
    expression = NativeEnvironment().from_string(condition)

    def told(status: str, answered_at: float) -> object:
        payload = {"status": status, "answered_at": answered_at}
        return expression.render(now=lambda: datetime.fromtimestamp(1000.0, UTC), trigger={"payload_json": payload})

    assert [told("ok", 995.0), told("ok", 900.0), told("error", 995.0)] == [True, False, False]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_page_shows_each_file_whole(path: Path) -> None:
    page = (DOCS / "home_assistant.md").read_text(encoding="utf-8")
    assert f"```text\n{path.read_text(encoding='utf-8')}```\n" in page
    assert f"(home_assistant/{path.name})" in page


@pytest.mark.parametrize("path", [DOCS / "home_assistant.md", *FILES], ids=lambda path: path.stem)
def test_the_entities_exist(path: Path) -> None:
    named = set(
        re.findall(r"\b(?:text|sensor|image|binary_sensor|switch)\.longwatch_[a-z_]*[a-z]", path.read_text("utf-8"))
    )
    assert named <= entities(), named - entities()
    if path.suffix == ".md":
        assert len(named) >= 4
