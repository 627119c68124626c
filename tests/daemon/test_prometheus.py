"""What /metrics says is read by Prometheus' own parser, is all in the table, and is all that the dashboard asks for."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from daemon.metrics import Counters
from daemon.prometheus import COUNTED, MARK, PAGE, TABLE, catalogue, exposition, table
from tests.daemon.looks import make_overview

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = ROOT / "docs" / "grafana.json"
_FUNCTIONS = {"count": "count", "gauge": "gauge", "observe": "observe"}


def counters() -> Counters:
    """Every name that the table knows, once."""
    found = Counters()
    for name, (_, labels) in COUNTED.items():
        record = found.observe if name.endswith("_ms") else found.count
        record(name, 250.0, **dict.fromkeys(labels, 'ok "x"\n\\'))
    return found


def families() -> dict[str, Any]:
    return {family.name: family for family in text_string_to_metric_families(exposition(make_overview(), counters()))}


def sample(name: str, **labels: str) -> float:
    """The one value with this name and at least these labels."""
    found = [
        item.value
        for family in families().values()
        for item in family.samples
        if item.name == name and labels.items() <= item.labels.items()
    ]
    assert len(found) == 1, (name, labels, found)
    return float(found[0])


def test_values_come_through() -> None:
    assert sample("longwatch_camera_state", camera="yard", state="offline") == 1
    assert sample("longwatch_camera_state", camera="yard", state="online") == 0
    assert sample("longwatch_camera_frames_total", camera="door", result="skipped") == 58
    assert sample("longwatch_camera_memory_seconds", camera="door") == pytest.approx(7500)
    assert sample("longwatch_camera_gap_seconds", camera="yard") == 600
    assert sample("longwatch_process_memory_bytes") == 300 * 2**20
    assert sample("longwatch_archive_commit_seconds", quantile="0.99") == 0.01
    assert sample("longwatch_answer_seconds", quantile="0.95") == 0.25  # milliseconds where they are counted
    assert sample("longwatch_answer_seconds_count") == 1
    assert sample("longwatch_answers_total") == 250


def test_labels_are_escaped() -> None:
    info = families()["longwatch_info"].samples[0]
    assert info.labels["model"] == 'tiny "quoted" \\ and\nbroken'
    assert families()["longwatch_answers"].samples[0].labels["status"] == 'ok "x"\n\\'


def test_every_name_stands_once_with_help_and_type() -> None:
    lines = exposition(make_overview(), counters()).splitlines()
    types = [line.split()[2] for line in lines if line.startswith("# TYPE ")]
    helps = [line.split()[2] for line in lines if line.startswith("# HELP ")]
    assert types == helps
    assert len(types) == len(set(types))
    assert set(types) == {metric.name for metric in catalogue()}
    for metric in catalogue():
        assert re.fullmatch(r"longwatch_[a-z_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")


def test_what_is_not_known_is_left_out() -> None:
    text = exposition(make_overview(cameras=(), gaps={}, broker=None, archive=None, parts={}), Counters())
    names = {family.name for family in text_string_to_metric_families(text)}
    assert "longwatch_mqtt_connected" not in names
    assert not any(name.startswith("longwatch_camera") for name in names)


def test_a_counter_that_nobody_described_goes_out_too() -> None:
    found = Counters()
    found.count("brand_new", camera="door")
    found.gauge("brand_level", 0.5)
    names = {family.name for family in text_string_to_metric_families(exposition(make_overview(), found))}
    assert {"longwatch_brand_new", "longwatch_brand_level"} <= names


def counted_in_code() -> set[str]:
    """Names that are written out where something is counted."""
    found = set()
    for path in [item for part in ("daemon", "memory", "stream") for item in (ROOT / part).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
                continue
            name, owner = node.args[0], ast.unparse(node.func.value)
            counts = node.func.attr in _FUNCTIONS and owner.endswith("counters")
            if counts and isinstance(name, ast.Constant) and isinstance(name.value, str):
                found.add(name.value)
    return found


def test_everything_that_is_counted_is_described() -> None:
    assert counted_in_code() <= COUNTED.keys()


def test_the_page_is_fresh() -> None:
    """`python -m daemon.prometheus` writes it."""
    assert PAGE.read_text(encoding="utf-8").partition(MARK)[1:] == (MARK, table().removeprefix(MARK))


def test_the_dashboard_asks_for_nothing_that_is_not_there() -> None:
    given = {item.name for family in families().values() for item in family.samples}
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    queries += [item["query"]["query"] for item in dashboard["templating"]["list"] if item["type"] == "query"]
    assert len(queries) >= 12
    for query in queries:
        assert (asked := set(re.findall(r"\blongwatch_\w+", query)))
        assert asked <= given, query


def test_the_dashboard_is_whole() -> None:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    assert dashboard["schemaVersion"] >= 39  # Grafana 11
    assert any(
        item["type"] == "datasource" and item["query"] == "prometheus" for item in dashboard["templating"]["list"]
    )
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    places = [
        (x, y)
        for panel in dashboard["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(places) == len(set(places))
    assert all(x < 24 for x, _ in places)
    for panel in dashboard["panels"]:
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["title"]


def test_the_table_repeats_no_name() -> None:
    assert len(TABLE) == len({metric.name for metric in TABLE})
