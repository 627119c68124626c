"""The `longwatch` command. Faults of the user's world end in one line on stderr, never in a traceback.

Exit codes: 0 done, 1 failed, 2 wrong usage, 78 bad configuration (systemd does not restart it).
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.errors import ConfigError, LongwatchError, QueryError, redact

if TYPE_CHECKING:
    from daemon.messages import Answer
    from daemon.settings import Settings

EX_CONFIG = 78

cli = typer.Typer(
    name="longwatch",
    help="Watch cameras for months and answer questions about anything seen.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
Config = Annotated[Path, typer.Option("--config", "-c", help="YAML configuration file")]


def main() -> None:
    """Entry point of the console script."""
    try:
        cli()
    except LongwatchError as error:
        print(f"longwatch: {error}", file=sys.stderr)
        raise SystemExit(EX_CONFIG if isinstance(error, ConfigError) else 1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _settings(path: Path) -> Settings:
    from daemon.settings import load

    return load(path)


@cli.command()
def run(config: Config = Path("/etc/longwatch/longwatch.yaml")) -> None:
    """Watch the cameras and answer questions until stopped."""
    from daemon import app, logs

    settings = _settings(config)
    control = logs.setup(settings.log_level, secrets=settings.secrets())
    asyncio.run(app.run(settings, lambda: _settings(config), control))


@cli.command()
def ask(  # noqa: PLR0913 - options of a command line
    question: Annotated[str, typer.Argument(help="what you want to know")],
    config: Config = Path("/etc/longwatch/longwatch.yaml"),
    camera: Annotated[list[str] | None, typer.Option(help="only this camera; may be given several times")] = None,
    since: Annotated[str | None, typer.Option(help="epoch seconds or ISO 8601")] = None,
    until: Annotated[str | None, typer.Option(help="epoch seconds or ISO 8601")] = None,
    timeout: Annotated[float, typer.Option(help="seconds to wait for the answer")] = 30.0,
    as_json: Annotated[bool, typer.Option("--json", help="print the whole answer as JSON")] = False,
) -> None:
    """Ask the running daemon, over its broker."""
    from daemon.ask import Question
    from daemon.ask import ask as put

    settings = _settings(config)
    wanted = Question(
        question, tuple(camera or ()), _moment("--since", since), _moment("--until", until), None, timeout
    )
    streamed: list[str] = []

    def chunk(text: str) -> None:
        streamed.append(text)
        print(text, end="", flush=True)

    answer = asyncio.run(put(settings.mqtt, wanted, random.Random(), None if as_json else chunk))
    if as_json:
        print(json.dumps(_plain(answer)))
    else:
        rest = answer.text.removeprefix("".join(streamed)) if streamed else answer.text
        print(rest + "\n" + "\n".join(_notes(answer)))
    if answer.status in ("busy", "expired", "error"):
        raise typer.Exit(1)


@cli.command()
def check(config: Config) -> None:
    """Read a configuration and say what is wrong with it."""
    from daemon.methods import check_methods

    settings = _settings(config)
    check_methods(settings, str(config))
    settings.mqtt.secret()
    cameras = ", ".join(f"{name} ({redact(item.url)})" for name, item in settings.cameras.items())
    print(f"{config}: ok; {len(settings.cameras)} cameras: {cameras}")


@cli.command()
def doctor(config: Config, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """Check broker, cameras, model and machine, and say the way out of what fails."""
    from daemon.doctor import doctor as examine

    raise typer.Exit(examine(config, as_json=as_json))


@cli.command()
def replay(
    video: Annotated[Path, typer.Argument(help="a video file")],
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="model, gate and memory; its cameras are not used")
    ] = None,
    ask: Annotated[list[str] | None, typer.Option(help='seconds:question, e.g. 12.5:"what passed first?"')] = None,
    start: Annotated[str | None, typer.Option(help="wall time of the file's first frame")] = None,
    realtime: Annotated[bool, typer.Option(help="play at the file's pace")] = False,
) -> None:
    """Play a file through the same pipeline, without a broker; one JSON answer per line."""
    from daemon import logs
    from daemon.core import build
    from daemon.replay import Ask, Replay
    from daemon.replay import replay as play
    from daemon.settings import parse

    asks = [Ask.parse(text) for text in ask or []]
    settings = _settings(config) if config else parse({"cameras": {"replay": {"url": str(video)}}}, "defaults")
    logs.setup("warning", secrets=settings.secrets())
    job = Replay(video, asks, _moment("--start", start) or 0.0, realtime, sys.stderr.isatty())
    for answer in play(build(settings), settings, job):
        print(json.dumps(_plain(answer)), flush=True)


@cli.command()
def unit(
    config: Config = Path("/etc/longwatch/longwatch.yaml"),
    gpu: Annotated[bool, typer.Option(help="let the service use an NVIDIA GPU")] = False,
) -> None:
    """Print the systemd unit for this installation, with the commands that install it."""
    from daemon.unit import installation, render

    executable, needs = installation()
    print(render(executable, config, gpu=gpu, needs=needs), end="")


@cli.command()
def demo(
    once: Annotated[bool, typer.Option(help="end after the answers")] = False,
    seed: Annotated[int, typer.Option(help="which street")] = 7,
    model: Annotated[str, typer.Option(help="checkpoint directory or hub id")] = "tiny",
) -> None:
    """Broker, test camera, daemon and five questions, all on this machine."""
    from daemon.demo.show import Show

    raise typer.Exit(Show(seed, model, once).run())


def _moment(option: str, text: str | None) -> float | None:
    """Epoch seconds from a number or an ISO time (local when it names no zone). Raises QueryError."""
    if text is None:
        return None
    from datetime import datetime

    try:
        return float(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise QueryError(f"{option} {text!r}: give epoch seconds or ISO 8601, e.g. 2026-11-20T14:00") from None


def _plain(answer: Answer) -> dict[str, Any]:
    """The answer as the broker would carry it."""
    from daemon.payloads import encode_answer
    from daemon.topics import Topics

    found: dict[str, Any] = json.loads(encode_answer(answer, Topics("longwatch", ())))
    return found


def _notes(answer: Answer) -> list[str]:
    """What stands below an answer on a terminal."""
    from daemon.words import notes

    return notes(answer)


if __name__ == "__main__":
    main()
