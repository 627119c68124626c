"""Counts are exact from many threads, and outside input cannot grow the registry."""

from __future__ import annotations

import json
import threading

from daemon.metrics import Counters


def test_counts_from_many_threads_add_up() -> None:
    counters = Counters()

    def work(camera: str) -> None:
        for _ in range(2000):
            counters.count("frames_kept", camera=camera)
            counters.observe("absorb_ms", 1.0)

    threads = [threading.Thread(target=work, args=(name,)) for name in ("door", "door", "yard")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counters.value("frames_kept", camera="door") == 4000
    assert counters.value("frames_kept", camera="yard") == 2000
    assert counters.value("absorb_ms_count") == 6000
    assert counters.value("nothing") == 0


def test_quantiles_are_of_the_newest() -> None:
    counters = Counters()
    for value in [1e9] * 1000 + list(range(512)):
        counters.observe("answer_ms", value)
    got = {sample.labels[0][1]: sample.value for sample in counters if sample.kind == "quantile"}
    assert got == {"0.5": 256, "0.95": 486, "0.99": 506}


def test_snapshot_is_flat_json_and_forgets_a_camera() -> None:
    counters = Counters()
    counters.count("reconnects", 2, camera="door")
    counters.gauge("queue_depth", 3)
    counters.gauge("fps", 1.23456, camera="door")
    counters.observe("answer_ms", 12.0)
    assert json.loads(json.dumps(counters.snapshot())) == {
        "answer_ms_count": 1,
        "reconnects{camera=door}": 2,
        "fps{camera=door}": 1.235,
        "queue_depth": 3,
        "answer_ms{q=0.5}": 12.0,
        "answer_ms{q=0.95}": 12.0,
        "answer_ms{q=0.99}": 12.0,
    }
    counters.forget()
    counters.forget(camera="door")
    assert [sample.key for sample in counters if "door" in sample.key] == []
    assert counters.value("queue_depth") == 3


def test_series_are_bounded() -> None:
    counters = Counters()
    for index in range(5000):
        counters.count("topic", topic=str(index))
        counters.gauge("g", 1.0, topic=str(index))
        counters.observe("o", 1.0, topic=str(index))
    counters.count("topic", topic="0")
    assert counters.value("topic", topic="0") == 2
    assert counters.value("series_refused") > 10_000
    assert len(counters.snapshot()) < 4000
