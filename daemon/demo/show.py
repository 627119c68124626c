"""`longwatch demo`: the whole thing on one machine, with nothing set up and nothing left behind.

embedded broker (this process) <--MQTT-- daemon (longwatch run) <--RTSP-- test camera (its own process)
        ^------------- five questions, answers word by word -------------|
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import IO, Any

import aiomqtt
import yaml

from daemon.ask import AskError, Question, ask
from daemon.demo.broker import EmbeddedBroker, free_port
from daemon.settings import Settings, parse
from daemon.unit import installation
from daemon.words import notes, remainder
from stream.errors import LongwatchError

CAMERA = "street"
FILM_S = 30.0
LEAD_S = 2.0
START_S = 120.0  # for a large model on a slow disk
SETTLE_S = 1.5  # the newest frame must have been absorbed before the question about it


class DemoError(LongwatchError):
    """A part of the demo did not start; the message holds its last words."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A question, when to ask it (seconds into the film), and what the street really showed."""

    at_s: float
    text: str
    truth: str


class Show:
    """One demo. `run` returns the exit code."""

    def __init__(self, seed: int, model: str, once: bool) -> None:
        self.seed, self.model, self.once = seed, model, once
        self._children: list[subprocess.Popen[str]] = []

    def run(self) -> int:
        """Everything, from drawing the street to taking it all down."""
        with tempfile.TemporaryDirectory(prefix="longwatch-demo-") as folder, EmbeddedBroker() as broker:
            before = signal.signal(signal.SIGTERM, _interrupt)
            try:
                return asyncio.run(self._play(Path(folder), broker.port))
            except KeyboardInterrupt:
                print("\nstopped; nothing is left behind")
                return 0
            finally:
                self._take_down()
                signal.signal(signal.SIGTERM, before)

    async def _play(self, folder: Path, port: int) -> int:
        print(f"Longwatch demo: a street seen by an RTSP camera, watched by the {self.model} model.")
        truth = self._draw(folder)
        config, settings = self._configure(folder, port)
        camera = self._start([sys.executable, "-m", "daemon.demo.camera", f"{CAMERA}={folder / 'empty.mp4'}"], settings)
        self._start([sys.executable, "-m", "daemon", "run", "-c", str(config)], settings, folder / "daemon.log")
        print(f"broker on port {port}, camera at {settings.cameras[CAMERA].url}; the daemon is loading its model ...")
        await self._wait_online(settings, folder / "daemon.log")
        print(f"watching. The questions come within {FILM_S:.0f} seconds.\n")
        _tell(camera, f"switch {CAMERA} {folder / 'street.mp4'}")
        came = await self._ask_all(settings, prompts(truth), time.monotonic())
        print(f"\n{came} of 5 questions answered.")
        if self.once:
            return 0 if came == 5 else 1
        _explain(port, config)
        while all(child.poll() is None for child in self._children):  # noqa: ASYNC110 - a process sets no event
            await asyncio.sleep(0.5)
        raise DemoError(f"the demo ended early; last words: {_tail(folder / 'daemon.log')}")

    async def _ask_all(self, settings: Settings, asked: list[Prompt], began_s: float) -> int:
        came = 0
        for prompt in asked:
            await asyncio.sleep(max(0.0, began_s + prompt.at_s - time.monotonic()))
            print(f"[{time.monotonic() - began_s:5.1f} s] {prompt.text}\n          > ", end="", flush=True)
            streamed: list[str] = []

            def chunk(text: str, streamed: list[str] = streamed) -> None:
                streamed.append(text)
                print(text, end="", flush=True)

            try:
                answer = await ask(settings.mqtt, Question(prompt.text), random.Random(), chunk)
            except AskError as error:
                print(error)
                continue
            came += answer.status in ("ok", "no_evidence")
            print(f"{remainder(answer, ''.join(streamed))}   (the street showed: {prompt.truth})")
            print("        " + "\n        ".join(notes(answer)))
        return came

    def _draw(self, folder: Path) -> Any:
        """The film and its empty beginning; the truth about it. A process of its own: training code stays out."""
        draw = [sys.executable, "-m", "stream.train.film", "--seed", str(self.seed), "--lead", str(LEAD_S)]
        draw += ["--plain", "--light", "day"]  # so that every question has one answer, colours included
        for name, seconds in (("empty", 0.0), ("street", FILM_S)):
            done = subprocess.run([*draw, "--seconds", str(seconds), str(folder / f"{name}.mp4")], check=False)
            if done.returncode:
                raise DemoError(f"cannot draw the street: exit code {done.returncode}")
        return json.loads((folder / "street.json").read_text(encoding="utf-8"))

    def _configure(self, folder: Path, port: int) -> tuple[Path, Settings]:
        raw: dict[str, Any] = {
            "mqtt": {"port": port, "protocol": "3.1.1", "client_id": "longwatch-demo"},
            "cameras": {CAMERA: {"url": f"rtsp://127.0.0.1:{free_port()}/{CAMERA}"}},
            "model": {"path": self.model},
            "archive": {"folder": str(folder / "memory")},
        }
        path = folder / "longwatch.yaml"
        path.write_text(yaml.safe_dump(raw), encoding="utf-8")
        return path, parse(raw, str(path))

    def _start(self, command: list[str], settings: Settings, log: Path | None = None) -> subprocess.Popen[str]:
        """Start a part in a session of its own, so that Ctrl-C reaches us first and we end it in order."""
        if log is None:
            port = settings.cameras[CAMERA].url.split(":")[2].split("/")[0]
            command = [*command, "--port", port]
        with log.open("w") if log else contextlib.nullcontext(subprocess.DEVNULL) as out:
            child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=out, stderr=out, text=True, start_new_session=True
            )
        self._children.append(child)
        return child

    async def _wait_online(self, settings: Settings, log: Path) -> None:
        """Return when the daemon has said that the camera is online. Raises DemoError when a part ended first."""
        topic = f"{settings.mqtt.prefix}/{CAMERA}/available"
        until_s = time.monotonic() + START_S
        async with aiomqtt.Client("127.0.0.1", settings.mqtt.port, identifier="longwatch-demo-wait") as client:
            await client.subscribe(topic)
            online = asyncio.create_task(_until(client, b"online"), name="wait-online")
            try:
                while not online.done():
                    if any(child.poll() is not None for child in self._children):
                        raise DemoError(f"a part of the demo ended at once; last words: {_tail(log)}")
                    if time.monotonic() > until_s:
                        raise DemoError(f"the daemon was not ready after {START_S:.0f} s; last words: {_tail(log)}")
                    await asyncio.wait({online}, timeout=0.2)
                await online
            finally:
                online.cancel()
                await asyncio.gather(online, return_exceptions=True)

    def _take_down(self) -> None:
        for child in reversed(self._children):
            if child.poll() is None:
                child.terminate()
        for child in self._children:
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            if child.stdin is not None:
                with contextlib.suppress(BrokenPipeError):  # what was not written when the camera ended
                    child.stdin.close()


