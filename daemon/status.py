"""`longwatch status`: how the running daemon is, as a table for people or JSON for scripts; 1 when something is wrong.

Asked over HTTP; where that is off or does not answer, over the broker, which knows a little less.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import ValidationError
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from daemon.overview import Overview
from daemon.wire import CameraState, DaemonStatus
from stream.errors import LongwatchError

if TYPE_CHECKING:
    from daemon.settings import Settings

TIMEOUT_S = 5.0
STATES_S = 1.0  # how long retained states are waited for; they come at once
OLD_S = 60.0  # the broker keeps a status for ever; the daemon writes it every ten seconds
_MAX_REPLY_BYTES = 4 * 2**20
_COLOURS = {"online": "green", "degraded": "yellow", "offline": "bold red", "paused": "dim"}
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


class StatusError(LongwatchError):
    """The daemon could not be asked. The message says what to do."""


class NoAnswer(StatusError):
    """No Longwatch answers over HTTP."""


def fetch(settings: Settings) -> Overview:
    """How the daemon of this configuration is. Raises StatusError, or ConfigError for a bad token or password file."""
    if not settings.http.enabled:
        return _over_mqtt(settings)
    try:
        return over_http(settings)
    except NoAnswer as error:
        try:
            found = _over_mqtt(settings)
        except StatusError as other:
            raise StatusError(f"{error}; {other}") from None
        return found.model_copy(update={"stuck": (str(error),)})


def _over_mqtt(settings: Settings) -> Overview:
    from daemon.status_mqtt import fetch as over_mqtt  # aiomqtt takes a while to import

    return asyncio.run(over_mqtt(settings.mqtt, random.Random()))


def over_http(settings: Settings) -> Overview:
    """As `fetch`, and only so. Raises NoAnswer where nobody is there, or somebody else."""
    url, token = f"{settings.http.url}/overview", settings.http.secret()
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never over a proxy: it is this house
    try:
        with opener.open(request, timeout=TIMEOUT_S) as response:
            return Overview.model_validate_json(response.read(_MAX_REPLY_BYTES))
    except urllib.error.HTTPError as error:
        error.close()
        way_out = "is http.token the daemon's?" if error.code == 401 else "is it a Longwatch of this version?"
        raise StatusError(f"{url}: HTTP {error.code}; {way_out}") from None
    except (OSError, ValidationError) as error:
        reason = getattr(error, "reason", None) or error.__class__.__name__
        way_out = "is the daemon running, with this http.port?"
        raise NoAnswer(f"{url}: {getattr(reason, 'strerror', None) or reason}; {way_out}") from None


def problems(seen: Overview) -> list[str]:
    """What is wrong, one line each; none: all is well."""
    return list(_problems(seen))


def _problems(seen: Overview) -> Iterator[str]:
    status = seen.status
    for camera in seen.cameras:
        if camera.state not in ("online", "paused"):
            yield f"camera {camera.camera} is {camera.state}" + (f": {camera.reason}" if camera.reason else "")
    if not status.archive_ok:
        yield f"the archive is not written: {status.archive_reason or 'unknown'}"
    if seen.broker is not None and not seen.broker.connected:
        yield f"no broker: {seen.broker.reason or 'not connected'}"
    for part in seen.stuck:
        yield f"stuck: {part}"
    if (age_s := time.time() - status.at) > OLD_S:
        yield f"the daemon said this {ago(age_s)} ago; is it running?"


def show(seen: Overview) -> RenderableType:
    """Everything, to be printed."""
    found = problems(seen)
    last = [Text(f"! {line}", style="bold red") for line in found] or [Text("all is well", style="green")]
    return Group(_head(seen), cameras(seen), _facts(seen), *last)


def _head(seen: Overview) -> Text:
    status = seen.status
    seen_now = f"{status.cameras_online}/{status.cameras_total} cameras"
    seen_now += f" ({status.cameras_paused} paused)" if status.cameras_paused else ""
    return Text.assemble(
        ("Longwatch ", "bold"),
        f"{status.version}  model {status.model}  up {ago(status.uptime_s)}  {seen_now}  {status.answered} answers",
    )


def cameras(seen: Overview) -> Table:
    """A line per camera."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title in ("camera", "state", "age", "fps", "memory", "moments", "gaps in 24 h", "kept", "reconnects"):
        table.add_column(title, justify="left" if title in ("camera", "state") else "right", no_wrap=title != "state")
    for camera in seen.cameras:
        gaps = seen.gaps.get(camera.camera)
        table.add_row(
            Text(camera.camera),
            _state(camera),
            ago(camera.newest_age_s),
            f"{camera.fps:.1f}",
            _span(camera),
            str(camera.carriers),
            "-" if gaps is None else f"{gaps.count} ({ago(gaps.seconds)})" if gaps.count else "none",
            str(camera.frames_kept),
            str(camera.reconnects),
        )
    return table


def _state(camera: CameraState) -> Text:
    text = f"{camera.state} ({camera.reason})" if camera.reason else camera.state
    return Text(text, style=_COLOURS[camera.state])


def _span(camera: CameraState) -> str:
    if camera.memory_from is None or camera.memory_to is None:
        return "-"
    return ago(camera.memory_to - camera.memory_from)


def _facts(seen: Overview) -> Table:
    status, archive, process = seen.status, seen.archive, seen.process
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column()
    table.add_row("engine", f"{status.queue_depth} waiting, {_milliseconds(status)}")
    if archive is not None and not archive.enabled:
        table.add_row("archive", "switched off")
    else:
        written = f"{size(status.archive_bytes)}, {status.archived} written, {status.archive_dropped} dropped"
        table.add_row("archive", Text(written if status.archive_ok else f"NOT WRITTEN ({status.archive_reason})"))
    if seen.broker is not None:
        word = "connected" if seen.broker.connected else f"not connected ({seen.broker.reason})"
        table.add_row("broker", Text(f"{word}, {status.mqtt_waiting} waiting, {status.mqtt_reconnects} reconnects"))
    if process.memory_bytes is not None:
        table.add_row("process", f"{size(process.memory_bytes)}, {process.threads} threads")
    return table


def _milliseconds(status: DaemonStatus) -> str:
    known = {"a batch of frames": status.absorb_ms_p50, "first token": status.first_token_ms_p50}
    return ", ".join(f"{name} {'-' if ms is None else f'{ms:.0f} ms'}" for name, ms in known.items())


def ago(seconds: float | None) -> str:
    """`3 s`, `4 min`, `5.2 h`, `6.1 d`; `-` when it is not known."""
    if seconds is None:
        return "-"
    for limit_s, unit_s, unit, digits in ((120, 1, "s", 0), (7200, 60, "min", 0), (172_800, 3600, "h", 1)):
        if seconds < limit_s:
            return f"{seconds / unit_s:.{digits}f} {unit}"
    return f"{seconds / 86_400:.1f} d"


def size(count: float) -> str:
    """Bytes for people."""
    for unit in _UNITS:
        if count < 1024 or unit == _UNITS[-1]:
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def run(settings: Settings, *, as_json: bool = False, console: Console | None = None) -> int:
    """Ask and print. Exit code: 0 all is well, else 1."""
    seen = fetch(settings)
    found, console = problems(seen), console or Console(soft_wrap=True)
    if as_json:
        document = {"ok": not found, "problems": found, **seen.model_dump(mode="json")}
        console.print(json.dumps(document, indent=1), markup=False, highlight=False, soft_wrap=True)
    else:
        console.print(show(seen), highlight=False)
    return 1 if found else 0
