"""Bad input on every topic that we listen to: it is said or counted, nothing is lost, and good messages go on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from daemon.app import App
from stream.model.llava_onevision import LlavaOnevision
from tests.brokers import Mosquitto
from tests.daemon.link import Caller, calling, until
from tests.daemon.recalling import small_model
from tests.daemon.whole import at_work, settings_at

HUGE = 300_000  # bytes; more than any topic takes
DEEP = 3000
WILD = "../\u202e\u00a0 #+\U0001f600'\"\\" + "x" * 300

# what no topic takes; a question that does not begin with { is text, so what is JSON there begins with it
NOT_AN_OBJECT: tuple[bytes, ...] = (
    b"\xff\xfe{\x00",
    b"{",
    b'{"id": ',
    b'{"a": 1}}',
    b'{"a":' * DEEP,
    b"{" + b" " * HUGE,
)
OTHER_JSON: tuple[bytes, ...] = (b"null", b"5", b'"text"', b"[" * DEEP, b"[]", b"{}")


def objects(*values: dict[str, Any]) -> tuple[bytes, ...]:
    return tuple(json.dumps(value).encode() for value in values)  # NaN is written as NaN


@dataclass(frozen=True)
class Inbound:
    """A topic, what is wrong there, and how many refusals there were so far."""

    topic: str
    bad: tuple[bytes, ...]
    refused: Callable[[App, Caller], float]


def errors_on(topic: str) -> Callable[[App, Caller], float]:
    """Error payloads there."""

    def count(_: App, caller: Caller) -> float:
        found = [json.loads(message.payload) for message in caller.on(topic) if message.payload]
        said = [
            item.get("error") or item.get("answer")
            for item in found
            if "error" in (item.get("status"), item.get("state")) or item.get("error")
        ]
        assert all(0 < len(text) < 600 and text.isprintable() for text in said)
        return len(said)

    return count


def counted(name: str, **labels: str) -> Callable[[App, Caller], float]:
    """What /metrics says."""
    return lambda app, _: app.counters.value(name, **labels)


QUESTIONS = (
    b"", b" \n", b"who\x00?", b"x" * 3000,
    *objects(
        {}, {"question": 5}, {"question": ""}, {"question": None}, {"question": "who?", "cameras": "door"},
        {"question": "who?", "cameras": ["dor"]}, {"question": "who?", "cameras": [WILD]},
        {"question": "who?", WILD: 1},
        {"question": "who?", "since": float("nan")}, {"question": "who?", "until": float("inf")},
        {"question": "who?", "since": 1e300}, {"question": "who?", "since": WILD}, {"question": "who?", "id": WILD},
        {"question": "who?", "reply_to": "#"}, {"question": "who?", "reply_to": "longwatch/query"},
        {"question": "who?", "evidence": -1}, {"question": "who?", "deadline_ms": 0}, {"question": "who?", "v": 2},
        {"question": "who?", "since": 20, "until": 10}, {"question": ["who?"]}, {"question": {"a": {"b": []}}},
    ),
)  # fmt: skip
WATCHES = objects(
    {"question": 5}, {"question": ""}, {"question": "x" * 3000}, {"question": "is there?", WILD: 1},
    {"question": "is there?", "cameras": ["dor"]}, {"question": "is there?", "cameras": [WILD]},
    {"question": "is there?", "cameras": "door"}, {"question": "is there?", "for_s": float("nan")},
    {"question": "is there?", "debounce_s": -1}, {"question": "is there?", "severity": "loud"},
    {"question": "is there?", "schedule": [{"from": "25:00"}]}, {"questoin": "is there?"},
)  # fmt: skip
FORGETS = objects(
    {"last": 5}, {"last": "1y"}, {"last": "1h", "camera": "dor"}, {"last": "1h", "camera": WILD},
    {"since": float("nan")},
    {"last": "1h", WILD: 1}, {"since": 20, "until": 10}, {"last": "1h", "id": WILD}, {"last": "1h", "cameras": "door"},
    {"since": WILD}, {"since": 1e300}, {"last": ["1h"]},
)  # fmt: skip
DIARIES = objects(
    {"camera": "dor"}, {"camera": WILD}, {"since": float("nan")}, {"since": WILD}, {"since": 20, "until": 10},
    {"search": ""}, {"search": 5}, {"limit": 0}, {"limit": 1e9}, {"id": WILD}, {WILD: 1}, {"reply_to": "#"},
    {"reply_to": "longwatch/diary"},
)  # fmt: skip
FRIGATES = objects(
    {"type": "new"}, {"type": "new", "after": 5}, {"type": WILD, "after": {}},
    {"type": "new", "after": {"id": WILD, "camera": "door", "label": "car", "start_time": 5}},
    {"type": "new", "after": {"id": "a", "camera": WILD, "label": "car", "start_time": 5}},
    {"type": "new", "after": {"id": "a", "camera": "door", "label": "car", "start_time": float("nan")}},
    {"type": "end", "after": {"id": "a", "camera": "door", "label": "\n", "start_time": 5}},
)  # fmt: skip
SWITCHES = (b"maybe", b"\xff", b"ON" * 1000, b'{"on": true}', b"1", WILD.encode())

INBOUND = {
    item.topic: item
    for item in (
        Inbound("longwatch/query", (*NOT_AN_OBJECT, *QUESTIONS), errors_on("longwatch/answer/+")),
        Inbound("longwatch/door/query", (*NOT_AN_OBJECT, *QUESTIONS), errors_on("longwatch/answer/+")),
        Inbound("longwatch/dor/query", (b"who?", *objects({"question": "who?"})), errors_on("longwatch/answer/+")),
        Inbound(
            "longwatch/watch/gate/set", (*NOT_AN_OBJECT, *OTHER_JSON, *WATCHES), errors_on("longwatch/watch/gate/state")
        ),
        Inbound("longwatch/watch/GÄTE 1/set", objects({"question": "is there?"}), errors_on("longwatch/watch/+/state")),
        Inbound("longwatch/door/enabled/set", SWITCHES, counted("switch_refused")),
        Inbound("longwatch/dor/enabled/set", (b"ON", b"OFF", *SWITCHES), counted("switch_refused")),
        Inbound(
            "longwatch/diary",
            (b"", b" ", *NOT_AN_OBJECT, *(item for item in OTHER_JSON if item != b"{}"), *DIARIES),
            errors_on("longwatch/diary/+"),
        ),
        Inbound(
            "longwatch/forget", (b"", b" ", *NOT_AN_OBJECT, *OTHER_JSON, *FORGETS), errors_on("longwatch/forget/state")
        ),
        Inbound(
            "frigate/events",
            (b"", *NOT_AN_OBJECT, *OTHER_JSON, *FRIGATES),
            counted("frigate_skipped", reason="unreadable"),
        ),
    )
}
IGNORED = {  # what others say there is theirs; only their own words mean something
    "homeassistant/status": (b"", b"\xff", b"ONLINE", b"{", b"x" * HUGE),
    "homeassistant/device/longwatch/config": (b"\xff", b"[]", b'{"cmps": 5}', b'{"a":' * DEEP, b"x" * HUGE),
}  # fmt: skip


@pytest.fixture(scope="module")
def model() -> LlavaOnevision:
    return small_model()


def state_of(app: App) -> Any:
    """What bad input must not change."""
    banks = {name: (list(post.bank.frames), post.bank.newest_frame) for name, post in app.posts.items()}
    return banks, set(app.switches.off), dict(app.watch.given), list(app.settings.cameras), dict(app.watch.specs())


@pytest.mark.parametrize("topic", [*INBOUND, *IGNORED])
async def test_bad_input_is_said_and_costs_nothing(
    topic: str, broker: Mosquitto, model: LlavaOnevision, tmp_path: Path
) -> None:
    async with calling(broker.port) as caller, at_work(model, settings_at(broker.port, tmp_path)) as whole:
        app = whole.app
        await whole.feed([time.time() - 9.0, time.time() - 8.0])
        before = state_of(app)
        if topic in INBOUND:
            inbound = INBOUND[topic]
            for number, payload in enumerate(inbound.bad, 1):
                await caller.ask(payload, topic)
                await until(
                    lambda number=number, inbound=inbound: inbound.refused(app, caller) >= number,  # type: ignore[misc]
                    f"refusal of {payload[:80]!r}",
                )
            assert inbound.refused(app, caller) == len(inbound.bad), "said once each"
        else:
            for payload in IGNORED[topic]:
                await caller.ask(payload, topic)

        await caller.ask('{"id": "good", "question": "what is visible now?"}')
        good = await caller.answer("longwatch/answer/good")
        assert good["status"] in ("ok", "no_evidence")
        assert state_of(app) == before
        await whole.feed([time.time()])
        assert (app.link.state.faults, app.link.state.connections, app.engine.running) == (0, 1, True)
        assert not [sample.name for sample in app.counters if sample.name.endswith("_faults")]
