"""The history of standing questions: bounded, found again after a restart, erased when asked, and no disk stops it."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.metrics import Counters
from daemon.watch import history
from daemon.watch.history import FILE, History
from daemon.wire import WatchEventWire

LATER_S = 1e9


def event(watch: str = "car", start_s: float = 1000.0, **fields: object) -> WatchEventWire:
    named = {"id": f"{watch}-{start_s:g}", "watch": watch, "question": "is there a car?", "state": "ON"}
    return WatchEventWire.model_validate({**named, "start_time": start_s, "cameras": ["door"], **fields})


def starts(found: History, watch: str = "car", before_s: float = LATER_S, most: int = 1000) -> list[float] | None:
    past = found.events(watch, before_s, most).result()
    return None if past is None else [item.event.start_time for item in past]


def open_history(folder: Path | None) -> History:
    return History(folder, Counters())


@pytest.mark.parametrize("saved", [True, False])
def test_an_event_from_its_beginning_to_its_end(tmp_path: Path, saved: bool) -> None:
    found = open_history(tmp_path if saved else None)
    found.put("new", event(), [("door", 1000.5, b"door")])
    found.put("update", event(cameras=["door", "yard"]), [("yard", 1001.0, b"yard")])
    found.put("end", event(cameras=["door", "yard"], state="OFF", end_time=1010.0, reason="over"))
    (past,) = found.events("car", LATER_S, 10).result() or []
    assert (past.event.end_time, past.event.reason, past.event.cameras) == (1010.0, "over", ("door", "yard"))
    assert past.shown == (("door", 1000.5), ("yard", 1001.0))
    assert found.picture("car", past.event.id, "yard").result() == b"yard"
    assert found.picture("gate", past.event.id, "yard").result() is None
    found.close()
    assert found.events("car", LATER_S, 10).result() is None, "after the end nothing is read"
    again = open_history(tmp_path if saved else None)
    assert starts(again) == ([1000.0] if saved else [])
    again.close()


def test_it_is_bounded_for_each_and_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MOST", 8)
    monkeypatch.setattr(history, "MOST_OF_ONE", 5)
    found = open_history(tmp_path)
    for number in range(7):
        found.put("new", event(start_s=number), [("door", float(number), b"x")])
    assert starts(found) == [6, 5, 4, 3, 2]
    assert starts(found, before_s=5, most=2) == [4, 3]
    assert found.picture("car", "car-0", "door").result() is None
    for number in range(10, 15):
        found.put("new", event("gate", start_s=number))
    assert starts(found) == [6, 5, 4]
    cameras = [(f"cam{number}", 20.0, b"x") for number in range(30)]
    found.put("new", event("crowd", 20.0), cameras)
    (past,) = found.events("crowd", LATER_S, 1).result() or []
    assert len(past.shown) == history.MOST_PICTURES
    found.close()


def test_what_is_erased_does_not_come_back(tmp_path: Path) -> None:
    found = open_history(tmp_path)
    found.put("new", event(start_s=100.0), [("door", 100.0, b"secret-1")])
    found.put(
        "new", event(start_s=200.0, cameras=["door", "yard"]), [("yard", 200.0, b"b"), ("door", 350.0, b"secret-2")]
    )
    found.put("new", event(start_s=300.0, cameras=["yard"]), [("yard", 300.0, b"c")])
    found.forget("door", 0.0, 150.0)
    assert starts(found) == [300.0, 200.0]
    found.forget("door", 320.0, 400.0)  # only a picture
    assert starts(found) == [300.0, 200.0]
    assert found.picture("car", "car-200", "door").result() is None
    found.put("end", event(start_s=100.0, end_time=310.0, state="OFF"), [("door", 100.0, b"secret-1")])
    assert starts(found) == [300.0, 200.0]
    found.close()
    assert b"secret" not in (tmp_path / FILE).read_bytes()
    again = open_history(tmp_path)
    again.forget(None, 0.0, LATER_S)
    assert starts(again) == []
    again.close()


def test_a_damaged_file_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"this is no database at all, whatever its name says" * 100)
    found = open_history(tmp_path)
    found.put("new", event())
    assert starts(found) == [1000.0]
    assert len(list(tmp_path.glob(f"{FILE}.damaged-*"))) == 1
    found.close()


def test_a_disk_that_fails_costs_nothing_but_the_history(tmp_path: Path) -> None:
    counters = Counters()
    found = History(tmp_path / "missing", counters)
    for number in range(3):
        found.put("new", event(start_s=number))
    assert starts(found) is None
    assert counters.value("watch_history_faults") == 4
    (tmp_path / "missing").mkdir()
    found.put("new", event())
    assert starts(found) == [1000.0], "tried again"
    found.close()
    found.put("new", event())  # after the end: no error
