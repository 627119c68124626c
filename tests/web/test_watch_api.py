"""Standing questions over HTTP: set, changed, told live, looked up, removed; what is wrong is said with its place."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from daemon.desk import Delivery
from daemon.web.wire import PastWire, WatchesWire, WatchWire
from daemon.wire import EventWire
from tests.web.running import House, Says, events, until

CAR = {"question": "is there a red car?", "cameras": ["door"], "debounce_s": 0.0, "severity": "alert"}


async def put(house: House, name: str, spec: object) -> Any:
    content = spec if isinstance(spec, bytes) else json.dumps(spec)
    return await house.client.put(f"/api/v1/watch/{name}", content=content)


async def happen(house: House, says: Says) -> None:
    """It becomes so, and is over."""
    watch = house.app.watch
    says.probability = 0.9
    await house.feed(1)
    await until(lambda: watch.state("car").state == "ON")
    says.probability = 0.1
    await house.feed(1)
    await until(lambda: watch.state("car").state == "OFF")


async def test_set_list_change_and_remove(house: House) -> None:
    assert (await house.get("/watch")).json() == {"watches": []}
    first = await put(house, "car", CAR)
    assert first.status_code == 200
    found = WatchWire.model_validate(first.json())
    assert (found.state.state, found.removable, found.configured) == ("OFF", True, False)
    assert (await house.get("/watch/car")).json()["spec"]["severity"] == "alert"
    await put(house, "car", {**CAR, "enabled": False})
    (only,) = WatchesWire.model_validate((await house.get("/watch")).json()).watches
    assert (only.name, only.spec.enabled, only.state.enabled) == ("car", False, False)
    gone = await house.client.delete("/api/v1/watch/car")
    assert (gone.status_code, gone.json()["spec"]["enabled"]) == (200, False)
    assert (await house.get("/watch/car")).status_code == 404
    assert (await house.client.delete("/api/v1/watch/car")).status_code == 404


async def test_the_configurations_can_be_changed_but_not_removed(house: House) -> None:
    post = house.app.watch
    spec = post.parse(json.dumps(CAR).encode())
    post.configure(post._settings.model_copy(update={"watch": {"gate": spec}}))
    refused = await house.client.delete("/api/v1/watch/gate")
    assert refused.status_code == 409
    assert "configuration file, section watch" in refused.json()["error"]
    off = (await put(house, "gate", {**CAR, "enabled": False})).json()
    assert (off["removable"], off["configured"], off["state"]["enabled"]) == (True, True, False)
    assert (await house.client.delete("/api/v1/watch/gate")).status_code == 200
    again = (await house.get("/watch/gate")).json()
    assert (again["removable"], again["spec"]["enabled"]) == (False, True)


async def test_what_it_found_is_told_and_kept(house: House) -> None:
    says = Says(house)
    await put(house, "car", CAR)
    await happen(house, says)
    await happen(house, says)
    found = PastWire.model_validate((await house.get("/watch/car/events")).json())
    newest, oldest = found.events
    assert newest.start_time > oldest.start_time
    assert (newest.state, newest.reason, newest.cameras, newest.severity) == ("OFF", "over", ("door",), "alert")
    assert newest.end_time is not None
    (picture,) = newest.pictures
    reply = await house.client.get(picture.picture)
    assert (reply.status_code, reply.headers["content-type"], reply.content[:2]) == (200, "image/jpeg", b"\xff\xd8")
    (page,) = (await house.get(f"/watch/car/events?before={newest.start_time}")).json()["events"]
    assert page["id"] == oldest.id
    assert len((await house.get("/watch/car/events?limit=1")).json()["events"]) == 1
    await house.client.delete("/api/v1/watch/car")
    assert len((await house.get("/watch/car/events")).json()["events"]) == 2, "for who takes it back"
    house.app._on_erased("door", 0.0, time.time() + 10)
    await asyncio.sleep(0.05)
    assert (await house.get("/watch/car/events")).status_code == 404
    assert (await house.client.get(picture.picture)).status_code == 404


async def test_viewers_are_told_at_once(house: House) -> None:
    says, text, began = Says(house), "", False
    async with asyncio.timeout(20), house.client.stream("GET", "/api/v1/events") as reply:
        async for piece in reply.aiter_text():
            text += piece
            if not began:
                began = True
                await put(house, "car", CAR)
                await happen(house, says)
            seen = events(text.rpartition("\n\n")[0])
            if len([kind for kind, _ in seen if kind == "watch"]) == 2:
                break
    assert [data for kind, data in seen if kind == "watches"] == [{"names": ["car"]}]
    new, end = (EventWire.model_validate(data) for kind, data in seen if kind == "watch")
    assert (new.type, end.type, new.after.id) == ("new", "end", end.after.id)


async def test_what_the_broker_kept_from_before_does_not_come_back(house: House) -> None:
    post = house.app.watch
    topic, old = "longwatch/watch/car/set", json.dumps({**CAR, "question": "is there a blue car?"}).encode()
    post.take(Delivery(topic, old, False, None, None, None))
    await put(house, "car", CAR)
    written = list(post._written["car"])
    post.take(Delivery(topic, old, True, None, None, None))  # on the next connection
    assert post.specs()["car"].question == CAR["question"]
    post.take(Delivery(topic, written[0], False, None, None, None))  # ours comes back
    post.take(Delivery(topic, old, True, None, None, None))  # somebody's newer one
    assert post.specs()["car"].question == "is there a blue car?"


BAD = [
    ("PUT", "/watch/car", b"", 400, None),
    ("PUT", "/watch/car", b"is there a car?", 400, None),
    ("PUT", "/watch/car", b"\xff\xfe", 400, None),
    ("PUT", "/watch/car", b"[]", 400, None),
    ("PUT", "/watch/car", {}, 400, "question"),
    ("PUT", "/watch/car", {"question": " "}, 400, "question"),
    ("PUT", "/watch/car", {**CAR, "debounce_s": -1}, 400, "debounce_s"),
    ("PUT", "/watch/car", {**CAR, "debounce_s": "2"}, 400, "debounce_s"),
    ("PUT", "/watch/car", {**CAR, "on_above": 0.1}, 400, "off_below"),
    ("PUT", "/watch/car", {**CAR, "cameras": ["dor"]}, 400, "cameras"),
    ("PUT", "/watch/car", {**CAR, "schedule": [{"from": "8"}]}, 400, "schedule.0.from"),
    ("PUT", "/watch/car", {**CAR, "severety": "info"}, 400, None),
    ("PUT", "/watch/Car", CAR, 400, "name"),
    ("PUT", "/watch/car%0A", CAR, 404, None),
    ("PUT", "/watch/" + 65 * "a", CAR, 400, "name"),
    ("PUT", "/watch/car?x=1", CAR, 400, None),
    ("PUT", "/watch/car", b"x" * 2001, 413, None),
    ("POST", "/watch/car", CAR, 405, None),
    ("DELETE", "/watch/car", b"", 404, None),
    ("GET", "/watch/car", b"", 404, None),
    ("GET", "/watch/car/events", b"", 404, None),
    ("GET", "/watch/car/events?limit=0", b"", 400, None),
    ("GET", "/watch/car/events?before=x", b"", 400, None),
    ("GET", "/watch/car/events/car-1/door.jpg", b"", 404, None),
    ("GET", "/watch/car/events/car-1/dor.jpg", b"", 404, None),
]


async def test_what_is_wrong_is_said_with_its_place(house: House) -> None:
    for method, path, body, status, place in BAD:
        content = body if isinstance(body, bytes) else json.dumps(body)
        reply = await house.client.request(method, f"/api/v1{path}", content=content)
        assert reply.status_code == status, (path, body, reply.text)
        assert reply.json()["error"], path
        assert reply.json().get("place") == place, (body, reply.text)
    assert house.app.watch.specs() == {}
    assert "there are door, yard" in (await put(house, "car", {**CAR, "cameras": ["dor"]})).text
