"""`longwatch watch test`: a standing question tried on a recording, before anybody is told anything."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from stream.errors import CameraError, ConfigError

watch_cli = typer.Typer(help="Standing questions.", no_args_is_help=True)


@watch_cli.callback()
def _group() -> None:
    """Standing questions."""


@watch_cli.command("test")
def attempt(
    name: Annotated[str, typer.Argument(help="of a standing question in the configuration's `watch`")],
    video: Annotated[Path, typer.Option(help="a recording")],
    config: Annotated[Path, typer.Option("--config", "-c", help="YAML configuration file")] = Path(
        "/etc/longwatch/longwatch.yaml"
    ),
    truth: Annotated[
        Path | None, typer.Option(help='JSON {"spans": [[first_s, last_s], ...]}: when the answer is yes')
    ] = None,
) -> None:
    """Play a recording; one JSON line for each event, and with --truth a last one that says how right they were."""
    from daemon import logs
    from daemon.core import build
    from daemon.settings import load
    from daemon.watch.trial import Trial, play, score
    from daemon.watch.trial import truth as read

    settings = load(config)
    spec = settings.watch.get(name)
    if spec is None:
        known = ", ".join(settings.watch) or "none"
        raise ConfigError(f"{config}: no standing question {name!r} under `watch`; there: {known}")
    if not video.exists():  # before the model is loaded, which takes seconds
        raise CameraError(f"{video}: no such file", "not_found")
    spans = read(truth) if truth is not None else None
    control = logs.setup("warning", secrets=settings.secrets())
    try:
        trial = Trial(build(settings), settings, {name: spec})
        found = []
        for item in play(trial, settings, video, sys.stderr.isatty()):
            found.append(item)
            typer.echo(json.dumps(asdict(item)))
        if spans is not None:
            typer.echo(json.dumps(asdict(score(found, spans, trial.seconds))))
    finally:
        control.close()
