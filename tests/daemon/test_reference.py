"""Pages and files that are made from the code are as the code says now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from daemon import reference
from daemon.house import FrigateSettings, HomeAssistantSettings
from daemon.methods import check_methods
from daemon.settings import AnswerSettings, CameraSettings, MqttSettings, Settings
from daemon.settings import load as load_settings
from daemon.stack import MemorySettings, ModelSettings
from daemon.yamlfile import read_yaml

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def test_the_configuration_page_is_fresh() -> None:
    hint = "run: python -m daemon.reference"
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), hint


def test_every_key_explains_itself() -> None:
    assert [line for line in reference.page().splitlines() if line.startswith("| `") and line.endswith("|  |")] == []


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_configuration_is_valid_as_it_stands(path: Path) -> None:
    check_methods(load_settings(path), str(path))


def test_default_yaml_is_the_codes_defaults() -> None:
    """Spelled out whole, and nothing in it differs from a file that holds one url."""
    path = CONFIGS / "default.yaml"
    raw = read_yaml(path)
    settings = load_settings(path)
    (name,) = settings.cameras
    short = Settings.model_validate({"cameras": {name: {"url": settings.cameras[name].url}}})
    assert settings == short
    sections: list[tuple[dict[str, Any], type[BaseModel]]] = [
        (raw, Settings),
        (raw["cameras"][name], CameraSettings),
        (raw["mqtt"], MqttSettings),
        (raw["model"], ModelSettings),
        (raw["memory"], MemorySettings),
        (raw["answer"], AnswerSettings),
        (raw["home_assistant"], HomeAssistantSettings),
        (raw["frigate"], FrigateSettings),
    ]
    for section, model in sections:
        assert set(section) == set(model.model_fields), f"{model.__name__}: keys of default.yaml"


def test_the_example_shows_every_section_and_two_cameras() -> None:
    raw = read_yaml(CONFIGS / "example.yaml")
    assert set(raw) == set(Settings.model_fields)
    assert len(raw["cameras"]) == 2
