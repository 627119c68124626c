"""The diary over HTTP: lines of a time, of a camera, with words in them; and what is wrong is said."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from memory.archive import Line
from stream.model.llava_onevision import LlavaOnevision
from tests.web.running import House, at_home, until


async def told(house: House, query: str = "") -> Any:
    reply = await house.get(f"/diary{query}")
    assert reply.status_code == 200, reply.text
    return reply.json()


async def test_lines_of_a_time_a_camera_and_words(model: LlavaOnevision, tmp_path: Path) -> None:
    async with at_home(model, tmp_path, diary={"enabled": False}) as house:  # it writes no lines of its own
        await lines_are_found(house)


async def lines_are_found(house: House) -> None:
    now_s, keeper, reader = time.time(), house.app.keeper, house.app.keeper.reader()
    assert reader is not None
    assert await told(house) == {"written": False, "lines": []}
    for camera, ago_s, text in (
        ("door", 7200, "a red car stops"),
        ("yard", 600, "two dogs run"),
        ("door", 60, "a car"),
    ):
        assert keeper.tell(Line(camera, now_s - ago_s, now_s - ago_s + 5, text, model="random"))
    assert keeper.tell(Line("door", now_s - 9000, now_s - 8000, "3 events", "day"))
    await until(lambda: len(list(reader.select("SELECT 1 FROM diary", ()))) == 4)
    reader.rest()
    found = (await told(house))["lines"]
    assert [line["text"] for line in found] == ["3 events", "a red car stops", "two dogs run", "a car"]
    assert (found[1]["camera"], found[1]["kind"], found[1]["model"]) == ("door", "event", "random")
    assert found[1]["to"] - found[1]["from"] == 5
    for query, texts in {
        "?camera=yard": ["two dogs run"],
        f"?since={now_s - 700}": ["two dogs run", "a car"],
        f"?since={now_s - 7300}&until={now_s - 300}": ["a red car stops", "two dogs run"],
        "?q=cars": ["a red car stops", "a car"],
        "?q=car+NOT+red": ["a car"],
        "?kind=day": ["3 events"],
        "?limit=1": ["a car"],
        "?q=zebra": [],
    }.items():
        assert [line["text"] for line in (await told(house, query))["lines"]] == texts, query


async def test_what_is_wrong_is_said(house: House) -> None:
    assert (await told(house))["written"]
    for query, status in {
        "?camera=dor": 404,
        "?since=never": 400,
        "?since=%C2%B2": 400,  # a digit, and no number
        "?since=20&until=10": 400,
        "?q=": 400,
        "?q=%22half": 400,
        "?q=" + 501 * "x": 400,
        "?kind=week": 400,
        "?limit=0": 400,
        "?limit=1001": 400,
        "?words=car": 400,
    }.items():
        reply = await house.get(f"/diary{query}")
        assert reply.status_code == status, (query, reply.text)
        assert reply.json()["error"]
    assert "did you mean 'door'" in (await house.get("/diary?camera=dor")).text
