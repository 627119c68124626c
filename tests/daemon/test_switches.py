"""Switches of cameras: what is understood, what is refused, and which of the broker's kept commands still count."""

from __future__ import annotations

import pytest

from daemon.desk import Delivery
from daemon.metrics import Counters
from daemon.outbox import Outgoing
from daemon.switches import Switches
from daemon.topics import Topics

TOPIC = "longwatch/door/enabled/set"


class Bench:
    """Switches of one camera, `door`."""

    def __init__(self) -> None:
        self.sent: list[Outgoing] = []
        self.turned: list[bool] = []
        self.counters = Counters()
        self.switches = Switches(Topics("longwatch"), self.sent.append, self.turn, self.counters)

    def turn(self, camera: str, on: bool) -> bool:
        if camera == "door":
            self.turned.append(on)
        return camera == "door"

    def say(self, payload: bytes, retain: bool = False, topic: str = TOPIC) -> list[bool]:
        self.switches.take(Delivery(topic, payload, retain))
        return self.turned


def test_on_and_off() -> None:
    assert Bench().say(b"OFF") == [False]
    assert Bench().say(b" on\n") == [True]


@pytest.mark.parametrize("payload", [b"", b"maybe", b"0", b"\xff\x00", b"ON" * 1000, b'{"on": true}'])
def test_what_is_not_understood_changes_nothing(payload: bytes) -> None:
    bench = Bench()
    assert bench.say(payload) == []
    assert bench.counters.value("switch_refused") == bool(payload)


@pytest.mark.parametrize("topic", ["longwatch/x/enabled/set", "longwatch//enabled/set", "other/door/enabled/set"])
def test_other_cameras_are_refused(topic: str) -> None:
    assert Bench().say(b"OFF", topic=topic) == []


def test_a_kept_command_counts_at_the_start_only() -> None:
    bench = Bench()
    bench.say(b"OFF", retain=True)
    bench.say(b"ON")
    assert bench.say(b"OFF", retain=True) == [False, True]  # the broker says it again after each connection


def test_the_state_is_kept_by_the_broker() -> None:
    bench = Bench()
    bench.switches.off.add("door")
    bench.switches.announce(["door", "yard"])
    bench.switches.retire("door")
    said = [(item.topic, item.payload, item.retain) for item in bench.sent]
    assert said == [
        ("longwatch/door/enabled/state", b"OFF", True),
        ("longwatch/yard/enabled/state", b"ON", True),
        ("longwatch/door/enabled/state", b"", True),
    ]
    assert not bench.switches.off
