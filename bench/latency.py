"""How long does an answer take while a camera streams? The real thing: broker, 1080p25 over RTSP, daemon, client.

    python bench/latency.py [--seconds 60] [--quick] [--questions N] [--seed 0] [--out FILE]

Questions come at random moments, one at a time. `ttft` is from the publish to the first chunk and `round trip` to the
whole answer, both as the client sees them; `first token` and `absorb` (one frame into memory, which a question may
have to wait for) are the daemon's own times. Ends with one JSON line; `--out` writes it to a file too.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm
from where import commit, date, machine

from daemon.demo.broker import EmbeddedBroker
from stream.model.loading import SHIPPED
from stream.train.film import film
from stream.train.phrasings import names, phrase
from stream.train.world import Street
from tests.brokers import Mosquitto
from tests.system.client import Caller
from tests.system.footage import FPS, make_full_hd
from tests.system.rig import Rig
from tests.system.untrained import make_checkpoint

FILM_S = 12.0
MAX_TOKENS = 16
GATE = [{"stride": {"fps": 2}}]  # every half second a frame is absorbed, whatever the picture shows
SETTLE_S = 5.0  # of streaming before the first question


@dataclass(frozen=True, slots=True)
class Sample:
    """One question. Milliseconds."""

    ttft: float  # client: publish -> first chunk
    round_trip: float  # client: publish -> answer
    first_token: float  # daemon: question taken -> first token
    queue: float  # daemon: question taken -> begun


def ask(caller: Caller, number: int, question: str) -> Sample:
    """One question, and how long everything took."""
    query_id = f"bench-{number}"
    began_s = time.monotonic()
    caller.ask(query_id, question, wait=False)
    got = caller.wait(f"longwatch/answer/{query_id}")
    answer = got.json()
    if answer["status"] not in ("ok", "no_evidence"):
        raise SystemExit(f"question {number} was not answered: {answer['status']}: {answer['answer']}")
    chunks = caller.on(f"longwatch/answer/{query_id}/chunk")
    first_s = chunks[0].at_s if chunks else got.at_s
    timing = answer["timing_ms"]
    return Sample(1000 * (first_s - began_s), 1000 * (got.at_s - began_s), timing["first_token"], timing["queue"])


def prepare(stack: ExitStack, folder: Path, seed: int) -> Rig:
    """Everything started: broker, camera, daemon."""
    small, clip = folder / "small.mp4", folder / "street.mp4"
    film(Street(seed, FILM_S), small, fps=FPS)
    make_full_hd(clip, small, FILM_S)
    broker: Mosquitto | EmbeddedBroker
    if shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin"):
        broker = Mosquitto(folder).start()
    else:
        broker = EmbeddedBroker().start()
    stack.callback(broker.stop)
    five = isinstance(broker, Mosquitto)
    path = "tiny"
    if not SHIPPED["tiny"].exists():
        path = str(make_checkpoint(folder / "untrained"))
    more = {
        "mqtt": {"port": broker.port, "protocol": "5" if five else "3.1.1"},
        "model": {"path": path},
        "answer": {"max_tokens": MAX_TOKENS},
        "gate": GATE,
    }
    rig = stack.enter_context(Rig(folder, broker, path, more=more, version5=five))
    rig.camera("street", clip)
    rig.start("street")
    return rig


def quantile(values: list[float], q: float) -> float:
    """The nearest-rank quantile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def measure(rig: Rig, seconds: float, count: int, rng: random.Random) -> list[Sample]:
    """`count` questions at random moments of `seconds`."""
    things, drawn = names(), np.random.default_rng(rng.randrange(2**32))
    questions = [
        phrase(kind, {"the": thing.the, "a": thing.name}, drawn)
        for kind in ("now_what", "seen", "first", "last", "count_all", "when_ago", "direction")
        for thing in things
    ]
    moments = sorted(rng.uniform(SETTLE_S, SETTLE_S + seconds) for _ in range(count))
    began_s, samples = time.monotonic(), []
    for number, moment_s in enumerate(tqdm(moments, desc="asking", unit="question")):
        time.sleep(max(0.0, began_s + moment_s - time.monotonic()))
        samples.append(ask(rig.caller, number, rng.choice(questions)))
    return samples


def summary(rig: Rig, samples: list[Sample], load: float) -> dict[str, Any]:
    """The JSON line."""
    assert rig.daemon is not None
    since = rig.caller.mark()
    status = rig.caller.wait("longwatch/status", since=since).json()
    camera = rig.caller.state("street", since=since)
    result: dict[str, Any] = {"bench": "latency", "questions": len(samples)}
    for name, key in (("ttft", "ttft"), ("round_trip", "round_trip"), ("first_token", "first_token")):
        values = [getattr(sample, key) for sample in samples]
        result[f"{name}_ms_p50"] = round(statistics.median(values), 2)
        result[f"{name}_ms_p95"] = round(quantile(values, 0.95), 2)
    return {
        **result,
        "queue_ms_p95": round(quantile([sample.queue for sample in samples], 0.95), 2),
        "absorb_ms_p50": status["absorb_ms_p50"],
        "peak_rss_mb": round(rig.daemon.high_water_mb(), 1),
        "camera_fps": camera["fps"],
        "max_tokens": MAX_TOKENS,
        "model": status["model"],
        "broker": type(rig.broker).__name__,
        "machine": machine(),
        "load_before": round(load, 2),  # processes that wanted the processor before we came
        "commit": commit(),
        "date": date(),
    }


def show(result: dict[str, Any]) -> None:
    """The table."""
    print(f"{result['machine']}; load before {result['load_before']}; model {result['model']}, {result['broker']}")
    print(f"{'ms':14} {'p50':>8} {'p95':>8}")
    for name in ("ttft", "round_trip", "first_token"):
        print(f"{name:14} {result[f'{name}_ms_p50']:8.1f} {result[f'{name}_ms_p95']:8.1f}")
    print(f"{'queue':14} {'':8} {result['queue_ms_p95']:8.1f}")
    print(f"{'absorb':14} {result['absorb_ms_p50']:8.1f}")
    print(f"peak memory of the daemon: {result['peak_rss_mb']:.0f} MB; camera {result['camera_fps']:.1f} frames/s")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="over which the questions are spread")
    parser.add_argument("--questions", type=int, help="default: four in three seconds")
    parser.add_argument("--quick", action="store_true", help="15 seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the result there too")
    arguments = parser.parse_args()
    seconds = 15.0 if arguments.quick else arguments.seconds
    count = arguments.questions or max(1, round(seconds * 4 / 3))
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        rig = prepare(stack, Path(folder), arguments.seed)
        result = summary(rig, measure(rig, seconds, count, random.Random(arguments.seed)), load)
    show(result)
    line = json.dumps(result)
    print(line)
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(line + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
