"""`longwatch top`: the status once a second, in place. Ends with `q` or Ctrl-C; works in any terminal."""

from __future__ import annotations

import contextlib
import select
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from daemon.overview import Overview
from daemon.status import StatusError, fetch, show

if TYPE_CHECKING:
    from daemon.settings import Settings

Wait = Callable[[float], bool]  # seconds -> somebody pressed q


def run(settings: Settings, every_s: float = 1.0, console: Console | None = None, wait: Wait | None = None) -> int:
    """Show until `q`. A daemon that is gone is said in place, and shown again when it is back. Exit code 0."""
    console = console or Console()
    with keys() as pressed, Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
        seen: Overview | None = None
        while True:
            try:
                seen = fetch(settings)
                live.update(_screen(show(seen)), refresh=True)
            except StatusError as error:
                before = [show(seen)] if seen is not None else []
                live.update(_screen(Text(str(error), style="bold red"), *before), refresh=True)
            if (wait or pressed)(every_s):
                return 0


def _screen(*parts: RenderableType) -> Group:
    return Group(*parts, Text(f"{time.strftime('%H:%M:%S')}  q ends", style="dim"))


@contextlib.contextmanager
def keys() -> Iterator[Wait]:
    """Keys without Enter, where stdin is a terminal; else only time passes. The terminal is put back as it was."""
    if not sys.stdin.isatty():
        yield _only_wait
        return
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield _pressed
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _only_wait(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def _pressed(seconds: float) -> bool:
    """Until a key, at most so long. The end of stdin ends it too."""
    until_s = time.monotonic() + seconds
    while (left_s := until_s - time.monotonic()) > 0:
        if select.select([sys.stdin], [], [], left_s)[0] and sys.stdin.read(1) in ("q", "Q", ""):
            return True
    return False
