"""`longwatch archive stats|verify|export` and `longwatch forget`: what is kept, and how to get rid of it.

Reading commands may run beside the daemon. `forget` asks the daemon where one runs (through the archive itself, so
that no broker is needed) and waits until memory, snapshots and archive are clean; else it does all that by itself.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from tqdm import tqdm

from daemon.options import length, moment
from stream.errors import LongwatchError

if TYPE_CHECKING:
    from memory.archive import Archive, Reader
    from memory.archive.inspect import Progress, Stats

POLL_S = 0.1
ANSWER_S = 30.0  # a daemon that takes nothing up for so long does not run properly
Config = Annotated[Path, typer.Option("--config", "-c", help="YAML configuration file")]
Camera = Annotated[str | None, typer.Option(help="only this camera; default: all")]
Since = Annotated[str | None, typer.Option(help="epoch seconds or ISO 8601; default: the beginning")]
Until = Annotated[str | None, typer.Option(help="epoch seconds or ISO 8601; default: now")]
_DEFAULT = Path("/etc/longwatch/longwatch.yaml")

archive_cli = typer.Typer(help="What the archive holds, whether it is whole, and a copy of it.", no_args_is_help=True)


class KeepError(LongwatchError):
    """An archive command cannot do what was asked. The message says why and the way out."""


@archive_cli.command()
def stats(config: Config = _DEFAULT, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """How much of which camera is kept, since when, in how many bytes."""
    from memory.archive.inspect import stats as look

    path = _folder(config) / "archive.sqlite"
    with _reading(path) as reader:
        found = look(reader, path)
    if as_json:
        typer.echo(json.dumps({**asdict(found), "path": str(path)}))
        return
    typer.echo("\n".join(_lines(found)))


@archive_cli.command()
def verify(config: Config = _DEFAULT) -> None:
    """Check every record and page; exit code 1 when something is wrong. Reads the whole file; the daemon may run."""
    from memory.archive.inspect import verify as check

    path = _folder(config) / "archive.sqlite"
    with _reading(path) as reader, _bar("verify") as progress:
        found = check(reader, progress)
    typer.echo(f"{path}: {found.rows} carriers, {found.pictures} pictures checked")
    if found.whole:
        typer.echo("all whole")
        return
    typer.echo(f"{found.lost} carriers and {found.pictures_lost} pictures are damaged; answers leave them out")
    for problem in found.problems:
        typer.echo(f"  {problem}")
    raise typer.Exit(1)


@archive_cli.command()
def export(
    target: Annotated[Path, typer.Argument(help="a new folder")],
    config: Config = _DEFAULT,
    camera: Camera = None,
    since: Since = None,
    until: Until = None,
) -> None:
    """Copy carriers and pictures into plain files: index.jsonl, pictures/, carriers.safetensors."""
    from memory.archive.export import export as copy

    span_s = moment("--since", since), moment("--until", until)
    with _reading(_folder(config) / "archive.sqlite") as reader, _bar("export") as progress:
        _known(reader, camera)
        found = copy(reader, target, camera, span_s, progress)
    typer.echo(f"{found.rows} carriers and {found.pictures} pictures in {target}")
    if found.broken:
        typer.echo(f"{found.broken} of them are damaged; see `whole` in index.jsonl")


def forget(
    config: Config = _DEFAULT,
    camera: Camera = None,
    since: Since = None,
    until: Until = None,
    last: Annotated[str | None, typer.Option(help="up to now: 30m, 1h, 2d; instead of --since and --until")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
) -> None:
    """Erase for good what was seen in a time: memory, snapshots, archive. Answers will say that it was erased."""
    folder = _folder(config)
    until_s, last_s = moment("--until", until), length("--last", last)
    if last_s is not None and (since is not None or until is not None):
        raise KeepError("--last says both ends: leave --since and --until out; nothing was erased")
    until_s = time.time() if until_s is None else until_s
    since_s = moment("--since", since) or 0.0 if last_s is None else max(0.0, until_s - last_s)
    if since_s > until_s:
        raise KeepError("--since lies after --until; nothing was erased")
    path = folder / "archive.sqlite"
    with _reading(path) as reader:
        _known(reader, camera)
        rows = reader.count(camera, since_s, until_s)
    whose = f"camera {camera}" if camera else "all cameras"
    if not yes:
        typer.confirm(
            f"Erase {rows} archived frames of {whose}, {_when(since_s)} to {_when(until_s)}, for good?", abort=True
        )
    asked = (camera, since_s, until_s)
    with _lock(folder) as mine, _bar("forget", rows) as progress:
        done = _erase(folder, asked, progress) if mine else _request(path, asked, progress)
    typer.echo(f"{done} archived frames of {whose} erased")
    aside = sorted(item.name for item in folder.rglob("*.set-aside-*") if not item.name.endswith(("-wal", "-shm")))
    if aside:
        typer.echo(f"set aside earlier, not searched, may hold older frames; delete them yourself: {', '.join(aside)}")


def _erase(folder: Path, asked: tuple[str | None, float, float], progress: Progress) -> int:
    """No daemon runs: snapshots, then archive."""
    from memory import snapshot
    from memory.archive import Archive

    camera, since_s, until_s = asked
    for bank in sorted((folder / "banks").glob("*.bank" if camera is None else f"{camera}.bank")):
        snapshot.scrub(bank, since_s, until_s)
    archive = Archive.open_as_is(folder / "archive.sqlite")
    try:
        return _wait(archive, asked, progress)
    finally:
        archive.close()


def _wait(archive: Archive, asked: tuple[str | None, float, float], progress: Progress) -> int:
    future = archive.forget(*asked)
    reader = archive.reader()
    rows = reader.count(*asked)
    while not future.done():
        progress(rows - reader.count(*asked), rows)
        time.sleep(POLL_S)
    reader.close()
    try:
        return future.result().rows
    except (OSError, sqlite3.Error) as error:
        raise KeepError(f"{archive.path}: not erased: {error}") from error


def _request(path: Path, asked: tuple[str | None, float, float], progress: Progress) -> int:
    """A daemon runs: it alone reaches its memory, and it alone writes."""
    from memory.archive import erase, schema

    try:
        db = schema.connect(path, read_only=False)
        number = erase.request(db, time.time(), *asked)
    except sqlite3.Error as error:
        raise KeepError(f"{path}: the request cannot be written: {error}") from error
    with _reading(path) as reader:
        rows = left = reader.count(*asked)
        deadline_s = time.monotonic() + ANSWER_S
        while True:
            try:
                done_s, erased = db.execute("SELECT done_s, rows FROM erasures WHERE id = ?", (number,)).fetchone()
            except (sqlite3.Error, TypeError) as error:
                raise KeepError(f"{path}: it was replaced meanwhile; ask again ({error})") from error
            if done_s is not None:
                db.close()
                return int(erased)
            now_left = reader.count(*asked)
            if now_left != left:
                left, deadline_s = now_left, time.monotonic() + ANSWER_S
            if time.monotonic() > deadline_s:
                raise KeepError("the daemon has not erased it yet; it will when it can: see its log")
            progress(rows - left, rows)
            time.sleep(POLL_S)


@contextmanager
def _lock(folder: Path) -> Iterator[bool]:
    """Whether the folder is ours alone while this lasts; else a daemon has it."""
    file = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(file)


@contextmanager
def _reading(path: Path) -> Iterator[Reader]:
    from memory.archive import Reader

    reader = Reader.open(path)
    try:
        yield reader
    finally:
        reader.close()


@contextmanager
def _bar(what: str, total: int | None = None) -> Iterator[Progress]:
    """On a terminal only."""
    with tqdm(total=total, desc=what, unit="frame", disable=None, leave=False) as bar:

        def progress(done: int, rows: int) -> None:
            bar.total = rows
            bar.update(done - bar.n)

        yield progress


def _folder(config: Path) -> Path:
    from daemon.settings import load

    return load(config).archive_folder()


def _known(reader: Reader, camera: str | None) -> None:
    names = reader.cameras()
    if camera is not None and camera not in names:
        raise KeepError(f"--camera {camera!r}: the archive holds nothing of it; it knows {', '.join(names) or 'none'}")


def _lines(found: Stats) -> Iterator[str]:
    yield f"{found.path}: {_size(found.file_bytes)} (+ {_size(found.log_bytes)} log), version {found.version}"
    yield f"model {found.identity}, {found.dtype}; {found.outages} gaps noted"
    for camera in found.cameras:
        span = f"{_when(camera.first_s)} to {_when(camera.last_s)}" if camera.first_s is not None else "nothing"
        yield f"  {camera.name:20} {camera.rows:>9} frames {_size(camera.bytes):>10}  {span}"
    if found.erasures_pending:
        yield f"{found.erasures_pending} erasures are waiting for the daemon"
    if found.set_aside:
        yield f"set aside earlier: {', '.join(found.set_aside)}"


def _size(count: float) -> str:
    units = ["TB", "GB", "MB", "kB", "B"]
    while count >= 1000 and len(units) > 1:
        count /= 1000
        units.pop()
    return f"{count:.3g} {units[-1]}"


def _when(wall_s: float | None) -> str:
    if wall_s is None:
        return "-"
    return "the beginning" if wall_s <= 0 else datetime.fromtimestamp(wall_s).isoformat(" ", "seconds")
