"""The `longwatch` command. Faults of the user's world end in one line on stderr, never in a traceback.

Exit codes: 0 done, 1 failed, 2 wrong usage, 78 bad configuration (systemd does not restart it).
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from daemon.diary.command import diary
from daemon.keep import archive_cli, forget
from daemon.options import OptionError, moment
from daemon.watch.command import watch_cli
from stream.errors import CameraError, ConfigError, LongwatchError, QueryError, redact

if TYPE_CHECKING:
    from daemon.messages import Answer
    from daemon.settings import Settings

EX_USAGE, EX_CONFIG, EX_INTERRUPTED = 2, 78, 130
_USAGE: Any = typer.BadParameter.__base__  # Click's UsageError, whichever Click this typer brings

cli = typer.Typer(
    name="longwatch",
    help="Watch cameras for months and answer questions about anything seen.",
    pretty_exceptions_enable=False,
    add_completion=False,
)
Config = Annotated[Path, typer.Option("--config", "-c", help="YAML configuration file")]


def main() -> None:
    """Entry point of the console script."""
    try:
        code = cli(sys.argv[1:] or ["--help"], prog_name="longwatch", standalone_mode=False)
    except _USAGE as error:
        help_of = error.ctx.command_path if error.ctx else "longwatch"
        _end(f"{error.format_message().rstrip('.')}; see `{help_of} --help`", EX_USAGE)
    except OptionError as error:
        _end(str(error), EX_USAGE)
    except LongwatchError as error:
        _end(str(error), EX_CONFIG if isinstance(error, ConfigError) else 1)
    except BrokenPipeError:  # `longwatch ... | head`: nobody reads on, which is no fault
        sys.stdout = None  # else the interpreter flushes it once more, and complains
        raise SystemExit(1) from None
    except (KeyboardInterrupt, typer.Abort):
        raise SystemExit(EX_INTERRUPTED) from None
    raise SystemExit(code if isinstance(code, int) else 0)


def _end(line: str, code: int) -> None:
    print(f"longwatch: {line}", file=sys.stderr)
    raise SystemExit(code) from None


def _settings(path: Path) -> Settings:
    from daemon.settings import load

    return load(path)


def _checked(path: Path) -> Settings:
    """With the methods it names checked too, which imports them: not for commands that only ask."""
    from daemon.methods import check_methods

    settings = _settings(path)
    check_methods(settings, str(path))
    return settings


@cli.command()
def run(config: Config = Path("/etc/longwatch/longwatch.yaml")) -> None:
    """Watch the cameras and answer questions until stopped."""
    import gc

    gc.disable()  # a tenth of the start goes into looking for garbage among modules that stay for ever
    from daemon import app, logs

    gc.freeze()
    gc.enable()
    settings = _checked(config)
    control = logs.setup(settings.log_level, secrets=settings.secrets())
    asyncio.run(app.run(settings, lambda: _checked(config), control))


@cli.command()
def ask(  # noqa: PLR0913 - options of a command line
    question: Annotated[str, typer.Argument(help="what you want to know")],
    config: Config = Path("/etc/longwatch/longwatch.yaml"),
    camera: Annotated[list[str] | None, typer.Option(help="only this camera; may be given several times")] = None,
    since: Annotated[str | None, typer.Option(help="epoch seconds or ISO 8601")] = None,
    until: Annotated[str | None, typer.Option(help="epoch seconds or ISO 8601")] = None,
    timeout: Annotated[float, typer.Option(help="seconds to wait for the answer", min=0.1, max=86_400)] = 30.0,
    as_json: Annotated[bool, typer.Option("--json", help="print the whole answer as JSON")] = False,
) -> None:
    """Ask the running daemon, over its broker."""
    from daemon.ask import Question
    from daemon.ask import ask as put
    from daemon.words import notes, remainder

    if not question.strip():
        raise OptionError("the question is empty; ask something")
    settings = _settings(config)
    wanted = Question(question, tuple(camera or ()), moment("--since", since), moment("--until", until), None, timeout)
    streamed: list[str] = []

    def chunk(text: str) -> None:
        streamed.append(text)
        print(text, end="", flush=True)

    answer = asyncio.run(put(settings.mqtt, wanted, random.Random(), None if as_json else chunk))
    failed = answer.status in ("busy", "expired", "error")
    if as_json:
        print(json.dumps(_plain(answer, settings)))
    elif failed:
        print(end="\n" if streamed else "")
        raise LongwatchError(f"{answer.status}: {answer.text}")
    else:
        print("\n".join([remainder(answer, "".join(streamed)), *notes(answer)]))
    raise typer.Exit(1 if failed else 0)


@cli.command()
def check(config: Config) -> None:
    """Read a configuration and say what is wrong with it."""
    settings = _checked(config)
    settings.mqtt.secret()
    settings.http.secret()
    cameras = ", ".join(f"{name} ({redact(item.url)})" for name, item in settings.cameras.items())
    count = len(settings.cameras)
    print(f"{config}: ok; {count} camera{'s' * (count != 1)}: {cameras}")


@cli.command()
def doctor(config: Config, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """Check broker, cameras, model and machine, and say the way out of what fails."""
    from daemon.doctor import doctor as examine

    raise typer.Exit(examine(config, as_json=as_json))


@cli.command()
def status(
    config: Config = Path("/etc/longwatch/longwatch.yaml"),
    as_json: Annotated[bool, typer.Option("--json", help="print everything as JSON")] = False,
) -> None:
    """Say how the running daemon is; exit code 1 when something is wrong."""
    from daemon.status import run as say

    raise typer.Exit(say(_settings(config), as_json=as_json))


@cli.command()
def top(
    config: Config = Path("/etc/longwatch/longwatch.yaml"),
    every: Annotated[float, typer.Option(help="seconds between two looks", min=0.2, max=60)] = 1.0,
) -> None:
    """Show how the running daemon is, again and again; q ends it."""
    from daemon.top import run as look

    raise typer.Exit(look(_settings(config), every))


@cli.command()
def replay(  # noqa: PLR0913 - options of a command line
    video: Annotated[Path, typer.Argument(help="a video file")],
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="model, gate and memory; its cameras are not used")
    ] = None,
    ask: Annotated[list[str] | None, typer.Option(help='seconds:question, e.g. 12.5:"what passed first?"')] = None,
    start: Annotated[str | None, typer.Option(help="wall time of the file's first frame")] = None,
    realtime: Annotated[bool, typer.Option(help="play at the file's pace")] = False,
    model: Annotated[
        str | None, typer.Option(help="checkpoint directory or hub id; default: the configuration's")
    ] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="say on stderr where the time went, stage by stage")
    ] = False,
    trace: Annotated[
        Path, typer.Option(help="with --profile: where the trace for chrome://tracing or Perfetto goes")
    ] = Path("longwatch-trace.json"),
) -> None:
    """Play a file through the same pipeline, without a broker; one JSON answer per line."""
    from daemon import logs
    from daemon.core import build
    from daemon.profile import Profile
    from daemon.replay import Ask, Replay
    from daemon.replay import replay as play
    from daemon.settings import parse
    from stream.stages import OFF

    try:
        asks = [Ask.parse(text) for text in ask or []]
    except QueryError as error:
        raise OptionError(str(error)) from None
    job = Replay(video, asks, moment("--start", start) or 0.0, realtime, sys.stderr.isatty())
    if not video.exists():  # before the model is loaded, which takes seconds
        raise CameraError(f"{video}: no such file", "not_found")
    if profile and not trace.absolute().parent.is_dir():  # before a long replay, not after it
        raise OptionError(f"--trace {trace}: there is no folder {trace.absolute().parent}; make it first")
    settings = _checked(config) if config else parse({"cameras": {"replay": {"url": "file"}}}, "defaults")
    if model:
        settings = settings.model_copy(update={"model": settings.model.model_copy(update={"path": model})})
    control = logs.setup("warning", secrets=settings.secrets())
    try:
        core = build(settings)
        with Profile(core, trace) if profile else nullcontext(OFF) as stages:
            for answer in play(core, settings, dataclasses.replace(job, stages=stages)):
                print(json.dumps(_plain(answer, settings)), flush=True)
    finally:
        control.close()


@cli.command()
def train(
    config: Annotated[Path, typer.Option("--config", "-c", help="recipe, e.g. configs/train/tiny.yaml")],
    out: Annotated[Path | None, typer.Option(help="state, metrics, checkpoint; default runs/NAME")] = None,
    begin: Annotated[
        Path | None, typer.Option(help="state.pt of another run, or a checkpoint directory, to start from")
    ] = None,
    threads: Annotated[int, typer.Option(help="torch threads; 0 takes torch's own choice", min=0)] = 0,
) -> None:
    """Train a model by a recipe; started again, it goes on where it was."""
    from stream.train.command import run as work

    folder = out or Path("runs") / config.stem
    made = work(config, folder, begin, threads)
    print(f"checkpoint: {made}; metrics: {folder / 'metrics.jsonl'}, {folder / 'metrics.png'}")


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


cli.add_typer(archive_cli, name="archive")
cli.add_typer(watch_cli, name="watch")
cli.command()(forget)
cli.command()(diary)


def _plain(answer: Answer, settings: Settings) -> dict[str, Any]:
    """The answer as the broker carries it."""
    from daemon.payloads import encode_answer
    from daemon.topics import Topics

    found: dict[str, Any] = json.loads(encode_answer(answer, Topics(settings.mqtt.prefix)))
    return found


if __name__ == "__main__":
    main()
