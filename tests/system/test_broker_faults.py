"""The broker dies, the daemon dies: what was asked is answered once, and `available` is always true."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path

import pytest

from tests.brokers import Mosquitto
from tests.system.rig import Clips, Rig

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
LONG = {"answer": {"max_tokens": 120, "deadline_s": 120}}  # answers that take a while


def computed(rig: Rig, query_id: str) -> int:
    """How often an answer was worked out, by the daemon's log."""
    assert rig.daemon is not None
    return len(re.findall(rf"event=answered id={query_id} ", rig.daemon.log()))


def test_the_broker_is_killed_and_comes_back(rig: Rig, clips: Clips) -> None:
    broker, caller = rig.broker, rig.caller
    assert isinstance(broker, Mosquitto)
    rig.more = LONG
    rig.camera("door", clips.street)
    rig.start("door")
    ids = [f"q{n}" for n in range(12)]
    for query_id in ids:
        caller.ask(query_id)  # acknowledged
    broker.kill()
    since = caller.mark()
    broker.start()
    caller.says("longwatch/available", "online", since)
    caller.says("longwatch/door/available", "online", since)

    # Without its file the broker forgot our subscription: some answers went to nobody. Asked again, each is there.
    for query_id in ids:
        caller.ask(query_id)
    first = {query_id: caller.answer(query_id) for query_id in ids}
    assert {answer["status"] for answer in first.values()} == {"ok"}
    since = caller.mark()
    for query_id in ids:
        caller.ask(query_id)
    for query_id in ids:
        assert caller.wait(f"longwatch/answer/{query_id}", since=since).json() == first[query_id]
        assert computed(rig, query_id) == 1
    status = caller.wait("longwatch/status", since=since).json()
    assert (status["mqtt_reconnects"], status["mqtt_lost"]) == (1, 0)
    assert rig.daemon is not None
    assert "Traceback" not in rig.daemon.log()


def test_the_daemon_is_killed_while_it_is_asked(rig: Rig, clips: Clips) -> None:
    caller = rig.caller
    rig.camera("door", clips.street)
    daemon = rig.start("door")
    since, down_s = caller.mark(), time.monotonic()
    daemon.send(signal.SIGKILL)
    gone = caller.says("longwatch/available", "offline", since)
    assert gone.at_s - down_s < 2.0
    daemon.wait()
    daemon.end()

    for n in range(5):
        caller.ask(f"later-{n}")
    caller.ask("late", deadline_ms=0.001)
    fresh = json.dumps({"id": "fresh", "question": "who?"})
    caller.publish("longwatch/query", fresh, MessageExpiryInterval=120)
    stale = json.dumps({"id": "stale", "question": "who?"})
    sent_s = time.monotonic()
    caller.publish("longwatch/query", stale, MessageExpiryInterval=1)
    rig.until(lambda: time.monotonic() - sent_s > 1.5, "the broker's own deadline")

    since = caller.mark()
    rig.start("door")
    caller.says("longwatch/available", "online", since)
    for query_id in [*(f"later-{n}" for n in range(5)), "fresh"]:
        # the memory died with the process, so an answer may well be that nothing was seen yet
        assert caller.answer(query_id)["status"] in ("ok", "no_evidence")
    assert caller.answer("late")["status"] == "expired"
    caller.ask("now")
    assert caller.answer("now")["status"] == "ok"
    assert caller.answers("stale") == [], "the broker drops what nobody waits for any more"
    assert all(len(caller.answers(f"later-{n}")) == 1 for n in range(5))


def test_the_daemon_is_there_before_the_broker(tmp_path: Path, checkpoint: Path, clips: Clips) -> None:
    """It watches already; the broker's absence is told, not fatal."""
    broker = Mosquitto(tmp_path).start()
    try:
        with Rig(tmp_path, broker, str(checkpoint)) as rig:
            rig.camera("door", clips.street)
            broker.stop()
            since = rig.caller.mark()
            daemon = rig.start(wait=False)
            daemon.wait_log("nobody listens there")
            daemon.wait_log(r"camera=door state=online")
            broker.start()
            rig.caller.says("longwatch/door/available", "online", since)
            rig.caller.ask("first")
            assert rig.caller.answer("first")["status"] == "ok"
            broker.stop()
            daemon.send(signal.SIGTERM)
            began_s = time.monotonic()
            assert daemon.wait() == 0
            assert time.monotonic() - began_s < 15
    finally:
        broker.stop()
