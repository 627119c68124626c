"""docs/methods.md and the stages' pages say what the tables hold, and account for every paper asked for."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from daemon import methods_page
from daemon.measured import Measured
from daemon.papers import STAGES, Entry, papers, peers, published, shelf
from daemon.stage_page import options
from tests.conformance.test_tables import STAGES as CONFORMING

HERE = published()
ASKED = papers()
PAGES = methods_page.pages()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_the_pages_are_fresh(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == PAGES[path], "run: python -m daemon.methods_page"


def test_no_page_is_left_over() -> None:
    assert {path for path in PAGES if path.parent.name == "methods"} == set((methods_page.DOCS / "methods").iterdir())


def test_every_stage_has_a_page() -> None:
    assert {stage.key for stage in STAGES} == {*CONFORMING, "memory.positions"}


def test_the_pages_name_every_method_and_option() -> None:
    for item in shelf():
        text = PAGES[methods_page.DOCS / "methods" / f"{item.stage.name}.md"]
        assert f"## `{item.name}`" in text
        assert item.paper.title in text
        assert item.paper.differs in text
        for field in options(item):
            assert f"- Option `{field.name}`" in text
            assert re.search(rf"\b{field.name}\b", item.method.__doc__), f"{item.name}: what is {field.name}?"


def test_all_59_papers_are_on_the_page_once() -> None:
    assert len(ASKED) == 59
    for kind in ("name", "link", "title"):
        counted = Counter(getattr(entry, kind) for entry in (*ASKED, *peers()))
        assert [value for value, count in counted.items() if count > 1] == []
    rows = [line for line in methods_page.overview().splitlines() if line.startswith("| [")]
    for entry in ASKED:
        (row,) = [line for line in rows if line.startswith(f"| [{entry.name}]({entry.link}) |")]
        assert f"| {entry.licence} |" in row
        assert "``" not in row, "a fidelity"


@pytest.mark.parametrize("entry", ASKED, ids=lambda entry: entry.name)
def test_a_paper_is_here_or_says_why_not(entry: Entry) -> None:
    if entry.link in HERE:
        assert (entry.stage, entry.absent, entry.why) == ("", "", ""), "it is here: leave these out"
    else:
        assert entry.absent in ("needs weights", "missing")
        assert entry.stage in {stage.name for stage in STAGES}
        assert len(entry.why) > 20


@pytest.mark.parametrize("entry", peers(), ids=lambda entry: entry.name)
def test_of_a_peer_something_is_here(entry: Entry) -> None:
    assert entry.link in HERE
    assert not entry.absent


def test_every_published_method_belongs_to_a_paper_on_the_list() -> None:
    known = {entry.link for entry in (*ASKED, *peers())}
    assert {link: [item.name for item in items] for link, items in HERE.items() if link not in known} == {}


def test_faithful_methods_say_whose_they_are_and_how_they_differ() -> None:
    for item in shelf():
        if item.paper.fidelity == "baseline":
            continue
        assert item.paper.link, f"{item.stage.key} {item.name}"
        assert item.paper.differs, f"{item.stage.key} {item.name}"


def test_links_into_the_pages_have_their_heading() -> None:
    for name, anchor in re.findall(r"\(methods/(\w+)\.md#(\w+)\)", methods_page.overview()):
        assert f"\n## `{anchor}`\n" in PAGES[methods_page.DOCS / "methods" / f"{name}.md"]


def test_the_counts_add_up() -> None:
    (line,) = [line for line in methods_page.overview().splitlines() if line.startswith("Of 59 papers")]
    assert sum(map(int, re.findall(r"(\d+) `", line))) == 59


ROWS = [
    {"stage": "reduce", "method": "m3", "budget": "4", "geometry": "tiny", "ms": 0.1, "accuracy": 80.0},
    {"stage": "reduce", "method": "m3", "budget": "2", "geometry": "tiny", "gain": {"points": -1.25, "within": 2.0}},
    {"stage": "reduce", "method": "m3", "budget": "1", "geometry": "tiny", "gain": {"points": 3, "within": 0.04}},
    {"stage": "reduce", "method": "m3", "budget": "49", "geometry": "0.5b", "ms": 1.234},
    {"stage": "reduce", "method": "m3", "budget": "4", "geometry": "0.5b", "ms": 55.5},
    {"stage": "gate", "method": "still", "budget": "1/2", "geometry": "tiny", "ms": 0.0456},
    {"stage": "gate", "method": "still", "budget": "1/4", "geometry": "tiny", "ms": None},
]


def test_what_the_bench_found_is_told_shortly(tmp_path: Path) -> None:
    path = tmp_path / "methods.json"
    path.write_text(json.dumps({"rows": ROWS}))
    known = Measured.read(path)
    assert known.cost("reduce", "m3") == "1.2 to 56 ms"
    assert known.gain("reduce", "m3") == "2: -1.2 ± 2.0, 1: +3.0 ± 0.0"
    assert known.cost("gate", "still") == "0.046 ms"
    assert known.cost("gate", "grt") == known.gain("gate", "still") == ""
    assert Measured.read(tmp_path / "none.json").rows == {}


def test_the_table_tells_it(tmp_path: Path) -> None:
    path = tmp_path / "methods.json"
    path.write_text(json.dumps({"rows": ROWS}))
    (entry,) = [entry for entry in ASKED if entry.name == "M3"]
    row = methods_page._row(entry, HERE[entry.link], Measured.read(path))
    assert row[4:6] == ("1.2 to 56 ms", "2: -1.2 ± 2.0, 1: +3.0 ± 0.0")
    assert methods_page._row(entry, HERE[entry.link], Measured())[4:6] == ("", "")