def prompts(truth: Any) -> list[Prompt]:
    """Five questions for a film, with what it shows: one while something passes, four about the past.

    Parcels do not pass: they are neither first nor last, and are not counted.
    """
    events = [event for event in truth["events"] if event.get("passes", True)]
    starts = [event["t_start"] for event in events[1:]] + [truth["seconds"]]
    ends = list(accumulate((event["t_end"] for event in events), max))
    # the past is asked about when the street is empty, else the answer would hang on a wheel in the picture
    clear = [number for number, end_s in enumerate(ends) if end_s + SETTLE_S < starts[number]]
    whole = events[: clear[-1] + 1] if clear else events[:1]
    alone = [event for event in whole if sum(_overlap(event, other) for other in truth["events"]) == 1]
    shown = next((event for event in alone if event in whole[2:]), (alone or whole)[-1])
    now_s = 0.55 * shown["t_start"] + 0.45 * shown["t_end"] + SETTLE_S / 2
    later_s = max(event["t_end"] for event in whole) + SETTLE_S
    first, last = whole[0]["what"], whole[-1]["what"]
    return [
        Prompt(now_s, "what is visible now?", shown["what"]),
        Prompt(later_s, "what passed first?", first),
        Prompt(later_s, "what passed last?", last),
        Prompt(later_s, "how many things passed?", str(len(whole))),
        Prompt(later_s, f"did you see {shown['what']}?", "yes"),
    ]


def _overlap(one: Any, other: Any) -> bool:
    """Whether two events of a film are in view together; each overlaps itself."""
    return bool(one["t_start"] <= other["t_end"] and other["t_start"] <= one["t_end"])


async def _until(client: aiomqtt.Client, payload: bytes) -> None:
    async for message in client.messages:
        if message.payload == payload:
            return


def _tell(camera: subprocess.Popen[str], line: str) -> None:
    pipe: IO[str] | None = camera.stdin
    assert pipe is not None
    pipe.write(line + "\n")
    pipe.flush()


def _explain(port: int, config: Path) -> None:
    print(
        f"""
It goes on watching; the film plays in a loop. Ask from another terminal:

  {installation()[0]} ask "what passed last?" -c {config}

or with any MQTT client (the first line shows answers, the second asks):

  mosquitto_sub -p {port} -t 'longwatch/answer/#' -v
  mosquitto_pub -p {port} -t longwatch/query -m "how many things passed?"

Ctrl-C ends everything."""
    )


def _tail(log: Path) -> str:
    lines: Iterator[str] = reversed(log.read_text(encoding="utf-8", errors="replace").splitlines() or ["(no log)"])
    return next((line for line in lines if line.strip()), "(no log)")


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
