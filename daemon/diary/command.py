"""`longwatch diary`: what the diary says of a time, beside a running daemon or without one."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from daemon.options import OptionError
from stream.errors import QueryError

if TYPE_CHECKING:
    from daemon.settings import Settings
    from memory.archive import Line

_WHEN = "epoch seconds, ISO 8601, or words such as `yesterday`"


def diary(  # noqa: PLR0913 - options of a command line
    config: Annotated[Path, typer.Option("--config", "-c", help="YAML configuration file")] = Path(
        "/etc/longwatch/longwatch.yaml"
    ),
    since: Annotated[str | None, typer.Option(help=f"{_WHEN}; default: the beginning")] = None,
    until: Annotated[str | None, typer.Option(help=f"{_WHEN}; default: now")] = None,
    camera: Annotated[str | None, typer.Option(help="only this camera; default: all")] = None,
    search: Annotated[
        str | None, typer.Option(help='words in any form, e.g. "red car", "dog OR cat", "deliver*"')
    ] = None,
    summary: Annotated[bool, typer.Option("--summary", help="one line a day and camera, with counts")] = False,
    limit: Annotated[int, typer.Option(help="the newest lines, at most", min=1, max=1_000_000)] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
) -> None:
    """Say what happened, event by event."""
    from daemon.diary.post import wired
    from daemon.keep import KeepError
    from daemon.settings import load
    from memory.archive import Reader
    from memory.archive.diary import DAYS, kept, lines

    settings = load(config)
    since_s, until_s = _reach("since", since, settings), _reach("until", until, settings)
    if since_s is not None and until_s is not None and since_s > until_s:
        raise OptionError("--since lies after --until")
    path = settings.archive_folder() / "archive.sqlite"
    reader = Reader.open(path)
    try:
        if not kept(reader):
            raise KeepError(f"{path} has no diary yet: a daemon of this version begins one, see diary.enabled")
        if camera is not None and camera not in (names := sorted({*reader.cameras(), *settings.cameras})):
            raise KeepError(f"--camera {camera!r}: the archive holds nothing of it; it knows {', '.join(names)}")
        kinds = DAYS if summary else None
        found = lines(reader, camera, since_s, until_s, search, limit, kinds)
        if reader.faults:
            raise KeepError(f"{path} cannot be read: {reader.last_fault}")
    finally:
        reader.close()
    for line in found:
        typer.echo(wired(line).model_dump_json(by_alias=True) if as_json else _plain(line, settings))
    if not found and not as_json:
        typer.echo("nothing is written of that")


def _reach(key: Literal["since", "until"], text: str | None, settings: Settings) -> float | None:
    from daemon.diary.reach import reach

    try:
        return reach(key, text, time.time(), settings.answer.zone)
    except QueryError as error:
        raise OptionError(f"--{error}") from None


def _plain(line: Line, settings: Settings) -> str:
    """`2026-11-21 14:02-14:03 door: a red car stops`; of a day `2026-11-21 door: 12 events ...`."""
    zone = settings.answer.zone
    first, last = (datetime.fromtimestamp(at_s, zone) for at_s in (line.first_s, line.last_s))
    times = f" {first:%H:%M}" + (f"-{last:%H:%M}" if f"{first:%d%H%M}" != f"{last:%d%H%M}" else "")
    return f"{first:%Y-%m-%d}{'' if line.kind == 'day' else times} {line.camera}: {line.text}"
