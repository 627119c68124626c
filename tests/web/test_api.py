"""The JSON API of a running daemon: what it gives, and that whatever is wrong is said and costs nothing."""

from __future__ import annotations

import asyncio
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Route

from daemon.wire import AnswerWire, CameraState, DaemonStatus
from stream.model.llava_onevision import LlavaOnevision
from tests.web.running import TOKEN, House, at_home, events, until


async def test_status_and_cameras(house: House) -> None:
    await house.feed(3)
    status = DaemonStatus.model_validate((await house.get("/status")).json())
    assert status.cameras_total == 2
    found = (await house.get("/cameras")).json()["cameras"]
    assert [CameraState.model_validate(item).camera for item in found] == ["door", "yard"]
    door = (await house.get("/cameras/door")).json()
    assert door["archived"] == 3
    assert door["archive_from"] <= door["archive_to"]
    assert (await house.get("/cameras/yard")).json()["picture"] is None


async def test_the_snapshot_is_sent_once(house: House) -> None:
    assert (await house.get("/cameras/door/snapshot.jpg")).status_code == 404
    await house.feed(1)
    first = await house.get("/cameras/door/snapshot.jpg")
    assert (first.status_code, first.headers["content-type"], first.content[:2]) == (200, "image/jpeg", b"\xff\xd8")
    again = await house.get("/cameras/door/snapshot.jpg", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    await house.feed(1)
    newer = await house.get("/cameras/door/snapshot.jpg", headers={"If-None-Match": first.headers["etag"]})
    assert newer.status_code == 200
    assert newer.content != first.content


async def test_an_answer_as_json_with_its_pictures(house: House) -> None:
    await house.feed(6)
    reply = await house.ask({"question": "what is visible now?", "cameras": ["door"], "id": "a1"})
    answer = AnswerWire.model_validate(reply.json())
    assert (reply.status_code, answer.id, answer.status) == (200, "a1", "ok")
    assert answer.memory.carriers == 6
    assert answer.evidence
    for number, item in enumerate(answer.evidence):
        assert item.frame is not None
        picture = await house.get(f"/answers/a1/evidence/{number}.jpg")
        assert (picture.status_code, picture.content[:2]) == (200, b"\xff\xd8")
    assert (await house.get("/answers/a1/evidence/9.jpg")).status_code == 404
    again = await house.ask({"question": "what is visible now?", "cameras": ["door"], "id": "a1"})
    assert again.json() == reply.json()
    other = await house.ask({"question": "and then?", "id": "a1"})
    assert (other.status_code, list(other.json())) == (409, ["error"])


async def test_an_answer_word_by_word(house: House) -> None:
    await house.feed(4)
    reply = await house.ask("what is visible now?", headers={"Accept": "text/event-stream"})
    assert reply.headers["content-type"].startswith("text/event-stream")
    found = events(reply.text)
    *chunks, (last, answer) = found
    assert last == "answer"
    assert [kind for kind, _ in chunks] == ["chunk"] * len(chunks)
    assert [item["seq"] for _, item in chunks] == list(range(len(chunks)))
    assert answer["answer"].startswith("".join(item["text"] for _, item in chunks).split("\n")[0])
    assert house.app.answered == 1


async def test_a_caller_who_leaves_costs_nothing(house: House) -> None:
    await house.feed(2)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(house.ask({"question": "what?", "id": "gone"}), 0.001)
    reply = await house.ask({"question": "what is visible now?"})
    assert reply.json()["status"] in ("ok", "no_evidence")


async def test_the_timeline_has_memory_archive_gaps_and_pictures(house: House) -> None:
    now_s = time.time()
    await house.feed(12, every_s=10.0, end_s=now_s)
    house.app.gaps.down("door", now_s - 500, "unreachable")
    house.app.gaps.up("door", now_s - 300)
    reply = await house.get(f"/cameras/door/timeline?since={now_s - 600}&until={now_s + 1}&resolution=60")
    found = reply.json()
    assert reply.status_code == 200
    assert found["bin_s"] == pytest.approx(601 / 60)
    assert sum(item["carriers"] for item in found["bins"]) == 12
    assert 0 < len(found["held"]) <= 8  # the bank is full, the archive has all
    assert [(gap["since"], gap["until"], gap["reason"]) for gap in found["gaps"]] == [
        (now_s - 500, now_s - 300, "unreachable")
    ]
    assert found["keyframes"]
    for item in found["keyframes"]:
        picture = await house.client.get(item["picture"])
        assert picture.status_code == 200
        assert float(picture.headers["moment-from"]) == pytest.approx(item["t"], abs=0.01)


async def test_a_later_look_finds_the_same_pictures(house: House) -> None:
    now_s = time.time()
    await house.feed(40, every_s=10.0, end_s=now_s - 1)  # clear of the range's end, which is rounded
    looks = []
    for later_s in (0.0, 3.001, 7.0):
        query = f"since={now_s - 300 + later_s:.3f}&until={now_s + later_s:.3f}&resolution=60"
        found = (await house.get(f"/cameras/door/timeline?{query}")).json()["keyframes"]
        looks.append([item["picture"] for item in found])
    assert 12 < len(looks[0]) <= 24
    assert looks[1] == [path for path in looks[0] if path in looks[1]]  # less those that are too old by now
    assert looks[2] == [path for path in looks[1] if path in looks[2]]
    assert len(looks[2]) >= len(looks[0]) - 1
    within = await house.get(f"/cameras/door/timeline?since={now_s - 9}&until={now_s - 1}&resolution=10")
    assert len(within.json()["keyframes"]) <= 1  # nothing began, but a carrier may reach into it


async def test_a_long_span_fills_its_bins(house: House) -> None:
    now_s = time.time()
    await house.feed(1, end_s=now_s - 100)
    house.app.keeper.grew("door", 0, now_s)
    await house.feed(1, end_s=now_s + 1)
    found = (await house.get(f"/cameras/door/timeline?since={now_s - 100}&until={now_s}&resolution=10")).json()
    assert len(found["bins"]) == 10
    assert [item["carriers"] for item in found["bins"]] == [1] + [0] * 9


async def test_the_picture_nearest_to_a_moment(house: House) -> None:
    now_s = time.time()
    await house.feed(5, every_s=60.0, end_s=now_s)
    exact = await house.get(f"/cameras/door/moments/{now_s - 60}.jpg")
    near = await house.get(f"/cameras/door/moments/{now_s - 75}.jpg")
    long_ago = await house.get("/cameras/door/moments/0.jpg")
    assert exact.content == near.content != long_ago.content
    assert float(long_ago.headers["moment-from"]) == pytest.approx(now_s - 240, abs=0.01)
    assert (await house.get("/cameras/yard/moments/5.jpg")).status_code == 404


async def test_viewers_see_cameras_and_counts_change(house: House) -> None:
    text = ""
    async with house.client.stream("GET", "/api/v1/events") as reply:
        async for piece in reply.aiter_text():
            before, text = text, text + piece
            if not before:
                await house.feed(1)
            seen = [data for kind, data in events(text.rpartition("\n\n")[0]) if kind == "camera"]
            if any(data["picture"] for data in seen):
                break
    assert {"status", "camera"} <= {kind for kind, _ in events(text.rpartition("\n\n")[0])}
    await until(lambda: len(house.site.viewers) == 0)


async def test_a_slow_viewer_loses_and_is_told(house: House) -> None:
    from daemon.web.viewers import QUEUED, Viewer, event

    viewer = Viewer(house.app.counters)
    for number in range(QUEUED + 5):
        viewer.put(event("n", str(number)))
    stream = viewer.events()
    assert events((await anext(stream)).decode()) == [("lost", {"lost": 5})]
    assert (await anext(stream)) == event("n", "5")


BAD = [
    ("GET", "/nothing", None, 404),
    ("GET", "/cameras/dor", None, 404),
    ("GET", "/cameras/%2e%2e", None, 404),
    ("GET", "/cameras/dor/snapshot.jpg", None, 404),
    ("GET", "/cameras/dor/timeline", None, 404),
    ("GET", "/cameras/door/timeline?since=yesterday", None, 400),
    ("GET", "/cameras/door/timeline?since=nan", None, 400),
    ("GET", "/cameras/door/timeline?since=1795183200000", None, 400),
    ("GET", "/cameras/door/timeline?since=20&until=10", None, 400),
    ("GET", "/cameras/door/timeline?since=-1", None, 400),
    ("GET", "/cameras/door/timeline?since=2026-13-45", None, 400),
    ("GET", "/cameras/door/timeline?resolution=501", None, 400),
    ("GET", "/cameras/door/timeline?resolution=0", None, 400),
    ("GET", "/cameras/door/timeline?resolution=x", None, 400),
    ("GET", "/cameras/door/timeline?sinse=5", None, 400),
    ("GET", "/cameras/door/moments/x.jpg", None, 400),
    ("GET", "/cameras/door/moments/1e400.jpg", None, 400),
    ("GET", "/answers/none/evidence/0.jpg", None, 404),
    ("GET", "/answers/a b/evidence/0.jpg", None, 400),
    ("GET", "/answers/none/evidence/x.jpg", None, 400),
    ("GET", "/ask", None, 405),
    ("POST", "/status", b"", 405),
    ("POST", "/ask", b"", 400),
    ("POST", "/ask", b"{", 400),
    ("POST", "/ask", b"\xff\xfe", 400),
    ("POST", "/ask", b'{"queston": "what?"}', 400),
    ("POST", "/ask", b'{"question": "what?", "cameras": ["dor"]}', 400),
    ("POST", "/ask", b'{"question": "what?", "since": 5, "until": 4}', 400),
    ("POST", "/ask?x=1", b"what?", 400),
    ("POST", "/ask", b"x" * 2001, 413),
]


async def test_bad_requests_are_told_what_is_wrong(house: House) -> None:
    for method, path, body, status in BAD:
        reply = await house.client.request(method, f"/api/v1{path}", content=body)
        assert reply.status_code == status, (path, reply.text)
        assert reply.json()["error"], path
    assert "did you mean 'door'" in (await house.get("/cameras/dor")).text
    cross = await house.get("/status", headers={"Sec-Fetch-Site": "cross-site"})
    assert cross.status_code == 403
    assert (await house.get("/status")).status_code == 200


async def test_the_document_has_every_route_and_no_other(house: House) -> None:
    found = (await house.get("/openapi.json")).json()
    documented = {(path, method.upper()) for path, item in found["paths"].items() for method in item}
    served: set[tuple[str, str]] = set()
    for route in house.site.api.mount().routes:
        assert isinstance(route, Route)
        served |= {(route.path, method) for method in route.methods or () if method != "HEAD"}
    assert documented == served
    text = json.dumps(found)
    for name in re.findall(r"#/components/schemas/(\w+)", text):
        assert name in found["components"]["schemas"]
    for path, item in found["paths"].items():
        for operation in item.values():
            named = {param["name"] for param in operation.get("parameters", []) if param["in"] == "path"}
            assert named == set(re.findall(r"{(\w+)}", path))


async def test_a_token_guards_everything_but_the_form(model: LlavaOnevision, tmp_path: Path) -> None:
    async with at_home(model, tmp_path, TOKEN) as house:
        for path in ("/api/v1/status", "/api/v1/events", "/"):
            reply = await house.client.get(path)
            assert (reply.status_code, list(reply.json())) == (401, ["error"])
        assert (await house.get("/status", headers={"Authorization": f"Bearer {TOKEN}"})).status_code == 200
        form = await house.client.get("/", headers={"Accept": "text/html"})
        assert (form.status_code, form.headers["location"]) == (303, "/login?next=/")
        login = await house.client.get("/login")
        assert "token" in login.text
        assert login.headers["referrer-policy"] == "same-origin"  # else the form's origin is `null`, which is refused
        assert (await house.client.get("/static/style.css")).status_code == 200
        assert (await house.client.post("/login", data={"token": "wrong"})).status_code == 401
        opened = await house.client.post("/login?next=//evil.example", data={"token": TOKEN})
        assert (opened.status_code, opened.headers["location"]) == (303, "/")
        assert (await house.get("/status")).status_code == 200  # by the cookie


async def test_an_erased_time_is_gone_from_answers_and_snapshots(house: House) -> None:
    await house.feed(3)
    answer: dict[str, Any] = (await house.ask({"question": "what is visible now?", "id": "e1"})).json()
    number = next(number for number, item in enumerate(answer["evidence"]) if item["frame"])
    house.app._on_erased(None, 0.0, time.time() + 10)
    await asyncio.sleep(0.05)
    assert (await house.get(f"/answers/e1/evidence/{number}.jpg")).status_code == 404
    assert (await house.get("/cameras/door/snapshot.jpg")).status_code == 404
